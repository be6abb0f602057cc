"""Statuses as staff see them in lists, on pages and in exports: a word, and the colour of its label."""

from dataclasses import dataclass
from datetime import datetime

from django.template.loader import render_to_string

from loyalty.emf.registry import ReversalState
from loyalty.models import Lot


@dataclass(frozen=True, slots=True)
class Status:
    """A status. `tone` is a colour of django-unfold's label: success, info, warning, danger, or empty for grey."""

    text: str
    tone: str = ""

    def __str__(self) -> str:
        return self.text


AVAILABLE = Status("available", "success")
SPENT = Status("spent")
EXPIRED = Status("expired", "warning")

_OF_ORG = {
    ReversalState.ON: "success",
    ReversalState.PARTLY: "info",
    ReversalState.OFF: "",
    ReversalState.PAUSED: "warning",
    ReversalState.BROKEN: "danger",
}


def badge(status: Status) -> str:
    """Returns the status as a label in HTML."""
    return render_to_string("unfold/helpers/label.html", {"text": status.text, "type": status.tone})


def status_of_org(state: ReversalState) -> Status:
    """Returns whether the org's redemptions can be reversed now."""
    return Status(state.value, _OF_ORG[state])


def status_of_lot(lot: Lot, now: datetime) -> Status:
    """Returns whether points of the lot can be spent at `now`. A lot without points is spent, even if it expired."""
    if not lot.points_remaining:
        return SPENT
    return EXPIRED if lot.expires_at is not None and lot.expires_at <= now else AVAILABLE
