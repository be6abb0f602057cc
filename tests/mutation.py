"""Changes the code in a thousand small ways, one at a time, and holds that the fast tests notice (`make mutation`)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path("docs/mutation.md")
LOWEST_PERCENT_KILLED = 90
KILLED = {"killed", "timeout"}


def main() -> None:
    """Runs all mutants. Ends with what is wrong: too few killed, or the survivors are not those of the list."""
    os.environ |= {"SECRET_KEY": "mutation", "DATABASE_URL": "sqlite://:memory:"}
    shutil.rmtree("mutants", ignore_errors=True)
    mutmut = (sys.executable, "-m", "mutmut")
    subprocess.run([*mutmut, "run", "--max-children", "1"], check=True)
    said = subprocess.run([*mutmut, "results", "--all", "true"], check=True, capture_output=True, text=True).stdout
    outcomes = dict(re.findall(r"^\s*(\S+__mutmut_\d+): (.+)$", said, re.MULTILINE))
    survivors = {name for name, outcome in outcomes.items() if outcome not in KILLED}
    percent = 100 * (len(outcomes) - len(survivors)) / max(len(outcomes), 1)
    print(f"{len(outcomes)} mutants, {len(survivors)} survive, {percent:.1f} % killed")
    sys.exit("\n".join(faults(survivors, listed(LIST.read_text()), percent)) or None)


def listed(text: str) -> set[str]:
    """The names that the list of survivors gives a reason for."""
    return set(re.findall(r"^\| `(\S+__mutmut_\d+)` \| [^|\s]", text, re.MULTILINE))


def faults(survivors: set[str], known: set[str], percent: float) -> list[str]:
    """What is wrong with a run, in sentences."""
    too_few = [f"Fewer than {LOWEST_PERCENT_KILLED} % were killed."] if percent < LOWEST_PERCENT_KILLED else []
    unknown = [f"{name} survives and is not on the list." for name in sorted(survivors - known)]
    dead = [f"{name} is on the list and does not survive." for name in sorted(known - survivors)]
    return too_few + unknown + dead


if __name__ == "__main__":
    main()
