"""Dead letters of Pub/Sub: seen without being taken away, and sent again once what refused them is mended."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
from google.pubsub_v1 import types

from include import alerts
from include.alerts import Alert
from local.instance import ROOT
from tests.functions.running import PROJECT, Live


def letters(live: Live, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "include.pubsub.letters", "--project", PROJECT, *arguments]
    env = {**os.environ, "PUBSUB_EMULATOR_HOST": live.pubsub.address}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_dead_letters_are_listed_and_stay_and_are_sent_again_as_they_were(live: Live) -> None:
    one = Alert(
        alert_id=alerts.alert_id("fraud", "order:1", ""),
        source="test",
        kind="fraud",
        severity="warning",
        subject="order:1",
        title="One",
        reasons=[],
        action="none",
        state="open",
        raised_ts=datetime(2026, 11, 29, tzinfo=UTC),
    )
    for number in range(3):
        letter = msgspec.structs.replace(one, title=f"{number}")
        attributes = {"kind": "fraud", "CloudPubSubDeadLetterSourceDeliveryCount": "20"}
        live.publish("dead.alert-response", alerts.encode(letter), **attributes)
    for _ in range(2):  # what is listed stays
        done = letters(live)
        assert (done.returncode, done.stdout[:18]) == (0, "alert-response: 3,"), done.stderr
    done = letters(live, "--again", "alert-response")
    assert (done.returncode, done.stdout) == (0, "3 sent again\n"), done.stderr
    found = live.gather(lambda: live.pull("alert-response"), 3, "they come again")
    assert sorted(alerts.decode(message.data).title for message in found) == ["0", "1", "2"]
    assert [dict(message.attributes) for message in found] == [{"kind": "fraud"}] * 3
    assert letters(live).stdout == "no dead letters\n"


def test_letter_of_any_size_with_any_attribute_is_sent_again(live: Live) -> None:
    large = bytes(9_000_000)
    live.publisher.publish(
        topic=live.publisher.topic_path(PROJECT, "dead.event-validation"),
        messages=[types.PubsubMessage(data=large, attributes={"topic": "sales.orders"})],
    )
    path = live.subscriber.subscription_path(PROJECT, "seen")
    live.subscriber.create_subscription(name=path, topic=live.publisher.topic_path(PROJECT, "events.partner"))
    assert letters(live).stdout.startswith("event-validation: 1,")
    done = letters(live, "--again", "event-validation")
    assert done.stdout == "1 sent again\n", done.stderr
    (message,) = live.gather(lambda: live.pull("seen"), 1, "it comes again")
    assert (message.data, dict(message.attributes)) == (large, {"topic": "sales.orders"})


def test_subscription_that_is_not_there_is_an_error_with_those_that_are(live: Live) -> None:
    done = letters(live, "--again", "alerts")
    assert done.returncode == 1
    assert "no subscription 'alerts'; there are fraud-detection," in done.stderr
