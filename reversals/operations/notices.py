"""Emails about approval requests: to approvers about a request, and to the user who asked about its outcome.

An email has no data of customers and no text that staff wrote. The page behind its link has them.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from smtplib import SMTPRecipientsRefused

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage, get_connection
from django.db.models import Q
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone

from loyalty.ledger.points import grouped
from loyalty.models import Org
from reversals.manual.approvals import requesters_of
from reversals.models import Approval, Channel

logger = logging.getLogger(__name__)

# News that are older were missed while no worker ran or no mail was sent, and are no news any more.
NEWS_FOR = timedelta(days=1)
REQUESTS_NAMED = 20
DECIDE = "reversals.decide_approval"

Waiting = Approval.Status.WAITING


def send_news() -> int:
    """Sends what is new about requests, or forgets it if no mail is sent. Returns the number of emails.

    What was sent is marked org by org. If the server fails in between, the next try sends the org's emails again.
    """
    news = Approval.objects.filter(is_news=True).select_related("org").order_by("org_id", "asked_at")
    if not settings.EMAIL_URL:
        news.order_by().update(is_news=False)
        return 0
    by_org: dict[Org, list[Approval]] = defaultdict(list)
    for request in news:
        by_org[request.org].append(request)
    sent = 0
    for org, requests in by_org.items():
        sent += _send([*_to_approvers(org, requests), *_to_askers(org, requests)])
        for request in requests:  # one that was decided meanwhile is news again
            unchanged = Approval.objects.filter(org_id=org.id, id=request.id, status=request.status)
            unchanged.update(is_news=False)
    return sent


def _to_approvers(org: Org, requests: Iterable[Approval]) -> list[EmailMessage]:
    """One email to each user who may decide some of the new requests."""
    now = timezone.now()
    new = [
        (each, requesters_of(each))
        for each in requests
        if each.status == Waiting and each.lapses_at > now and now - each.asked_at < NEWS_FOR
    ]
    messages = []
    for approver in _approvers_of(org) if new else ():
        own = [request for request, requesters in new if approver.username not in requesters]
        if own:
            count = f"{len(own)} request{pluralize(len(own))} wait{pluralize(len(own), 's,')} for your approval"
            lines = [_in_words(each, f"requested by {each.asked_by}") for each in own]
            messages.append(_email(approver.email, f"{count}: {org}", f"{count} in {org}.", lines))
    return messages


def _to_askers(org: Org, requests: Iterable[Approval]) -> list[EmailMessage]:
    """One email to each user whose requests were decided. The pages of bulk runs have the outcome of their rows."""
    since = timezone.now() - NEWS_FOR
    decided: dict[str, list[Approval]] = defaultdict(list)
    for each in requests:
        if each.decided_at is not None and each.decided_at > since and each.channel != Channel.BULK:
            decided[each.asked_by].append(each)
    works_here = Q(is_superuser=True) | Q(org_accesses__org=org)
    users = User.objects.filter(works_here, username__in=decided, is_active=True, is_staff=True).exclude(email="")
    messages = []
    for user in users.distinct():
        own = decided[user.username]
        count = f"{len(own)} of your requests {'was' if len(own) == 1 else 'were'} decided"
        lines = [_in_words(each, f"{each.get_status_display().lower()} by {each.decided_by}") for each in own]
        messages.append(_email(user.email, f"{count}: {org}", f"{count} in {org}.", lines))
    return messages


def _approvers_of(org: Org) -> Iterable[User]:
    """Returns the users with this right who were given access to the org and have an email address."""
    users = User.objects.with_perm(DECIDE, backend="django.contrib.auth.backends.ModelBackend")
    return users.filter(is_staff=True, org_accesses__org=org).exclude(email="").order_by("username").distinct()


def _in_words(request: Approval, what: str) -> str:
    kind = "reversal" if request.corrects_id is None else "correction"
    points = f"{grouped(request.points)} point{pluralize(request.points)}"
    address = settings.PUBLIC_URL + reverse("admin:reversals_approval_change", args=[request.pk])
    return f"- {kind} of {points}, {what}: {address}"


def _email(to: str, subject: str, first: str, lines: Sequence[str]) -> EmailMessage:
    home = settings.PUBLIC_URL + reverse("admin:index")
    more = [f"- and {len(lines) - REQUESTS_NAMED} more"] if len(lines) > REQUESTS_NAMED else []
    text = "\n".join([first, "", *lines[:REQUESTS_NAMED], *more, "", f"Back office: {home}", ""])
    return EmailMessage(subject=" ".join(subject.split()), body=text, to=[to])


def _send(messages: Sequence[EmailMessage]) -> int:
    """Sends the emails over one connection. An address that the server refuses does not stop the others."""
    if not messages:
        return 0
    sent = 0
    with get_connection() as connection:
        for message in messages:
            try:
                sent += connection.send_messages([message]) or 0
            except SMTPRecipientsRefused:
                logger.warning("the mail server refused an address of a user; the email was not sent")
    return sent
