"""topology.yaml: what is wrong in it is named with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.pubsub.topology import read
from include.signals import TOPICS
from local.instance import FUNCTIONS

GOOD = """\
topics:
  alerts: 7 days
subscriptions:
  alert-book: {topic: alerts, push: alert_book, deadline_s: 30, attempts: 20}
"""


def test_topology_of_the_repository_has_every_signals_topic_and_every_function() -> None:
    topology = read()
    assert set(TOPICS.values()) <= set(topology.topics)
    assert topology.functions == sorted(FUNCTIONS)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("7 days", "a week", r"line 2: topics\.alerts: 'a week' is no time"),
        ("7 days", "32 days", r"line 2: topics\.alerts: '32 days' is no time"),
        ("topic: alerts", "topic: alarms", r"line 4: subscriptions\.alert-book: there is no topic 'alarms'"),
        ("push: alert_book, ", "", r"line 4: subscriptions\.alert-book: give push, .* or pull"),
        ("30", "9", r"line 4: subscriptions\.alert-book: Expected `int` >= 10"),
        ("attempts: 20", "attempts: 20, filter: x", r"line 4: .*unknown field `filter`"),
        ("alerts: 7 days", "alerts: 7 days\n  alerts: 1 day", r"topics\.alerts stands twice"),
        ("topics:", "topic:", r"unknown field `topic`"),
        ("alerts: 7 days", "dead.x: 7 days", r"line 2: topics\.dead\.x: names that begin with dead\."),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=words) as raised:
        read(file)
    assert "topology.yaml" in str(raised.value)
