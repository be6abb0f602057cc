"""Reads a ReversalRequest from a request body, and renders the outcome as JSON in the org's error dialect."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting
from loyalty.ledger.canonical import canonical
from loyalty.ledger.identifiers import TYPE_NAMES, Identifier, identifier_type, identify
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import DrawFacts, OrgFacts, RedemptionFacts
from reversals.api.fields import (
    by_member_and_expiry,
    failure_body,
    invalid,
    means_dry_run,
    read_amount,
    read_parameter,
    read_switch,
    read_text,
)
from reversals.api.strict_json import NumberLiteral
from reversals.json_values import number, time_or_none, written_json
from reversals.movements.engine import Reply
from reversals.movements.reverse.movement import Accepted
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import ZERO, PlannedLine
from reversals.refusals import ErrorCode, Refused

WARNING_EXPIRED = 1001
WARNING_REISSUED = 1002
WARNING_CANNOT_SPEND = 1003

EXPANDABLE = ("lines", "redemption")

# A reply is stored without the customer's identifier. When the reply is sent, the identifier of that request
# is inserted here.
_IDENTIFIER_SLOT = '"identifier":null'


@dataclass(frozen=True, slots=True)
class SentIdentifier:
    """The identifier as the client sent it, for the reply."""

    type: str
    value: str

    def into(self, body: str) -> str:
        """Returns the reply body with the identifier inserted, if the body has a place for it."""
        value = self.value if isinstance(self.value, NumberLiteral) else written_json(self.value)
        return body.replace(_IDENTIFIER_SLOT, f'"identifier":{{"type":{written_json(self.type)},"value":{value}}}', 1)


class ReversalReplies:
    """Reads one reversal request, and renders its reply in the org's error dialect."""

    def __init__(self, org: OrgFacts, settings: EmfSettings) -> None:
        self.org = org
        self.settings = settings
        self.expanded: frozenset[str] = frozenset()
        self.identifier: SentIdentifier | None = None

    def read_options(self, parameters: QueryDict) -> bool:
        """Reads the query parameters `expand` and `dryRun`; returns whether it is a dry run. Raises 887."""
        expand = read_parameter(parameters, "expand")
        self.expanded = frozenset() if expand is None else frozenset(expand.split(","))
        if not self.expanded <= set(EXPANDABLE):
            raise invalid("expand", f"{' or '.join(EXPANDABLE)}, or both separated by a comma")
        for name in parameters:
            if name != "dryRun" and means_dry_run(name):
                raise invalid(name, "the spelling dryRun")
        return read_switch(parameters, "dryRun")

    def read(self, members: Mapping[str, Any]) -> ReversalRequest:
        """Reads the reversal that the body requests. Raises 887, 878."""
        redemption_id = read_text(members, "redemptionId", longest=64)
        external_reference_number = read_text(members, "externalReferenceNumber", longest=128)
        if (redemption_id is None) == (external_reference_number is None):
            raise invalid("redemptionId, externalReferenceNumber", "exactly one of the two")
        identifier = self._read_identifier(members)
        program_id = read_text(members, "programId", longest=64)
        named = members["redemptionId"] if redemption_id is not None else members["externalReferenceNumber"]
        return ReversalRequest(
            redemption_id=redemption_id,
            external_reference_number=external_reference_number,
            identifier=identifier,
            points_asked=read_amount(members, "pointsToBeReversed"),
            program_id=program_id,
            named_as_sent=str(named),
        )

    def _read_identifier(self, members: Mapping[str, Any]) -> Identifier:
        sent = members.get("identifier")
        if not isinstance(sent, dict):
            raise invalid("identifier", "an object with type and value")
        kind, value = sent.get("type"), sent.get("value")
        if not isinstance(kind, str) or isinstance(kind, NumberLiteral):
            raise invalid("identifier.type", "a string")
        if not isinstance(value, str) or not canonical(value):
            raise invalid("identifier.value", "a non-empty string or a number")
        known_type = identifier_type(kind)
        if known_type is None:
            raise invalid("identifier.type", f"one of {TYPE_NAMES}")
        self.identifier = SentIdentifier(kind, value)
        return identify(known_type, str(value), country=self.org.country)

    def reply(self, outcome: Accepted | Refused) -> Reply:
        """Renders the outcome as the reply to store, without the identifier."""
        if isinstance(outcome, Accepted):
            return Reply(200, written_json(self._accepted(outcome)))
        return _refused_reply(outcome, engine=_speaks_engine(self.settings))

    def echoing(self, body: str) -> str:
        """Returns the reply to send: the stored reply with the identifier as this request sent it."""
        return body if self.identifier is None else self.identifier.into(body)

    def _accepted(self, accepted: Accepted) -> dict[str, object]:
        redemption, plan = accepted.facts.redemption, accepted.plan
        identity = {"reversalId": accepted.reversal_id} if accepted.reversal_id is not None else {"dryRun": True}
        body: dict[str, object] = {
            "orgId": self.org.id,
            "identifier": None,
            "customerId": redemption.customer.public_id,
            "redemptionId": redemption.public_id,
            **identity,
            "pointsToBeReversed": number(accepted.facts.request.points_asked or plan.points),
            "pointsReversed": number(plan.points),
            "pointsReversedDetails": {"available": number(plan.available), "expired": number(plan.expired)},
        }
        if redemption.is_cross_member:
            body["crossMemberReversalBreakup"] = _breakup(accepted)
        if "lines" in self.expanded:
            body["lines"] = [_line(line, redemption) for line in plan.lines]
        if "redemption" in self.expanded:
            body["redemption"] = _redemption_after(accepted)
        warnings = [{"status": True, "code": code, "message": message} for code, message in _warnings(accepted)]
        return body | {"warnings": warnings, "errors": []}


def _line(line: PlannedLine, redemption: RedemptionFacts) -> dict[str, object]:
    draw = line.draw
    return {
        "position": draw.position,
        "lotRef": draw.lot_ref,
        "memberId": redemption.public_id_of(line.owner_id(redemption)),
        "expiresAt": time_or_none(draw.lot_expires_at),
        "points": number(line.points),
        "available": number(line.available),
        "expired": number(line.expired),
        "reissued": number(line.reissued),
    }


def _redemption_after(accepted: Accepted) -> dict[str, object]:
    redemption, plan = accepted.facts.redemption, accepted.plan
    return {
        "points": number(redemption.points),
        "pointsReversed": number(redemption.points_reversed + plan.points),
        "pointsLeft": number(redemption.points_left - plan.points),
    }


def _breakup(accepted: Accepted) -> list[dict[str, object]]:
    """Sums the points reversed by member and expiry, in that order."""
    redemption = accepted.facts.redemption
    returned = {line.draw.id: line for line in accepted.plan.lines}
    parts: dict[tuple[int, str | None], list[DrawFacts]] = {}
    for draw in redemption.draws:
        member = redemption.public_id_of(draw.lot_customer_id or redemption.customer.id)
        parts.setdefault((member, time_or_none(draw.lot_expires_at)), []).append(draw)
    rows: list[dict[str, object]] = []
    for (member, expiry), draws in sorted(parts.items(), key=lambda part: by_member_and_expiry(*part[0])):
        lines = [returned[draw.id] for draw in draws if draw.id in returned]
        if not lines:
            continue
        points = sum((line.points for line in lines), ZERO)
        rows.append(
            {
                "memberId": member,
                "pointsRestored": number(points),
                "pointsExpiredByReversal": number(sum((line.expired for line in lines), ZERO)),
                "expiryBatchDate": expiry,
                "status": "REVERSED"
                if points == sum((draw.points_left for draw in draws), ZERO)
                else "PARTIALLY_REVERSED",
            }
        )
    return rows


def _speaks_engine(settings: EmfSettings) -> bool:
    try:
        return settings.get(emf.ERROR_DIALECT) == "engine"
    except InvalidSetting:
        return False


def _refused_reply(refusal: Refused, *, engine: bool) -> Reply:
    error = refusal.error
    answer = error.engine_answer if engine and isinstance(error, ErrorCode) else None
    if answer is None:
        return Reply(error.status, failure_body(error.code, error.message, refusal.reason))
    return Reply(200, failure_body(*answer, refusal.reason))


def _warnings(accepted: Accepted) -> list[tuple[int, str]]:
    plan = accepted.plan
    warnings = []
    if plan.expired:
        again = f" {written(plan.expired_again)} of them had been re-issued before; points are re-issued once."
        warnings.append(
            (
                WARNING_EXPIRED,
                f"{written(plan.expired)} of the {written(plan.points)} points were reversed to lots that have expired"
                f" and cannot be spent again.{again if plan.expired_again else ''}",
            )
        )
    if plan.reissued and plan.reissue_expires_at is not None:
        warnings.append(
            (
                WARNING_REISSUED,
                f"{written(plan.reissued)} points that had expired, or came from no lot, were re-issued"
                f" and expire on {plan.reissue_expires_at:%Y-%m-%dT%H:%M:%SZ}.",
            )
        )
    return [*warnings, *((WARNING_CANNOT_SPEND, message) for message in _of_members_who_cannot_spend(accepted))]


def _of_members_who_cannot_spend(accepted: Accepted) -> Iterator[str]:
    redemption = accepted.facts.redemption
    for owner_id, points in accepted.plan.points_by_owner(redemption, available=True).items():
        owner = redemption.member(owner_id)
        if points and owner.status != "ACTIVE":
            yield (
                f"{written(points)} of the available points belong to customer {owner.public_id}, who cannot spend them"
                f" because their status is {owner.status}."
            )
