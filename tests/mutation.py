"""Changes the code in over a thousand small ways, one at a time, and checks that tests fail (`make mutation`)."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

LIST = Path("docs/mutation.md")
FOLDER = Path("var/mutation")
PARTS = ("pure", "database")
COPIED = ("config", "loyalty", "reversals", "templates", "tests", "manage.py")
LOWEST_PERCENT_KILLED = 90
KILLED = {"killed", "timeout"}


def main() -> None:
    """Runs all mutants. Exits with the faults: too few killed mutants in a file, or survivors that are not listed."""
    os.environ |= {"SECRET_KEY": "mutation", "DATABASE_URL": "sqlite://:memory:"}
    outcomes = {name: outcome for part in PARTS for name, outcome in outcomes_of(part).items()}
    print("\n".join(f"{killed}/{total} killed in {file}" for file, (killed, total) in by_file(outcomes).items()))
    sys.exit("\n".join(faults(outcomes, listed(LIST.read_text()))) or None)


def outcomes_of(part: str) -> dict[str, str]:
    """Runs the mutants of one part in a separate folder, and returns the outcome of each by its name."""
    folder = FOLDER / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        (folder / name).symlink_to(Path(name).resolve())
    settings = Path("pyproject.toml").read_text().replace(f"[tool.mutation.{part}]", "[tool.mutmut]")
    (folder / "pyproject.toml").write_text(settings)
    environment = os.environ | {"TEST_DATABASE_MADE": str(create_database(folder))}
    mutmut = (sys.executable, "-m", "mutmut")
    subprocess.run([*mutmut, "run", "--max-children", "1"], check=True, cwd=folder, env=environment)
    listing = [*mutmut, "results", "--all", "true"]
    done = subprocess.run(listing, check=True, capture_output=True, text=True, cwd=folder)
    return dict(re.findall(r"^\s*(\S+__mutmut_\d+): (.+)$", done.stdout, re.MULTILINE))


def create_database(folder: Path) -> Path:
    """Creates a migrated database, which every run of the tests copies, and returns its path."""
    made = folder.resolve() / "made.sqlite3"
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{made}"}
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], check=True, env=environment)
    return made


def listed(text: str) -> set[str]:
    """The names of the survivors in the list that have a reason."""
    return set(re.findall(r"^\| `(\S+__mutmut_\d+)` \| [^|\s]", text, re.MULTILINE))


def by_file(outcomes: dict[str, str]) -> dict[str, tuple[int, int]]:
    """The number of killed mutants and the number of all mutants of each file."""
    killed: dict[str, list[bool]] = defaultdict(list)
    for name, outcome in sorted(outcomes.items()):
        module, _, _ = name.rpartition(".")
        killed[module.replace(".", "/") + ".py"].append(outcome in KILLED)
    return {file: (sum(each), len(each)) for file, each in killed.items()}


def faults(outcomes: dict[str, str], known: set[str]) -> list[str]:
    """The faults of a run, each as a sentence."""
    too_few = [
        f"Fewer than {LOWEST_PERCENT_KILLED} % of the mutants of {file} were killed."
        for file, (killed, total) in by_file(outcomes).items()
        if 100 * killed < LOWEST_PERCENT_KILLED * total
    ]
    survivors = {name for name, outcome in outcomes.items() if outcome not in KILLED}
    unknown = [f"{name} survives and is not on the list." for name in sorted(survivors - known)]
    dead = [f"{name} is on the list and does not survive." for name in sorted(known - survivors)]
    return too_few + unknown + dead


if __name__ == "__main__":
    main()
