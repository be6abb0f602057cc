"""What is said of settings that work against each other, word by word and without a database."""

import pytest

from loyalty.emf.registry import REGISTRY, EmfSettings
from loyalty.emf.warnings import contradictions

SWITCH = "Allow_points_redemption_reversal"
LIMITS = ("Reversal_limit_count", "Reversal_limit_points")
PAUSED = (
    "For the org: Reversal_paused is yes, so every reversal is answered 898 until it is no, although the switch is on."
)
OWN_ON = (
    "For Gold: the switch is on by a value of its own, so its redemptions can be reversed although the org says no."
)
OWN_OFF = (
    "For Gold: the switch is off by a value of its own, so its redemptions stay irreversible although the org says yes."
)
NO_LIMIT = "Reversal_limit_days does nothing while neither Reversal_limit_count nor Reversal_limit_points is set."
LONGER = (
    "For the org: Reversal_duplicate_window_seconds is 86401, which is longer than the 1 days of"
    " Reversal_limit_days: an equal partial reversal is refused for longer than the limits count it."
)
BLOCKED = "For the org: Reversal_blocked_statuses names ACTIVE, so every customer is refused with 901."
NEVER = (
    "For the org: Reversal_approval_points is 5 and Reversal_limit_points 5:"
    " what would need a second person is refused with 903 before, so approval is never asked for."
)
TOO_LATE = (
    "For the org: Reversal_window_days is 6, but a request for approval waits up to 7 days"
    " (Reversal_approval_days): it may be approved too late and then be refused with 827."
)


def is_zero(key: str) -> str:
    return f"{key} is 0, so every reversal is refused with 903. Leave it empty for no limit."


@pytest.mark.parametrize(
    ("key", "of_org", "of_gold", "sentences"),
    [
        (SWITCH, {SWITCH: "yes", "Reversal_paused": "yes"}, {}, [PAUSED]),
        (SWITCH, {SWITCH: "no", "Reversal_paused": "yes"}, {}, []),
        (SWITCH, {SWITCH: "yes"}, {}, []),
        (SWITCH, {SWITCH: "no"}, {SWITCH: "yes"}, [OWN_ON]),
        (SWITCH, {SWITCH: "yes"}, {SWITCH: "no"}, [OWN_OFF]),
        (SWITCH, {SWITCH: "yes"}, {SWITCH: "yes"}, []),
        (SWITCH, {SWITCH: "no"}, {SWITCH: "no"}, []),
        *[(key, {key: "0"}, {}, [f"For the org: {is_zero(key)}"]) for key in LIMITS],
        *[(key, {}, {key: "0"}, [f"For Gold: {is_zero(key)}"]) for key in LIMITS],
        *[
            (key, {key: "0"}, {key: "0"}, [f"For the org: {is_zero(key)}", f"For Gold: {is_zero(key)}"])
            for key in LIMITS
        ],
        *[(key, {key: "1", "Reversal_limit_days": "9"}, {}, []) for key in LIMITS],
        ("Reversal_limit_days", {"Reversal_limit_days": "9"}, {}, [f"For the org: {NO_LIMIT}"]),
        ("Reversal_limit_days", {}, {"Reversal_limit_days": "9"}, [f"For Gold: {NO_LIMIT}"]),
        ("Reversal_limit_days", {"Reversal_limit_days": "9", "Reversal_limit_count": "0"}, {}, []),
        ("Reversal_limit_days", {"Reversal_limit_count": "1"}, {}, []),
        (
            "Reversal_duplicate_window_seconds",
            {"Reversal_duplicate_window_seconds": "86401", "Reversal_limit_days": "1"},
            {},
            [LONGER],
        ),
        (
            "Reversal_duplicate_window_seconds",
            {"Reversal_duplicate_window_seconds": "86400", "Reversal_limit_days": "1"},
            {},
            [],
        ),
        ("Reversal_blocked_statuses", {"Reversal_blocked_statuses": "ACTIVE,FRAUD"}, {}, [BLOCKED]),
        ("Reversal_blocked_statuses", {"Reversal_blocked_statuses": "FRAUD"}, {}, []),
        ("Reversal_approval_points", {"Reversal_approval_points": "5", "Reversal_limit_points": "5"}, {}, [NEVER]),
        ("Reversal_approval_points", {"Reversal_approval_points": "4", "Reversal_limit_points": "5"}, {}, []),
        ("Reversal_approval_points", {"Reversal_approval_points": "4"}, {}, []),
        ("Reversal_limit_points", {"Reversal_limit_points": "5"}, {}, []),
        ("Reversal_window_days", {"Reversal_window_days": "6"}, {}, [TOO_LATE]),
        ("Reversal_window_days", {"Reversal_window_days": "7"}, {}, []),
        ("Reversal_window_days", {"Reversal_window_days": "soon"}, {}, []),
        ("Reversal_approval_days", {"Reversal_window_days": "6"}, {}, [TOO_LATE]),
        ("Reversal_paused", {SWITCH: "yes", "Reversal_paused": "yes"}, {}, []),
    ],
)
def test_what_works_against_a_setting_is_said_whole(
    key: str, of_org: dict[str, str], of_gold: dict[str, str], sentences: list[str]
) -> None:
    stored = {(None, name): text for name, text in of_org.items()} | {(7, name): text for name, text in of_gold.items()}
    assert contradictions(EmfSettings(stored), {7: "Gold", 8: "Blue"}, key=REGISTRY[key]) == sentences


def test_of_a_change_for_one_program_the_org_is_not_spoken() -> None:
    settings = EmfSettings({(None, SWITCH): "no", (7, SWITCH): "yes", (8, SWITCH): "yes"})
    names = {7: "Gold", 8: "Blue"}
    assert contradictions(settings, names, key=REGISTRY[SWITCH], program_id=7) == [OWN_ON]
    assert contradictions(settings, names, key=REGISTRY[SWITCH]) == [OWN_ON, OWN_ON.replace("Gold", "Blue")]
