"""The registry of EMF settings, without a database: what each kind of value may be, and which one is in force."""

from decimal import Decimal

import pytest

from loyalty import emf
from loyalty.emf import EmfSettings, InvalidSetting, check_value, known_key

SWITCH = emf.ALLOW_REVERSAL.name


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        (emf.ALLOW_REVERSAL, " Yes ", True),
        (emf.ALLOW_REVERSAL, "TRUE", True),
        (emf.ALLOW_REVERSAL, "on", True),
        (emf.ALLOW_REVERSAL, "1", True),
        (emf.ALLOW_REVERSAL, "0", False),
        (emf.WINDOW_DAYS, "1", 1),
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
def test_a_value_is_read_by_its_kind(key: emf.EmfKey[object], text: str, value: object) -> None:
    assert EmfSettings({(None, key.name): text}).get(key) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (emf.ALLOW_REVERSAL, "maybe"),
        (emf.WINDOW_DAYS, "0"),
        (emf.WINDOW_DAYS, "36501"),
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
def test_a_value_of_another_kind_is_refused_when_set_and_when_read(key: emf.EmfKey[object], text: str) -> None:
    with pytest.raises(InvalidSetting, match=key.name):
        check_value(key, text, for_program=False)
    with pytest.raises(InvalidSetting, match=key.name):
        EmfSettings({(None, key.name): text}).check()


def test_a_programs_value_wins_over_its_orgs_and_that_over_the_default() -> None:
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
def test_reversals_are_off_only_where_the_switch_is_off_everywhere(
    stored: dict[tuple[int | None, str], str], allowed: bool
) -> None:
    assert EmfSettings(stored).allows_reversal_somewhere() is allowed


def test_an_unreadable_value_of_a_program_counts_against_the_org() -> None:
    with pytest.raises(InvalidSetting, match="Reversal_window_days"):
        EmfSettings({(None, SWITCH): "yes", (7, "Reversal_window_days"): "soon"}).check()


def test_a_key_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(InvalidSetting, match="did you mean Reversal_paused"):
        known_key("reversal_pause")


def test_an_org_only_key_is_refused_for_a_program() -> None:
    with pytest.raises(InvalidSetting, match="for the org only"):
        check_value(emf.PAUSED, "yes", for_program=True)
    check_value(emf.PAUSED, "yes", for_program=False)
