"""Checks the mail server, if mail is sent."""

import smtplib
from collections.abc import Iterator

from django.conf import settings
from django.core.mail import get_connection

from reversals.operations.doctor.findings import Finding, fine, wrong

SECONDS = 4


def server() -> Iterator[Finding]:
    """Connects and signs in to the mail server. Sends nothing."""
    if not settings.EMAIL_URL:
        return
    connection = get_connection(timeout=SECONDS)
    host = getattr(connection, "host", "")
    try:
        connection.open()
        connection.close()
    except (OSError, smtplib.SMTPException) as error:  # the error has the server's answer and not the password
        do = "Check the host, port, user and password in EMAIL_URL, and that this machine may reach the server."
        yield wrong("mail", f"{host} refuses: {error}", expected="a mail server that accepts this sign-in", do=do)
        return
    yield fine("mail", f"{host} accepts connections" if host else "emails are not sent by a server")
