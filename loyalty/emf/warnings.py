"""Settings that work against each other, explained in sentences before a change of one of them is saved. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfKey, EmfSettings, InvalidSetting, in_words

SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Place:
    """The settings as they are for the org, or for one program of it."""

    settings: EmfSettings
    program_id: int | None
    name: str

    def get(self, key: EmfKey[emf.T]) -> emf.T:
        return self.settings.get(key, self.program_id)

    def sets(self, *keys: EmfKey[object]) -> bool:
        """Whether one of the keys has a value of its own here; a program else only repeats what the org says."""
        return any(self.settings.text(key, self.program_id) is not None for key in keys)


Rule = Callable[[Place], Iterator[str]]


def contradictions(
    settings: EmfSettings, programs: Mapping[int, str], *, key: EmfKey[object], program_id: int | None = None
) -> list[str]:
    """What works against `key` in these settings, in sentences; `programs` holds the names by row id.

    For the org and all programs with values of their own, or with `program_id` for that program alone.
    A value that cannot be read is left out: it is shown as broken where it stands.
    """
    places = [Place(settings, each, name) for each, name in programs.items() if program_id in (None, each)]
    if program_id is None:
        places.insert(0, Place(settings, None, "the org"))
    return [
        f"For {place.name}: {sentence}"
        for place in places
        for keys, rule in RULES
        if key in keys and (place.program_id is None or place.sets(*keys))
        for sentence in _of(rule, place)
    ]


def _of(rule: Rule, place: Place) -> list[str]:
    try:
        return list(rule(place))
    except InvalidSetting:
        return []


def _switched_on_while_paused(place: Place) -> Iterator[str]:
    if place.get(emf.ALLOW_REVERSAL) and place.get(emf.PAUSED):
        yield (
            f"{emf.PAUSED.name} is yes, so every reversal is answered 898 until it is no, although the switch is on."
        )


def _switch_of_program_differs(place: Place) -> Iterator[str]:
    if place.program_id is None:
        return
    own, of_org = place.get(emf.ALLOW_REVERSAL), place.settings.get(emf.ALLOW_REVERSAL)
    if own and not of_org:
        yield "the switch is on by a value of its own, so its redemptions can be reversed although the org says no."
    if of_org and not own:
        yield "the switch is off by a value of its own, so its redemptions stay irreversible although the org says yes."


def _limit_of_nothing(place: Place) -> Iterator[str]:
    for key in (emf.LIMIT_COUNT, emf.LIMIT_POINTS):
        if place.get(key) == 0:
            yield f"{key.name} is 0, so every reversal is refused with 903. Leave it empty for no limit."


def _period_without_limit(place: Place) -> Iterator[str]:
    has_limit = any(place.get(key) is not None for key in (emf.LIMIT_COUNT, emf.LIMIT_POINTS))
    if place.sets(emf.LIMIT_DAYS) and not has_limit:
        yield (
            f"{emf.LIMIT_DAYS.name} does nothing while neither {emf.LIMIT_COUNT.name} nor {emf.LIMIT_POINTS.name}"
            " is set."
        )


def _duplicates_longer_than_period(place: Place) -> Iterator[str]:
    seconds, days = place.get(emf.DUPLICATE_WINDOW_SECONDS), place.get(emf.LIMIT_DAYS)
    if seconds > days * SECONDS_OF_A_DAY:
        yield (
            f"{emf.DUPLICATE_WINDOW_SECONDS.name} is {seconds}, which is longer than the {days} days of"
            f" {emf.LIMIT_DAYS.name}: an equal partial reversal is refused for longer than the limits count it."
        )


def _everybody_blocked(place: Place) -> Iterator[str]:
    if "ACTIVE" in place.get(emf.BLOCKED_STATUSES):
        yield f"{emf.BLOCKED_STATUSES.name} names ACTIVE, so every customer is refused with 901."


def _approval_never_reached(place: Place) -> Iterator[str]:
    approval, limit = place.get(emf.APPROVAL_POINTS), place.get(emf.LIMIT_POINTS)
    if approval is not None and limit is not None and approval >= limit:
        yield (
            f"{emf.APPROVAL_POINTS.name} is {in_words(approval)} and {emf.LIMIT_POINTS.name} {in_words(limit)}:"
            " what would need a second person is refused with 903 before, so approval is never asked for."
        )


def _approval_after_the_window(place: Place) -> Iterator[str]:
    window, approval = place.get(emf.WINDOW_DAYS), place.get(emf.APPROVAL_DAYS)
    if window is not None and window < approval:
        yield (
            f"{emf.WINDOW_DAYS.name} is {window}, but a request for approval waits up to {approval} days"
            f" ({emf.APPROVAL_DAYS.name}): it may be approved too late and then be refused with 827."
        )


# Each rule with the keys that it is about: it is asked when one of them changes. Pausing is not warned of, because
# it is meant to stop reversals that are on.
RULES: tuple[tuple[tuple[EmfKey[object], ...], Rule], ...] = (
    ((emf.ALLOW_REVERSAL,), _switched_on_while_paused),
    ((emf.ALLOW_REVERSAL,), _switch_of_program_differs),
    ((emf.LIMIT_COUNT, emf.LIMIT_POINTS), _limit_of_nothing),
    ((emf.LIMIT_DAYS, emf.LIMIT_COUNT, emf.LIMIT_POINTS), _period_without_limit),
    ((emf.DUPLICATE_WINDOW_SECONDS, emf.LIMIT_DAYS), _duplicates_longer_than_period),
    ((emf.BLOCKED_STATUSES,), _everybody_blocked),
    ((emf.APPROVAL_POINTS, emf.LIMIT_POINTS), _approval_never_reached),
    ((emf.WINDOW_DAYS, emf.APPROVAL_DAYS), _approval_after_the_window),
)
