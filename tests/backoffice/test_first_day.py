"""The first day of an org: the checklist on the home page, and ledger files that are uploaded."""

import gzip
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from loyalty.clients.api_clients import create_api_client
from loyalty.emf.stored import set_emf
from loyalty.models import Customer, LedgerUpload, Lot, Org, OrgAccess, Redemption
from loyalty.orgs import create_org, create_program
from tests.builders import ON, World, days_ago, make_world, redeemed, staff_of, work

pytestmark = pytest.mark.django_db
IMPORT = "/admin/import/"
CUSTOMERS = "org_id,customer_id,status,mobile,email,external_id,card_number\n{org},4711,ACTIVE,,,,\n"
POINTS = (
    "org_id,program_id,customer_id,lot_ref,points,awarded_at,expires_at\n{org},7,4711,LOT-1,100,2026-01-01T00:00:00Z,\n"
)
REDEMPTIONS = (
    "org_id,program_id,customer_id,redemption_id,points,redeemed_at,transaction_number,external_reference_number\n"
    "{org},7,4711,R-1,40,2026-02-01T00:00:00Z,,\n"
)
ORG_ID = 990_001


@pytest.fixture
def superuser(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


def steps(client: Client) -> list[bool] | None:
    """Returns of each step whether it is done, or None without a checklist."""
    checklist = client.get("/admin/").context["checklist"]
    return None if checklist is None else [step.is_done for step in checklist.steps]


def upload(client: Client, org_id: int, **texts: str | bytes) -> Any:
    files = {
        kind: SimpleUploadedFile(
            f"{kind}.csv" + (".gz" if isinstance(text, bytes) else ""), text.encode() if isinstance(text, str) else text
        )
        for kind, text in texts.items()
    }
    return client.post(f"{IMPORT}?org={org_id}", files, follow=True)


def test_checklist_ticks_itself_off_from_an_empty_database_to_people(superuser: Client) -> None:
    assert not Org.objects.exists()
    page = superuser.get("/admin/").content.decode()
    assert "Set up your first org" in page
    assert 'href="/admin/loyalty/org/add/"' in page
    org = create_org(org_id=ORG_ID, name="First", country="IN", v2_enabled=True)
    assert steps(superuser) == [True, False, False, False, False, False]
    assert f'href="/admin/loyalty/program/add/?org={ORG_ID}"' in superuser.get("/admin/").content.decode()
    create_program(org=org, public_id=7, name="Main")
    upload(superuser, ORG_ID, **{name: text.format(org=ORG_ID) for name, text in files().items()})
    work()
    assert steps(superuser) == [True, True, True, False, False, False]
    set_emf(org=org, key=ON, value="yes", ticket="T-1", reason="start", changed_by="root")
    create_api_client(org=org, username="till.1")
    page = superuser.get("/admin/").content.decode()
    assert steps(superuser) == [True, True, True, True, True, False]
    assert "curl -i -u till.1:SECRET" in page
    assert "R-1" in page
    user = User.objects.create_user("asha", is_staff=True)
    OrgAccess.objects.create(user=user, org=org)
    assert steps(superuser) == [True, True, True, True, True, False]
    user.groups.set(Group.objects.filter(name="Approver"))
    assert steps(superuser) == [True] * 6
    Org.objects.update(created_at=days_ago(31))
    assert steps(superuser) is None


def files() -> dict[str, str]:
    return {"customers": CUSTOMERS, "points": POINTS, "redemptions": REDEMPTIONS}


def test_checklist_is_shown_for_a_new_org_to_those_who_set_it_up(world: World) -> None:
    team = staff_of(world, "Back-end team")
    assert steps(team) == [True, True, True, True, True, False]
    page = team.get("/admin/").content.decode()
    assert "A superuser does this." in page
    assert steps(staff_of(world, "Approver", username="arun")) is None
    new = make_world()
    OrgAccess.objects.create(user=User.objects.get(username="meera"), org=new.org)
    assert team.get("/admin/").context["checklist"].org == new.org
    Org.objects.filter(id__in=[world.org.id, new.org.id]).update(created_at=days_ago(40))
    assert steps(team) is None


def test_checklist_costs_the_same_number_of_queries_for_any_number_of_orgs(
    superuser: Client, count_queries: Any
) -> None:
    counts = set()
    for _ in range(2):
        for _ in range(2):
            make_world()
        superuser.get("/admin/")
        counts.add(count_queries(lambda: superuser.get("/admin/")))
    assert len(counts) == 1


def test_uploaded_files_are_imported_by_the_worker_and_then_removed(superuser: Client) -> None:
    org = create_org(org_id=ORG_ID, name="First", country="IN", v2_enabled=True)
    create_program(org=org, public_id=7, name="Main")
    texts = {kind: text.format(org=ORG_ID) for kind, text in files().items()}
    page = upload(superuser, ORG_ID, customers=texts["customers"], points=gzip.compress(texts["points"].encode()))
    assert "The worker imports the files" in page.content.decode()
    progress = f"/admin/import/progress/?org={ORG_ID}"
    assert superuser.get(progress).json()["working"]
    assert not Customer.objects.filter(org=org).exists()
    work()
    assert not superuser.get(progress).json()["working"]
    assert (Customer.objects.filter(org=org).count(), Lot.objects.filter(org=org).count()) == (1, 1)
    kept = LedgerUpload.objects.get(org=org)
    assert (kept.status, kept.customers, kept.points) == ("IMPORTED", None, None)
    assert "customers: 1 added, 0 already there" in superuser.get(f"{IMPORT}?org={ORG_ID}").content.decode()
    upload(superuser, ORG_ID, redemptions=texts["redemptions"])
    work()
    assert Redemption.objects.get(org=org).points == 40


def test_files_with_bad_rows_or_rows_of_other_orgs_are_refused_whole(superuser: Client, world: World) -> None:
    redemption = redeemed(world)
    create_org(org_id=ORG_ID, name="First", country="IN", v2_enabled=True)
    mixed = CUSTOMERS.format(org=ORG_ID) + f"{world.org.id},99,ACTIVE,,,,\n"
    for text, reason in ((mixed, f"{ORG_ID}, the org of the upload"), ("nonsense", "customers.csv")):
        upload(superuser, ORG_ID, customers=text)
        work()
        kept = LedgerUpload.objects.filter(org_id=ORG_ID).latest("made_at")
        assert (kept.status, kept.customers) == ("REFUSED", None)
        assert reason in kept.outcome
    assert not Customer.objects.filter(org_id=ORG_ID).exists()
    assert not Customer.objects.filter(org=world.org, public_id=99).exists()
    assert Redemption.objects.filter(pk=redemption.pk).exists()


def test_upload_needs_a_file_within_the_limit(superuser: Client, world: World) -> None:
    assert "Choose at least one file." in upload(superuser, world.org.id).content.decode()
    page = upload(superuser, world.org.id, customers="x" * 2_000_000).content.decode()
    assert "at most 1,900,000 can be uploaded" in page
    assert not LedgerUpload.objects.exists()


def test_user_who_lost_the_right_imports_nothing(superuser: Client, world: World) -> None:
    upload(superuser, world.org.id, customers=CUSTOMERS.format(org=world.org.id))
    User.objects.filter(username="root").update(is_active=False)
    work()
    assert LedgerUpload.objects.get().outcome == "root may not import ledger files in this org any more."
    assert not Customer.objects.filter(org=world.org, public_id=4711).exists()
