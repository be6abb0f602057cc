"""Warnings about EMF settings that contradict each other, shown before a change is saved. Uses no database."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfKey, EmfSettings, InvalidSetting, in_words

SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """The settings in force for the org, or for one of its programs."""

    settings: EmfSettings
    program_id: int | None
    name: str

    def get(self, key: EmfKey[emf.T]) -> emf.T:
        return self.settings.get(key, self.program_id)

    def sets(self, *keys: EmfKey[object]) -> bool:
        """Returns whether one of the keys is set here. Otherwise a program only inherits the org's value."""
        return any(self.settings.text(key, self.program_id) is not None for key in keys)


Rule = Callable[[Place], Iterator[str]]


def contradictions(
    settings: EmfSettings, programs: Mapping[int, str], *, key: EmfKey[object], program_id: int | None = None
) -> list[str]:
    """Returns a sentence for each contradiction between `key` and other settings. `programs` maps row ids to names.

    Checks the org and all programs that have their own values; with `program_id`, only that program.
    Skips values that cannot be read, because the settings page already shows them as broken.
    """
    places = [Place(settings, each, name) for each, name in programs.items() if program_id in (None, each)]
    if program_id is None:
        places.insert(0, Place(settings, None, "the org"))
    return [
        f"For {place.name}: {sentence}"
        for place in places
        for keys, rule in RULES
        if key in keys and (place.program_id is None or place.sets(*keys))
        for sentence in _sentences_of(rule, place)
    ]


def _sentences_of(rule: Rule, place: Place) -> list[str]:
    try:
        return list(rule(place))
    except InvalidSetting:
        return []


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _switched_on_while_paused(place: Place) -> Iterator[str]:
    if place.get(emf.ALLOW_REVERSAL) and place.get(emf.PAUSED):
        yield f"the switch is on, but every reversal is refused with code 898 until {emf.PAUSED.name} is set to no."


def _switch_of_program_differs(place: Place) -> Iterator[str]:
    if place.program_id is None:
        return
    own, of_org = place.get(emf.ALLOW_REVERSAL), place.settings.get(emf.ALLOW_REVERSAL)
    if own and not of_org:
        yield "the program's own setting allows reversals of its redemptions, although the org's setting is no."
    if of_org and not own:
        yield "the program's own setting forbids reversals of its redemptions, although the org's setting is yes."


def _limit_of_nothing(place: Place) -> Iterator[str]:
    for key in (emf.LIMIT_COUNT, emf.LIMIT_POINTS):
        if place.get(key) == 0:
            yield f"{key.name} is 0, so every reversal is refused with code 903. Leave it empty for no limit."


def _period_without_limit(place: Place) -> Iterator[str]:
    has_limit = any(place.get(key) is not None for key in (emf.LIMIT_COUNT, emf.LIMIT_POINTS))
    if place.sets(emf.LIMIT_DAYS) and not has_limit:
        yield (
            f"{emf.LIMIT_DAYS.name} has no effect, because neither {emf.LIMIT_COUNT.name} nor {emf.LIMIT_POINTS.name}"
            " is set."
        )


def _duplicates_longer_than_period(place: Place) -> Iterator[str]:
    seconds, days = place.get(emf.DUPLICATE_WINDOW_SECONDS), place.get(emf.LIMIT_DAYS)
    if seconds > days * SECONDS_OF_A_DAY:
        yield (
            f"{emf.DUPLICATE_WINDOW_SECONDS.name} is {seconds} seconds, which is longer than {emf.LIMIT_DAYS.name}"
            f" ({_days(days)}). An equal partial reversal is refused as a duplicate even after the limits no longer"
            " count the first one."
        )


def _everybody_blocked(place: Place) -> Iterator[str]:
    if "ACTIVE" in place.get(emf.BLOCKED_STATUSES):
        yield f"{emf.BLOCKED_STATUSES.name} includes ACTIVE, so active customers are refused with code 901."


def _approval_never_reached(place: Place) -> Iterator[str]:
    approval, limit = place.get(emf.APPROVAL_POINTS), place.get(emf.LIMIT_POINTS)
    if approval is not None and limit is not None and approval >= limit:
        yield (
            f"{emf.APPROVAL_POINTS.name} is {in_words(approval)} and {emf.LIMIT_POINTS.name} is {in_words(limit)}."
            " A reversal large enough to need approval is refused with code 903 first, so approval is never requested."
        )


def _approval_limit_above_that_of_a_day(place: Place) -> Iterator[str]:
    once, day = place.get(emf.APPROVAL_POINTS), place.get(emf.APPROVAL_POINTS_PER_DAY)
    if once is not None and day is not None and once > day:
        yield (
            f"{emf.APPROVAL_POINTS.name} is {in_words(once)} and {emf.APPROVAL_POINTS_PER_DAY.name} is {in_words(day)}."
            " The limit of a day is always reached first, so the other one has no effect."
        )


def _approval_after_the_window(place: Place) -> Iterator[str]:
    window, approval = place.get(emf.WINDOW_DAYS), place.get(emf.APPROVAL_DAYS)
    if window is not None and window < approval:
        yield (
            f"{emf.WINDOW_DAYS.name} is {window}, but an approval request can wait {_days(approval)}"
            f" ({emf.APPROVAL_DAYS.name}). A reversal that is approved too late is refused with code 827."
        )


# The keys of each rule, and the rule: it runs when one of its keys changes. Setting Reversal_paused causes no warning,
# because its purpose is to stop reversals that are on.
RULES: tuple[tuple[tuple[EmfKey[object], ...], Rule], ...] = (
    ((emf.ALLOW_REVERSAL,), _switched_on_while_paused),
    ((emf.ALLOW_REVERSAL,), _switch_of_program_differs),
    ((emf.LIMIT_COUNT, emf.LIMIT_POINTS), _limit_of_nothing),
    ((emf.LIMIT_DAYS, emf.LIMIT_COUNT, emf.LIMIT_POINTS), _period_without_limit),
    ((emf.DUPLICATE_WINDOW_SECONDS, emf.LIMIT_DAYS), _duplicates_longer_than_period),
    ((emf.BLOCKED_STATUSES,), _everybody_blocked),
    ((emf.APPROVAL_POINTS, emf.LIMIT_POINTS), _approval_never_reached),
    ((emf.APPROVAL_POINTS, emf.APPROVAL_POINTS_PER_DAY), _approval_limit_above_that_of_a_day),
    ((emf.WINDOW_DAYS, emf.APPROVAL_DAYS), _approval_after_the_window),
)
