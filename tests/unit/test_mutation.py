"""The evaluation of a mutation test run."""

from tests.mutation import by_file, faults, listed


def test_a_survivor_without_a_reason_is_not_listed() -> None:
    text = "| mutant | reason |\n|---|---|\n| `a.x_b__mutmut_1` | equal |\n| `a.x_b__mutmut_2` | |\n"
    assert listed(text) == {"a.x_b__mutmut_1"}


def test_killed_and_all_mutants_are_counted_by_file() -> None:
    outcomes = {"a.b.x_c__mutmut_1": "killed", "a.b.xǁCǁd__mutmut_1": "no tests", "a.c.x_c__mutmut_1": "timeout"}
    assert by_file(outcomes) == {"a/b.py": (1, 2), "a/c.py": (1, 1)}


def test_too_few_killed_mutants_and_a_wrong_list_of_survivors_are_faults() -> None:
    tenth = {f"a.x_b__mutmut_{number}": "killed" for number in range(1, 10)} | {"a.x_b__mutmut_10": "survived"}
    assert faults(tenth, {"a.x_b__mutmut_10"}) == []
    assert faults({"b.x_b__mutmut_1": "no tests"} | tenth, {"a.x_b__mutmut_9"}) == [
        "Fewer than 90 % of the mutants of b.py were killed.",
        "a.x_b__mutmut_10 survives and is not on the list.",
        "b.x_b__mutmut_1 survives and is not on the list.",
        "a.x_b__mutmut_9 is on the list and does not survive.",
    ]
