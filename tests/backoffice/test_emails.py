"""Emails about approval requests: who gets one, what it says, and what happens if the mail server does not answer."""

from datetime import timedelta
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from loyalty.models import OrgAccess
from reversals.manual import approvals, manual_reversals
from reversals.manual.bulk import runs
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval
from reversals.operations.doctor import mail as mail_check
from reversals.operations.doctor.findings import Status
from reversals.operations.notices import send_news
from reversals.operations.worker import queue, tasks
from tests.builders import ON, World, days_ago, make_world, redeemed

pytestmark = pytest.mark.django_db
HOST = "https://loyalty.example"


@pytest.fixture(autouse=True)
def _mail_is_on(settings: Any) -> None:
    settings.EMAIL_URL, settings.PUBLIC_URL = "smtp://mail.example", HOST
    settings.DEFAULT_FROM_EMAIL = "loyalty@example.com"


@pytest.fixture
def world(db: None) -> World:
    world = make_world(settings={ON: "yes", "Reversal_approval_points": "5"})
    for name, role in {"meera": "Reversal operator", "arun": "Approver", "asha": "Approver"}.items():
        person(world, name, role)
    return world


def person(world: World, name: str, role: str, **options: Any) -> User:
    user = User.objects.create_user(name, f"{name}@example.com", is_staff=True, **options)
    user.groups.set(Group.objects.filter(name=role))
    OrgAccess.objects.create(user=user, org=world.org)
    return user


def asked(world: World, *, by: str = "meera") -> Approval:
    redemption = redeemed(world)
    approval = manual_reversals.reverse(
        ManualReversal(
            org_id=world.org.id,
            redemption_id=redemption.public_id,
            points=None,
            reason="Asha Rao, +91 98765 43210, lost her receipt",
            made_by=by,
            key=redemption.public_id,
        )
    )
    assert isinstance(approval, Approval)
    return approval


def sent() -> list[tuple[str, str]]:
    """Sends what is new. Returns address and subject of each email."""
    mail.outbox.clear()
    send_news()
    return sorted((message.to[0], message.subject) for message in mail.outbox)


def test_approvers_are_told_of_a_request_and_the_asker_of_the_decision(world: World) -> None:
    approval = asked(world)
    subject = f"1 request waits for your approval: {world.org}"
    assert sent() == [("arun@example.com", subject), ("asha@example.com", subject)]
    text = str(mail.outbox[0].body)
    assert f"- reversal of 10 points, requested by meera: {HOST}/admin/reversals/approval/{approval.pk}/change/" in text
    for private in ("98765", "receipt", approval.redemption.public_id, str(world.asha.public_id)):
        assert private not in text
    assert sent() == []
    approvals.approve(approval, decided_by="arun", comment="Asha called.")
    assert sent() == [("meera@example.com", f"1 of your requests was decided: {world.org}")]
    assert "approved by arun" in str(mail.outbox[0].body)
    assert "Asha" not in str(mail.outbox[0].body)
    approvals.reject(asked(world), decided_by="asha", comment="No.")
    assert sent() == [("meera@example.com", f"1 of your requests was decided: {world.org}")]
    assert sent() == []


def test_only_active_users_who_may_decide_in_this_org_are_told(world: World) -> None:
    foreign = make_world()
    person(foreign, "foreign", "Approver")
    person(world, "gone", "Approver", is_active=False)
    User.objects.filter(username="asha").update(email="")
    User.objects.create_superuser("root", "root@example.com")
    asked(world, by="arun")
    assert sent() == []
    OrgAccess.objects.create(user=User.objects.get(username="root"), org=world.org)
    asked(world, by="arun")
    asked(world)
    assert [address for address, _ in sent()] == ["arun@example.com", "root@example.com"]
    assert mail.outbox[1].subject == f"2 requests wait for your approval: {world.org}"


def test_rows_of_a_bulk_run_are_one_email_and_none_to_who_took_part(world: World) -> None:
    run = runs.start_from_redemptions(
        org=world.org, key="page-1", redemptions=[redeemed(world) for _ in range(3)], reason="why", made_by="arun"
    )
    runs.check_some(run, made_by="arun")
    runs.confirm(run, made_by="arun")
    runs.run_some(run, made_by="meera")
    assert sent() == [("asha@example.com", f"3 requests wait for your approval: {world.org}")]


def test_nothing_is_sent_later_of_what_happened_without_mail_or_long_ago(world: World, settings: Any) -> None:
    settings.EMAIL_URL = ""
    asked(world)
    assert sent() == []
    settings.EMAIL_URL = "smtp://mail.example"
    assert sent() == []
    approval = asked(world)
    Approval.objects.filter(id=approval.id).update(asked_at=days_ago(1.1))
    assert sent() == []


def test_mail_server_that_fails_delays_emails_and_no_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> int:
        raise OSError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", fail)
        asked(world)
        DBTaskResult.objects.all().delete()
        queue.add(tasks.send_emails)
        row = queue.claim(queue.QUEUES, "one")
        assert row is not None
        queue.run(row)
        row.refresh_from_db()
        assert (row.status, row.traceback) == (queue.Status.READY, "connection refused")
        assert timedelta(0) < row.run_after - timezone.now() <= timedelta(minutes=1)
    assert len(sent()) == 2


def test_refused_address_does_not_stop_other_emails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send = EmailBackend.send_messages

    def refuse_arun(backend: Any, messages: Any) -> Any:
        if messages[0].to == ["arun@example.com"]:
            raise SMTPRecipientsRefused({"arun@example.com": (550, b"no such user")})
        return send(backend, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", refuse_arun)
    asked(world)
    assert [address for address, _ in sent()] == ["asha@example.com"]


def test_doctor_checks_the_mail_server_only_if_mail_is_sent(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.status for finding in mail_check.server()] == [Status.OK]

    def refuse(backend: object) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(EmailBackend, "open", refuse)
    [finding] = mail_check.server()
    assert (finding.status, finding.check) == (Status.ERROR, "mail")
    assert "connection refused" in finding.found
    settings.EMAIL_URL = ""
    assert list(mail_check.server()) == []
