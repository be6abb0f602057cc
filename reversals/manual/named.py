"""A movement that a command makes in the name of a user: the user must have the right, and the caller is recorded."""

import json
from dataclasses import dataclass, replace
from typing import TypeVar

from django.contrib.auth.models import User
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.fields import new_row_id
from loyalty.ledger.sql import insert_into
from loyalty.models import Org, StaffChange
from loyalty.staff.access import may_work_on
from reversals.models import Reversal
from reversals.movements.engine import Decision, Moment, Wrapped

Accepted = TypeVar("Accepted", covariant=True)

RIGHT = "reversals.add_reversal"
NAMED = "user named by command"


def check_may_reverse(username: str, org: Org) -> None:
    """Raises InvalidOperation unless the username is of an active user who may reverse points of the org."""
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise InvalidOperation(f"--by: there is no active user {username}")
    if not user.has_perm(RIGHT) or not may_work_on(user, org.id):
        raise InvalidOperation(
            f"--by: {username} may not reverse points of org {org.id}; a superuser gives role and org"
        )


@dataclass(frozen=True, slots=True)
class NamedBy(Wrapped[Accepted]):
    """A reversal in the name of a user. Who called the command is recorded in the same transaction."""

    username: str
    caller: str

    def decide(self, moment: Moment) -> Decision[Accepted]:
        decision = self.movement.decide(moment)
        record = {
            "id": new_row_id(),
            "org_id": moment.attempt.org_id,
            "subject": Reversal._meta.label_lower,
            "subject_id": str(decision.reversal_id),
            "subject_name": f"reversal by {self.username}",
            "action": NAMED,
            "before": "{}",
            "after": json.dumps({"made by": self.username}),
            "reason": "",
            "made_by": self.caller,
            "made_at": timezone.now(),
            "request_id": "",
        }
        return replace(decision, statements=(*decision.statements, insert_into("loyalty_staffchange", record)))


def caller_of(reversal: Reversal) -> str | None:
    """Returns who called the command that named the reversal's user."""
    named = StaffChange.objects.filter(subject=Reversal._meta.label_lower, subject_id=str(reversal.pk), action=NAMED)
    return named.values_list("made_by", flat=True).first()
