"""The judgement on a run of mutants."""

from tests.mutation import faults, listed


def test_a_survivor_is_listed_with_a_reason_or_not_at_all() -> None:
    text = "| mutant | reason |\n|---|---|\n| `a.x_b__mutmut_1` | equal |\n| `a.x_b__mutmut_2` | |\n"
    assert listed(text) == {"a.x_b__mutmut_1"}


def test_too_few_killed_and_a_survivor_off_the_list_are_faults() -> None:
    assert faults({"a"}, {"a"}, 90.0) == []
    assert faults(set(), set(), 89.9) == ["Fewer than 90 % were killed."]
    assert faults({"a"}, {"b"}, 95.0) == [
        "a survives and is not on the list.",
        "b is on the list and does not survive.",
    ]
