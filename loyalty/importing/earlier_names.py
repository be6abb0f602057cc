"""Finds ids and references that were stored before the canonical form: sealed rows, which keep their spelling."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Model, Q

from loyalty.ledger.canonical import canonical
from loyalty.models import Lot, Redemption

# Names with blanks at either end, or with characters that are not visible ASCII.
_MAY_DIFFER = r"^\s|\s$|[^ -~]"

# The model of each file's rows, and the model's columns by the file's columns, the row's id first.
_NAMES: dict[str, tuple[type[Model], dict[str, str]]] = {
    "points": (Lot, {"lot_ref": "lot_ref"}),
    "redemptions": (
        Redemption,
        {
            "redemption_id": "public_id",
            "transaction_number": "transaction_number",
            "external_reference_number": "external_reference_number",
        },
    ),
}


class EarlierNames:
    """The names of stored rows that are not canonical. So a file that is imported again finds its rows."""

    def __init__(self) -> None:
        self._by_file: dict[tuple[str, int], dict[str, dict[str, str | None]]] = {}

    def as_stored(self, file: str, values: Mapping[str, Any]) -> dict[str, str | None]:
        """Returns the stored spelling of the row's names, as far as it differs from that of `values`."""
        if file not in _NAMES:
            return {}
        org_id = values["org_id"]
        if (file, org_id) not in self._by_file:
            self._by_file[file, org_id] = _names_of(file, org_id)
        stored = self._by_file[file, org_id].get(values[next(iter(_NAMES[file][1]))], {})
        return {column: name for column, name in stored.items() if name and canonical(name) == values[column]}


def _names_of(file: str, org_id: int) -> dict[str, dict[str, str | None]]:
    model, columns = _NAMES[file]
    may_differ = Q()
    for column in columns.values():
        may_differ |= Q(**{f"{column}__regex": _MAY_DIFFER})
    rows = model._default_manager.filter(may_differ, org_id=org_id).values_list(*columns.values())
    return {canonical(row[0]): dict(zip(columns, row, strict=True)) for row in rows}
