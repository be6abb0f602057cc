"""The registry of EMF settings: which values each type accepts, and which value is in force. Uses no database."""

from decimal import Decimal

import pytest

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting, ReversalState, check_value, in_words, known_key

SWITCH = emf.ALLOW_REVERSAL.name


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        (emf.ALLOW_REVERSAL, " Yes ", True),
        (emf.ALLOW_REVERSAL, "TRUE", True),
        (emf.ALLOW_REVERSAL, "on", True),
        (emf.ALLOW_REVERSAL, "1", True),
        (emf.ALLOW_REVERSAL, "0", False),
        (emf.ALLOW_REVERSAL, "false", False),
        (emf.ALLOW_REVERSAL, "Off", False),
        (emf.WINDOW_DAYS, "1", 1),
        (emf.WINDOW_DAYS, "0000000001", 1),
        (emf.WINDOW_DAYS, "36500", 36_500),
        (emf.LIMIT_COUNT, "0", 0),
        (emf.LIMIT_COUNT, "1000000000", 1_000_000_000),
        (emf.LIMIT_POINTS, "0.000", Decimal(0)),
        (emf.LIMIT_POINTS, "2.5", Decimal("2.5")),
        (emf.DUPLICATE_WINDOW_SECONDS, "0", 0),
        (emf.BLOCKED_STATUSES, "fraud, MERGED", frozenset({"FRAUD", "MERGED"})),
        (emf.ERROR_DIALECT, "engine", "engine"),
    ],
)
def test_a_stored_text_is_parsed_by_the_type_of_its_key(key: emf.EmfKey[object], text: str, value: object) -> None:
    assert EmfSettings({(None, key.name): text}).get(key) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (emf.ALLOW_REVERSAL, "maybe"),
        (emf.WINDOW_DAYS, "0"),
        (emf.WINDOW_DAYS, "36501"),
        (emf.WINDOW_DAYS, "00000000001"),
        (emf.WINDOW_DAYS, "1.5"),
        (emf.WINDOW_DAYS, "-1"),
        (emf.WINDOW_DAYS, "\u0663"),
        (emf.WINDOW_DAYS, "9" * 5_000),
        (emf.LIMIT_POINTS, "-1"),
        (emf.LIMIT_POINTS, "1.0001"),
        (emf.BLOCKED_STATUSES, "FRAUD,UNKNOWN"),
        (emf.BLOCKED_STATUSES, " , "),
        (emf.ERROR_DIALECT, "Engine"),
    ],
)
def test_an_invalid_value_is_refused_when_set_and_when_read(key: emf.EmfKey[object], text: str) -> None:
    with pytest.raises(InvalidSetting, match=key.name):
        check_value(key, text, for_program=False)
    with pytest.raises(InvalidSetting, match=key.name):
        EmfSettings({(None, key.name): text}).check()


def test_a_programs_value_overrides_the_orgs_which_overrides_the_default() -> None:
    settings = EmfSettings({(None, "Reversal_limit_days"): "10", (7, "Reversal_limit_days"): "20"})
    assert [settings.get(emf.LIMIT_DAYS, program) for program in (7, 8, None)] == [20, 10, 10]
    assert EmfSettings({}).get(emf.LIMIT_DAYS, 7) == 30


@pytest.mark.parametrize(
    ("stored", "allowed"),
    [
        ({}, False),
        ({(None, SWITCH): "yes"}, True),
        ({(7, SWITCH): "yes"}, True),
        ({(None, SWITCH): "no", (7, SWITCH): "no", (8, SWITCH): "yes"}, True),
        ({(None, SWITCH): "no", (7, SWITCH): "no"}, False),
        ({(None, SWITCH): "yes", (7, SWITCH): "no"}, True),
    ],
)
def test_reversals_are_allowed_if_the_switch_is_on_for_the_org_or_any_program(
    stored: dict[tuple[int | None, str], str], allowed: bool
) -> None:
    assert EmfSettings(stored).allows_reversal_somewhere() is allowed


def test_check_refuses_an_org_with_an_invalid_value_of_a_program() -> None:
    with pytest.raises(InvalidSetting, match="Reversal_window_days"):
        EmfSettings({(None, SWITCH): "yes", (7, "Reversal_window_days"): "soon"}).check()


def test_the_refusal_of_an_unknown_key_suggests_the_nearest_key() -> None:
    with pytest.raises(InvalidSetting, match="did you mean Reversal_paused"):
        known_key("reversal_pause")


def test_an_org_only_key_is_refused_for_a_program() -> None:
    with pytest.raises(InvalidSetting, match="for the org only"):
        check_value(emf.PAUSED, "yes", for_program=True)
    check_value(emf.PAUSED, "yes", for_program=False)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (emf.ALLOW_REVERSAL, "maybe", "expected yes or no"),
        (emf.LIMIT_COUNT, "-1", "expected a whole number from 0 to 1000000000"),
        (emf.LIMIT_POINTS, "-1", "expected points of 0 or more"),
        (emf.LIMIT_POINTS, "1.0001", "expected points of 0 or more, at most 3 decimals"),
        (
            emf.BLOCKED_STATUSES,
            "FRAUD,LOST",
            "expected ACTIVE, FRAUD, DEACTIVATED or MERGED, separated by commas; not LOST",
        ),
        (emf.BLOCKED_STATUSES, " , ", "expected at least one status"),
        (emf.ERROR_DIALECT, "Engine", "expected documented or engine"),
    ],
)
def test_the_refusal_of_a_value_states_what_was_expected(key: emf.EmfKey[object], text: str, expected: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        check_value(key, text, for_program=False)
    assert str(raised.value) == f"{key.name} cannot be {text!r}: {expected}"


def test_the_refusal_of_an_unknown_key_without_a_similar_one_mentions_the_list() -> None:
    with pytest.raises(InvalidSetting) as raised:
        known_key("colour")
    assert str(raised.value) == "colour is not an EMF setting; see the list of keys"


def test_check_names_the_first_invalid_value_in_the_registrys_order() -> None:
    broken = EmfSettings({(None, "Reversal_limit_days"): "soon", (None, "Reversal_window_days"): "soon"})
    with pytest.raises(InvalidSetting, match="of Reversal_window_days is not valid"):
        broken.check()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not set"),
        (True, "yes"),
        (False, "no"),
        (Decimal("2.500"), "2.5"),
        (frozenset({"MERGED", "FRAUD"}), "FRAUD,MERGED"),
        (30, "30"),
        ("engine", "engine"),
    ],
)
def test_in_words_writes_a_value_in_its_stored_form(value: object, words: str) -> None:
    assert in_words(value) == words


def test_with_text_returns_changed_settings_and_leaves_the_original_alone() -> None:
    before = EmfSettings({(None, SWITCH): "yes", (7, SWITCH): "no"})
    after = before.with_text(emf.ALLOW_REVERSAL, 7, "yes")
    assert [each.get(emf.ALLOW_REVERSAL, 7) for each in (before, after)] == [False, True]
    removed = after.with_text(emf.ALLOW_REVERSAL, None, "")
    assert [removed.text(emf.ALLOW_REVERSAL, program) for program in (None, 7)] == [None, "yes"]


@pytest.mark.parametrize(
    ("stored", "state"),
    [
        ({}, ReversalState.OFF),
        ({(None, SWITCH): "yes"}, ReversalState.ON),
        ({(None, SWITCH): "yes", (7, SWITCH): "no"}, ReversalState.PARTLY),
        ({(None, SWITCH): "yes", (None, "Reversal_paused"): "yes"}, ReversalState.PAUSED),
        ({(None, "Reversal_paused"): "yes", (7, SWITCH): "maybe"}, ReversalState.BROKEN),
    ],
)
def test_the_state_is_the_first_obstacle_to_reversals_or_where_they_are_on(
    stored: dict[tuple[int | None, str], str], state: ReversalState
) -> None:
    assert EmfSettings(stored).state() is state
