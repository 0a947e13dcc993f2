"""Topics and subscriptions are made as the topology says, however often and from wherever one starts."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from include.pubsub.apply import Misplaced, apply
from include.pubsub.topology import read
from tests.functions.running import ACCOUNT, PROJECT, Live


def test_second_application_changes_nothing_and_a_difference_is_mended(live: Live) -> None:
    assert live.apply() == []
    moved = live.urls | {"alert_book": "https://elsewhere.example"}
    assert list(apply(PROJECT, read(), moved, ACCOUNT)) == ["subscription alert-book: push_config changed"]
    assert live.apply() == ["subscription alert-book: push_config changed"]


def test_subscription_has_what_the_topology_says(live: Live) -> None:
    found: Any = live.subscriber.get_subscription(subscription=f"projects/{PROJECT}/subscriptions/fraud-detection")
    assert found.topic == f"projects/{PROJECT}/topics/signals.fraud"
    assert found.push_config.push_endpoint == live.urls["fraud_detection"]
    assert found.push_config.oidc_token.service_account_email == ACCOUNT
    assert found.push_config.oidc_token.audience == live.urls["fraud_detection"]
    assert (found.ack_deadline_seconds, found.dead_letter_policy.max_delivery_attempts) == (30, 10)
    assert found.dead_letter_policy.dead_letter_topic == f"projects/{PROJECT}/topics/dead.fraud-detection"
    assert found.message_retention_duration.days == 1


def test_function_without_an_address_is_named(live: Live) -> None:
    urls = {name: url for name, url in live.urls.items() if name != "alert_book"}
    with pytest.raises(ValueError, match="no address for function alert_book"):
        list(apply(PROJECT, read(), urls, ACCOUNT))


def test_subscription_that_would_have_to_move_is_an_error_that_says_what_to_do(live: Live) -> None:
    known = read()
    changed = msgspec.structs.replace(known.subscriptions["alert-book"], topic="live.batches")
    topology = dataclasses.replace(known, subscriptions=known.subscriptions | {"alert-book": changed})
    with pytest.raises(Misplaced, match=r"alert-book is one of .*/alerts, not of .*/live\.batches"):
        list(apply(PROJECT, topology, live.urls, ACCOUNT))
