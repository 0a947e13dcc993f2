"""docs/runbook.md, "Topic recreated", followed to the letter: a real topic is deleted and made again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from include.contracts.contract import models
from local.instance import ROOT
from madhatter import kafka, ledger, slices
from tests.pipeline.chain import TOPIC, Chain, order
from tests.stand_ins import Broker, until

FIRST, SECOND = "hour-20110104t100000", "hour-20110104t110000"


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose topics nobody else needs."""
    own = Broker(tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    own.end()


def runbook_sql(entry: str) -> list[str]:
    """The statements that the runbook gives under a heading."""
    text = Path(ROOT, "docs", "runbook.md").read_text()
    (block,) = re.findall(rf"^## {entry}\n.*?```sql\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return [statement.strip() for statement in block.split(";") if statement.strip()]


def send(broker: Broker, chain: Chain, *values: bytes) -> None:
    """To partition 0 of the real topic, and to the chain's copy of it."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    for value in values:
        producer.produce(TOPIC, value, b"17850", partition=0)
    assert producer.flush(30) == 0
    chain.send(0, *values)


def claim(broker: Broker, last: dict[slices.Place, slices.Claim]) -> list[slices.Claim]:
    """The next claims over the real log."""
    settings = {"bootstrap.servers": broker.bootstrap}
    return kafka.next_claims(settings, [TOPIC], datetime.now(UTC) + timedelta(hours=1), last)


def test_runbook_retires_a_recreated_topic_and_both_stay_balanced(own_broker: Broker, chain: Chain) -> None:
    kafka.create_topics(own_broker.admin, [TOPIC])
    chain.log = {(TOPIC, partition): [] for partition in range(4)}
    send(own_broker, chain, order("A"), b"{broken", order("B"), order("A"))
    chain.run(FIRST, lambda last: claim(own_broker, last))
    for deleted in own_broker.admin.delete_topics([TOPIC]).values():
        deleted.result()
    until(lambda: TOPIC not in own_broker.admin.list_topics(timeout=10).topics, "the topic is gone")
    kafka.create_topics(own_broker.admin, [TOPIC])
    chain.log = {(TOPIC, partition): [] for partition in range(4)}
    send(own_broker, chain, order("B"), order("C"))
    with pytest.raises(slices.TopicRecreated, match="topic recreated"):
        chain.plan(SECOND, claim=lambda last: claim(own_broker, last))

    for statement in runbook_sql("Topic recreated"):
        chain.warehouse.run(statement)

    chain.run(SECOND, lambda last: claim(own_broker, last))
    (planned,) = [c for c in _claims(chain, SECOND) if c.partition == 0]
    assert (planned.start, planned.end) == (0, 2)
    assert chain.counts(FIRST)[0] == (4, 0, 2, 1, 1, 0)
    assert chain.counts(SECOND)[0] == (2, 0, 1, 1, 0, 0)
    rows = chain.warehouse.rows("select topic, delivered, is_balanced from ops.reconciliation where partition = 0")
    assert [(row["topic"], row["delivered"], row["is_balanced"]) for row in rows] == [
        (TOPIC, 2, True),
        (f"{TOPIC}@1", 4, True),
    ]
    # What is erased later leaves the retired topic's slice too.
    chain.warehouse.run("insert into ops.erased (event_id) values ('order:A')")
    chain.publish(FIRST)
    assert chain.counts(FIRST)[0] == (4, 0, 1, 0, 1, 2)
    assert chain.is_balanced()


def _claims(chain: Chain, slice_id: str) -> tuple[slices.Claim, ...]:
    found = ledger.find(chain.warehouse, slice_id)
    assert found is not None
    return found.claims


def test_runbook_retires_a_topic_in_every_table_that_has_places_of_it() -> None:
    tables = {model.table.name for model in models()}
    named = set(re.findall(r"update (\w+\.\w+) ", "\n".join(runbook_sql("Topic recreated"))))
    assert {name for name in named if name.startswith("ops.")} == {"ops.slice_partition", "ops.dead_letter", "ops.fix"}
    assert {name for name in named if name.startswith("core.")} == {f"core.{table}" for table in tables}
    assert {name for name in named if name.startswith("staging.")} == {f"staging.{t}" for t in (*tables, "dead_letter")}
