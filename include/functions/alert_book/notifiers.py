"""How people are told of an alert: a line in a file, a mail, a message in Slack."""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from include import alerts
from include.alerts import Alert

TIMEOUT_S = 5.0
LOOKED_BACK_BYTES = 1 << 20
MARKS = {"critical": ":rotating_light:", "warning": ":warning:", "info": ":information_source:"}
Notify = Callable[[Alert], None]


class Mail(Struct, frozen=True, forbid_unknown_fields=True):
    """MADHATTER_ALERT_MAIL. tls: STARTTLS, with a certificate that this machine trusts; a server on the same machine
    needs none."""

    host: str
    sender: str
    to: list[str]
    port: int = 587
    tls: bool = True
    user: str = ""
    password: str = ""


def known(environment: Mapping[str, str] = os.environ) -> dict[str, Notify]:
    """The notifiers that have a setting, by name. Raises SystemExit that names a setting that cannot be used."""
    found: dict[str, Notify] = {}
    if path := environment.get("MADHATTER_ALERT_FILE"):
        found["file"] = partial(to_file, Path(path))
    if text := environment.get("MADHATTER_ALERT_MAIL"):
        try:
            found["mail"] = partial(to_mail, msgspec.json.decode(text, type=Mail))
        except msgspec.MsgspecError as error:
            example = '{"host": "smtp.example", "sender": "platform@example", "to": ["ops@example"]}'
            raise SystemExit(f"alert_book: MADHATTER_ALERT_MAIL is not JSON such as {example}: {error}") from None
    if url := environment.get("MADHATTER_ALERT_SLACK"):
        found["slack"] = partial(to_slack, url)
    return found


def to_file(path: Path, alert: Alert) -> None:
    """A line of JSON at the file's end, once for each time that the alert was raised. Raises OSError."""
    line = alerts.encode(alert) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOOKED_BACK_BYTES))
        if line not in file.read():
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def to_mail(mail: Mail, alert: Alert) -> None:
    """Raises OSError, also for what the server refuses. The Message-ID lets a mail that is sent twice be seen once."""
    message = EmailMessage()
    message["Subject"] = f"[{alert.severity}] {' '.join(alert.title.split())}"
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Date"] = formatdate(alert.raised_ts.timestamp())
    message["Message-ID"] = f"<{alert.alert_id}.{alert.raised_ts:%Y%m%d%H%M%S%f}@madhatter>"
    message.set_content(f"{text(alert)}\n\n{json.dumps(alert.details, indent=1, default=str)}\n")
    with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S) as server:
        if mail.tls:
            server.starttls(context=ssl.create_default_context())
        if mail.user:
            server.login(mail.user, mail.password)
        server.send_message(message)


def to_slack(url: str, alert: Alert) -> None:
    """https://api.slack.com/messaging/webhooks. Raises OSError. The webhook's address is a secret: no error has it."""
    body: dict[str, Any] = {"text": f"{MARKS[alert.severity]} {_escaped(text(alert))}"}
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        # The status says it all: a body that is read and breaks off would send the message again.
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except (OSError, ValueError, HTTPException) as error:
        raise OSError(f"Slack does not take it: {str(error).replace(url, '(webhook)')}") from None


def text(alert: Alert) -> str:
    """What people read: title, reasons, what happens by itself, where to look."""
    done = "" if alert.action == "none" else f"\nThe platform does: {alert.action.replace('_', ' ')}"
    places = "".join(f"\n{name}: {alert.details[name]}" for name in ("log", "runbook") if alert.details.get(name))
    reasons = "".join(f"\n- {reason}" for reason in alert.reasons)
    return f"{alert.title} ({alert.kind}, {alert.subject}){reasons}{done}{places}"


def _escaped(words: str) -> str:
    """Names of customers and products are data: no links, no mentions."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
