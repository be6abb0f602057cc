"""`POST /v2/customers/{customerId}/redemptions`: what it draws, answers and refuses."""

import pytest

from loyalty.models import Lot, Redemption
from reversals.verification import broken_laws
from tests.builders import World, in_days, make_lot, points

pytestmark = pytest.mark.django_db


def test_points_are_drawn_from_the_lot_that_expires_first(world: World) -> None:
    later = make_lot(world.asha, 10, program=world.program, expires_at=in_days(20))
    soon = make_lot(world.asha, 4, program=world.program, expires_at=in_days(2))
    response = world.redeem(world.asha, 6.5, transactionNumber="T-1")
    body = response.json()
    redemption = Redemption.objects.get(org=world.org)
    assert response.status_code == 200
    assert body == {
        "orgId": world.org.id,
        "customerId": world.asha.public_id,
        "redemptionId": redemption.public_id,
        "programId": world.program.public_id,
        "pointsRedeemed": 6.5,
        "redeemedAt": f"{redemption.redeemed_at:%Y-%m-%dT%H:%M:%SZ}",
        "transactionNumber": "T-1",
        "externalReferenceNumber": None,
        "draws": [
            {
                "position": position,
                "lotRef": lot.lot_ref,
                "programId": world.program.public_id,
                "memberId": world.asha.public_id,
                "expiresAt": f"{lot.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "points": drawn,
            }
            for position, lot, drawn in ((1, soon, 4.0), (2, later, 2.5))
        ],
        "balance": 7.5,
        "warnings": [],
        "errors": [],
    }
    assert [Lot.objects.get(id=lot.id).points_remaining for lot in (soon, later)] == [0, points("7.5")]
    assert broken_laws(world.org.id) == []
