"""The base class of management commands: `--json` prints one JSON object, and errors are printed on stderr."""

import getpass
import json
import os
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, Error

from loyalty import maintenance


class LoyaltyCommand(BaseCommand):
    """A command whose `run` returns its result, which is printed as text, or with --json as one JSON object.

    A command that `may_write` is refused in maintenance, unless its user adds --in-maintenance.

    If `run` raises a ValueError, ValidationError or DatabaseError, prints the message on stderr and exits with code 1.
    """

    requires_system_checks = ()
    may_write = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
        if self.may_write:
            parser.add_argument("--in-maintenance", action="store_true", help="run although maintenance is on")
        self.add_own_arguments(parser)

    def add_own_arguments(self, parser: CommandParser) -> None:
        raise NotImplementedError

    def run(self, **options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def as_text(self, result: dict[str, Any]) -> str:
        """Formats the result as text."""
        return "\n".join(f"{name}: {value}" for name, value in result.items())

    def report(self, result: dict[str, Any]) -> None:
        """Runs after the result was printed; a subclass can write to stderr and set the exit code here."""

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            result = self._run(**options)
        except ValidationError as error:
            raise CommandError("; ".join(_problems(error))) from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"the database failed ({error}); check that it is reachable and migrated") from error
        self.stdout.write(json.dumps(result) if options["json"] else self.as_text(result))
        self.report(result)

    def _run(self, **options: Any) -> dict[str, Any]:
        if not self.may_write or options.pop("in_maintenance", False):
            return self.run(**options)
        with maintenance.refusing_writes():
            if _is_in_maintenance():
                raise maintenance.UnderMaintenance
            return self.run(**options)


def operator() -> str:
    """Returns the name of the operating system's user who runs the command, for records of changes."""
    try:
        return f"{getpass.getuser()} (command)"
    except (KeyError, OSError):  # in a container the user may have no name
        return f"user {os.getuid()} (command)"


def _is_in_maintenance() -> bool:
    """Whether maintenance is on. False in an outage: the command itself says what failed, or needs no database."""
    try:
        return maintenance.is_on()
    except Error:
        return False


def _problems(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return error.messages
    return [
        message if field == NON_FIELD_ERRORS else f"{field}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    ]
