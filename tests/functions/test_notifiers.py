"""How people are told: what counts as told, and whom a notifier trusts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include import alerts
from include.alerts import Alert
from include.functions.alert_book import notifiers
from tests.functions import inboxes

ALERT = Alert(
    alert_id=alerts.alert_id("task_failed", "dag:a/b", ""),
    source="airflow",
    kind="task_failed",
    severity="critical",
    subject="dag:a/b",
    title="It has failed",
    reasons=[],
    action="none",
    state="open",
    raised_ts=datetime(2026, 11, 29, 12, tzinfo=UTC),
)


def test_mail_goes_to_a_server_whose_certificate_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mail.pem"
    server = inboxes.Mail(tls=inboxes.certificate(file))
    with server.serving() as port:
        mail = notifiers.Mail("127.0.0.1", "platform@example", ["ops@example"], port)
        with pytest.raises(ssl.SSLCertVerificationError):
            notifiers.to_mail(mail, ALERT)
        assert server.mails == []
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        notifiers.to_mail(mail, ALERT)
    assert ["Subject: [critical] It has failed" in one for one in server.mails] == [True]


def test_slack_that_answers_no_http_does_not_take_it() -> None:
    with inboxes.raw(b"nonsense\r\n\r\n") as (_, url), pytest.raises(OSError, match="Slack does not take it") as raised:
        notifiers.to_slack(url, ALERT)
    assert url not in str(raised.value)


def test_slack_whose_answer_breaks_off_after_a_good_status_has_taken_it() -> None:
    with inboxes.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\no") as (asked, url):
        notifiers.to_slack(url, ALERT)
    assert len(asked) == 1
