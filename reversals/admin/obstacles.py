"""What stands in the way of reversing a redemption, shown on its page before anybody tries."""

from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from loyalty.admin.links import page_of
from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings
from loyalty.emf.stored import settings_of
from loyalty.ledger.clock import database_now
from loyalty.ledger.snapshots import CustomerFacts, ProgramFacts, RedemptionFacts
from loyalty.models import Redemption
from reversals.admin.html import in_points
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import EarlierReversals, Facts, standing_refusal
from reversals.refusals import ErrorCode

OF_CUSTOMER = {ErrorCode.CUSTOMER_NOT_ELIGIBLE, ErrorCode.CUSTOMER_LOCKED}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why points cannot be reversed now, or not by one user alone; and where to change that."""

    text: str
    link: str = ""
    address: str = ""
    permission: str = ""  # needed to open the address
    blocks: bool = True


def obstacle_of(redemption: Redemption) -> Obstacle | None:
    """Returns the first obstacle, in the order of refusals, or None if any user with the right can reverse it all."""
    return obstacle_at(database_now(), redemption, settings_of(redemption.org_id))


def obstacle_at(now: datetime, redemption: Redemption, settings: EmfSettings) -> Obstacle | None:
    """Returns the first obstacle at this time, with the settings of the redemption's org. Queries nothing.

    The redemption must have been read with its customer and program.
    """
    refusal = standing_refusal(_facts(redemption, settings, now))
    if refusal is None:
        return _approval(redemption, settings)
    if refusal.error in OF_CUSTOMER:
        address, link, permission = page_of(redemption.customer), "Open the customer", "loyalty.view_customer"
    elif refusal.error is ErrorCode.WRONG_PROGRAM:
        address, link, permission = page_of(redemption.program), "Open the program", "loyalty.view_program"
    else:
        address, link, permission = _settings_page(redemption), "Open the EMF settings", "loyalty.view_emfsetting"
    return Obstacle(refusal.staff_reason, link, address, permission)


def _approval(redemption: Redemption, settings: EmfSettings) -> Obstacle | None:
    set_ones = (settings.get(key, redemption.program_id) for key in emf.APPROVAL_LIMITS)
    limit = min((each for each in set_ones if each is not None), default=None)
    if limit is None or redemption.points - redemption.points_reversed <= limit:
        return None
    text = f"To reverse more than {in_points(limit)}, you need the approval of a second user."
    return Obstacle(text, "See the EMF settings", _settings_page(redemption), "loyalty.view_emfsetting", blocks=False)


def _settings_page(redemption: Redemption) -> str:
    return reverse("admin:org_emf", args=[redemption.org_id])


def _facts(redemption: Redemption, settings: EmfSettings, now: datetime) -> Facts:
    """The redemption as the rules read it, without draws and earlier reversals, and without locks."""
    customer, program = redemption.customer, redemption.program
    return Facts(
        request=ReversalRequest(redemption.public_id, None, None, None),
        settings=settings,
        redemption=RedemptionFacts(
            id=redemption.id,
            public_id=redemption.public_id,
            points=redemption.points,
            points_reversed=redemption.points_reversed,
            redeemed_at=redemption.redeemed_at,
            customer=CustomerFacts(
                customer.id,
                customer.public_id,
                customer.status,
                customer.reversals_locked,
                customer.reversals_locked_until,
            ),
            program=ProgramFacts(program.id, program.public_id, program.is_active),
            draws=(),
            locked_at=now,
            candidate_is_taken=False,
            has_webhooks=False,
        ),
        earlier=EarlierReversals(),
        is_manual=True,
        is_approved=False,
        now=now,
    )
