"""Compares the reasons of a bulk file with the org's reason codes."""

from collections.abc import Sequence
from dataclasses import replace

from loyalty.models import Org, ReasonCode
from loyalty.orgs import reason_codes
from reversals.manual.bulk.uploads import FileRow


def check_reasons(org: Org, rows: Sequence[FileRow]) -> list[FileRow]:
    """Returns the rows. One whose reason is not one of the org's codes has a problem.

    A note can follow the code after a colon. An org without codes accepts any text.
    """
    codes = codes_of(org)
    return [row if row.problem else _checked(row, codes) for row in rows]


def codes_of(org: Org) -> list[str]:
    """Returns the codes that a reason of a reversal can have; none if it can be any text."""
    return [code.code for code in reason_codes(org.id, ReasonCode.Operation.REVERSE)]


def read_reason(reason: str, codes: Sequence[str]) -> str:
    """Returns the reason with its code as the org writes it. Raises ValueError with what was expected."""
    if not codes:
        return reason
    code, _, note = (part.strip() for part in reason.partition(":"))
    code = code.upper()
    if code not in codes:
        raise ValueError(f"expected a reason code of the org ({', '.join(codes)}), alone or with a note after a colon")
    if code == ReasonCode.OTHER and not note:
        raise ValueError(f"expected a note after the code, such as {code}: what happened")
    return f"{code}: {note}" if note else code


def _checked(row: FileRow, codes: Sequence[str]) -> FileRow:
    try:
        return replace(row, reason=read_reason(row.reason, codes))
    except ValueError as error:
        return replace(row, problem=f"reason: {error}")
