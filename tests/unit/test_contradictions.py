"""The exact warnings about EMF settings that contradict each other, without a database."""

import pytest

from loyalty.emf.registry import REGISTRY, EmfSettings
from loyalty.emf.warnings import contradictions

SWITCH = "Allow_points_redemption_reversal"
LIMITS = ("Reversal_limit_count", "Reversal_limit_points")
PAUSED = (
    "For the org: the switch is on, but every reversal is refused with code 898 until Reversal_paused is set to no."
)
OWN_ON = "For Gold: the program's own setting allows reversals of its redemptions, although the org's setting is no."
OWN_OFF = "For Gold: the program's own setting forbids reversals of its redemptions, although the org's setting is yes."
NO_LIMIT = "Reversal_limit_days has no effect, because neither Reversal_limit_count nor Reversal_limit_points is set."
LONGER = (
    "For the org: Reversal_duplicate_window_seconds is 86401 seconds, which is longer than Reversal_limit_days (1 day)."
    " An equal partial reversal is refused as a duplicate even after the limits no longer count the first one."
)
BLOCKED = "For the org: Reversal_blocked_statuses includes ACTIVE, so active customers are refused with code 901."
NEVER = (
    "For the org: Reversal_approval_points is 5 and Reversal_limit_points is 5."
    " A reversal large enough to need approval is refused with code 903 first, so approval is never requested."
)
TOO_LATE = (
    "For the org: Reversal_window_days is 6, but an approval request can wait 7 days"
    " (Reversal_approval_days). A reversal that is approved too late is refused with code 827."
)


def is_zero(key: str) -> str:
    return f"{key} is 0, so every reversal is refused with code 903. Leave it empty for no limit."


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
def test_each_contradiction_of_a_changed_setting_gives_its_warning(
    key: str, of_org: dict[str, str], of_gold: dict[str, str], sentences: list[str]
) -> None:
    stored = {(None, name): text for name, text in of_org.items()} | {(7, name): text for name, text in of_gold.items()}
    assert contradictions(EmfSettings(stored), {7: "Gold", 8: "Blue"}, key=REGISTRY[key]) == sentences


def test_a_change_for_one_program_warns_about_that_program_only() -> None:
    settings = EmfSettings({(None, SWITCH): "no", (7, SWITCH): "yes", (8, SWITCH): "yes"})
    names = {7: "Gold", 8: "Blue"}
    assert contradictions(settings, names, key=REGISTRY[SWITCH], program_id=7) == [OWN_ON]
    assert contradictions(settings, names, key=REGISTRY[SWITCH]) == [OWN_ON, OWN_ON.replace("Gold", "Blue")]
