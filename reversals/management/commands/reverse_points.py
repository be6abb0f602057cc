from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from loyalty.emf.stored import settings_of
from loyalty.ledger.canonical import canonical
from loyalty.ledger.points import InvalidPoints, read_points, written
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org
from reversals.manual.named import NamedBy, check_may_reverse
from reversals.models import Channel
from reversals.movements import engine
from reversals.movements.attempts import new_attempt
from reversals.movements.reverse.movement import Reverse
from reversals.movements.reverse.requests import ReversalRequest


class Command(LoyaltyCommand):
    help = "Reverses points of a redemption manually: all remaining points, or the number given with --points."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID", help="id of the org")
        parser.add_argument("redemption_id", metavar="REDEMPTION_ID", help="id of the redemption")
        parser.add_argument("--points", metavar="P", help="points to reverse; all remaining points by default")
        parser.add_argument("--reason", required=True, metavar="R", help="why the points are reversed")
        parser.add_argument(
            "--by",
            required=True,
            metavar="USERNAME",
            help="username of the active user with the right to reverse who decided on the reversal",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        attempt = new_attempt(org.id, channel=Channel.COMMAND, made_by=options["by"], reason=options["reason"])
        attempt.clean_fields(exclude=["org"])
        for name, argument in (("reason", "--reason"), ("by", "--by")):
            if not options[name].strip():
                raise ValueError(f"{argument} is blank; expected text")
        redemption_id = canonical(options["redemption_id"])
        if not redemption_id:
            raise ValueError("REDEMPTION_ID is blank; expected text")
        if len(redemption_id) > 64:
            raise ValueError("REDEMPTION_ID is too long; expected at most 64 characters")
        request = ReversalRequest(
            redemption_id=redemption_id,
            external_reference_number=None,
            identifier=None,
            points_asked=_points(options["points"]),
            named_as_sent=options["redemption_id"],
        )
        check_may_reverse(options["by"], org)
        movement = NamedBy(Reverse(request, settings_of(org.id)), username=options["by"], caller=operator())
        outcome = engine.run(movement, attempt)
        if outcome.error is not None:
            raise ValidationError(f"{attempt.code} {outcome.error.message}: {attempt.refusal_reason}")
        reversal = attempt.reversal
        return {
            "org_id": org.id,
            "redemption_id": request.redemption_id,
            "reversal_id": reversal.public_id,
            "points": written(reversal.points),
            "available": written(reversal.points_available),
            "expired": written(reversal.points_expired),
        }


def _points(text: str | None) -> Decimal | None:
    try:
        return None if text is None else read_points(text)
    except InvalidPoints as error:
        raise ValueError(f"--points: expected {error}") from error
