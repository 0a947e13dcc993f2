"""The hourly pipeline on a real broker: each offset is a row, a dead letter or a hole."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer, TopicPartition

from include import references
from include.beam import hourly, source
from include.beam.plan import Chunk, Manifest, Plan, cut
from local.ports import free_ports
from madhatter import kafka, slices
from tests.bad_events import GOOD
from tests.stand_ins import Broker, until

TOPIC = "sales.orders"
Done = tuple[Path, Plan, Manifest]  # the store, and what was planned and written in it
Sent = dict[int, list[tuple[int, bytes]]]  # partition -> (offset, value)


def event(order_id: str, **changes: Any) -> bytes:
    return json.dumps(GOOD | {"event_id": f"order:{order_id}", "order_id": order_id} | changes).encode()


class Sender:
    """Writes to one partition, in transactions that are committed or aborted."""

    def __init__(self, bootstrap: str) -> None:
        self.producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": uuid.uuid4().hex, "log_level": 2})
        self.producer.init_transactions(30)

    def send(self, partition: int, *values: bytes, commit: bool = True) -> None:
        self.producer.begin_transaction()
        for value in values:
            self.producer.produce(TOPIC, value, key=b"17850", partition=partition)
        self.producer.flush()
        if commit:
            self.producer.commit_transaction()
        else:
            self.producer.abort_transaction()


@pytest.fixture(scope="module")
def sent(broker: Broker) -> Sent:
    """What the topic holds for a reader of committed records: partition -> (offset, value). Partition 2 is empty."""
    kafka.create_topics(broker.admin, [TOPIC])
    sender = Sender(broker.bootstrap)
    sender.send(0, event("A1"), event("A2"), b"{broken", event("A1"))  # 0..3, marker at 4
    sender.send(0, event("X1"), event("X2"), event("X3"), commit=False)  # 5..7, marker at 8
    sender.send(0, event("A3", event_ts="2011-01-04T11:59:59.999Z"), event("A4", currency="EUR"))  # 9, 10, marker 11
    sender.send(1, *(event(f"B{number}") for number in range(20)))  # 0..19, marker at 20
    sender.send(3, event("C1"), b"\xff\x00", b"")  # 0..2, marker at 3
    ends = {0: 12, 1: 21, 2: 0, 3: 4}
    until(lambda: {p: log.stable_end for (_, p), log in read_log(broker).items()} == ends, "the markers are written")
    return {
        0: [
            (0, event("A1")),
            (1, event("A2")),
            (2, b"{broken"),
            (3, event("A1")),
            (9, event("A3", event_ts="2011-01-04T11:59:59.999Z")),
            (10, event("A4", currency="EUR")),
        ],
        1: [(number, event(f"B{number}")) for number in range(20)],
        2: [],
        3: [(0, event("C1")), (1, b"\xff\x00"), (2, b"")],
    }


def read_log(broker: Broker) -> dict[slices.Place, slices.PartitionLog]:
    return kafka.read_log(broker.admin, [TOPIC], datetime.now(UTC) + timedelta(hours=1))


def plan(broker: Broker, store: Path, size: int = 5) -> Plan:
    """A plan of the whole topic."""
    claims = slices.claim(read_log(broker), {})
    chunks = [
        chunk for c in claims for chunk in cut("hour-20110104t100000", c.topic, c.partition, c.start, c.end, size)
    ]
    return Plan("hour-20110104t100000", store.as_uri(), tuple(chunks), references.pin(store.as_uri()))


def run(broker: Broker, planned: Plan) -> Manifest:
    hourly.main(["--plan", planned.write(), "--bootstrap_servers", broker.bootstrap, "--runner=FnApiRunner"])
    return Manifest.read(planned.store, planned.load_id)


def failure(bootstrap: str, store: Path, *chunks: Chunk) -> str:
    """What a run over these chunks fails with; asserts that it leaves no manifest and no half file."""
    planned = Plan("hour-failing", store.as_uri(), chunks, references.pin(store.as_uri()))
    with pytest.raises(Exception) as raised:
        hourly.main(["--plan", planned.write(), "--bootstrap_servers", bootstrap, "--runner=FnApiRunner"])
    assert [path for path in store.rglob("*") if path.suffix == ".part"] == []
    assert not list(store.rglob("manifest.json"))
    return str(raised.value)


def rows(store: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table's files, by place in the log."""
    files = sorted(store.glob(f"loads/*/{table}/*.parquet"))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(found, key=lambda row: (row["partition"], row["offset"]))


def contents(store: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest, which holds the time that the run took."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.fixture(scope="module")
def done(broker: Broker, sent: Sent, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run over the whole topic in chunks of five offsets: its store, plan and manifest."""
    store = tmp_path_factory.mktemp("store")
    planned = plan(broker, store)
    assert len(planned.chunks) > len([values for values in sent.values() if values])
    return store, planned, run(broker, planned)


def test_delivered_and_holes_are_all_offsets_of_each_chunk(done: Done, sent: Sent) -> None:
    _, planned, manifest = done
    manifest.check_covers(planned)
    for result in manifest.results:
        chunk = result.chunk
        inside = [offset for offset, _ in sent[chunk.partition] if chunk.start <= offset < chunk.end]
        assert (result.delivered, result.holes) == (len(inside), chunk.end - chunk.start - len(inside))
    assert sum(result.holes for result in manifest.results if result.chunk.partition == 0) == 6


def test_every_committed_record_is_a_row_or_a_dead_letter_at_its_offset(done: Done, sent: Sent) -> None:
    store, _, manifest = done
    places = [
        (row["partition"], row["offset"]) for name in ("order_header", "dead_letter") for row in rows(store, name)
    ]
    assert sorted(places) == [(partition, offset) for partition, found in sent.items() for offset, _ in found]
    assert sum(result.dead_letters for result in manifest.results) == 4


def test_rows_carry_event_hour_and_arrival(done: Done) -> None:
    header = next(row for row in rows(done[0], "order_header") if row["order_id"] == "A3")
    assert header["event_hour"] == datetime(2011, 1, 4, 11)
    assert header["slice_id"] == "hour-20110104t100000"
    assert abs(datetime.now(UTC).replace(tzinfo=None) - header["arrival_ts"]) < timedelta(hours=1)
    assert done[2].hours() == {"hour-20110104t100000": ["2011-01-04T10:00:00", "2011-01-04T11:00:00"]}


def test_dead_letters_say_why_and_hold_the_message(done: Done) -> None:
    found = {(row["partition"], row["offset"]): row for row in rows(done[0], "dead_letter")}
    assert "malformed" in found[0, 2]["reason"]
    assert found[0, 2]["payload"] == "{broken"
    assert "EUR" in found[0, 10]["reason"]
    assert found[3, 1]["payload"] == "\\xff\\x00"
    assert (found[3, 2]["reason"], found[3, 2]["payload"]) == ("empty message", "")


def test_archive_holds_the_bytes_as_they_arrived(done: Done, sent: Sent) -> None:
    found: Sent = {partition: [] for partition in sent}
    for partition in sent:
        for file in sorted((done[0] / "archive" / TOPIC / str(partition)).glob("*.parquet")):
            found[partition] += [(row["offset"], row["value"]) for row in pq.ParquetFile(file).read().to_pylist()]
    assert {partition: sorted(records) for partition, records in found.items()} == sent


def test_manifest_lists_exactly_the_files_with_their_rows_and_sizes(done: Done) -> None:
    store, planned, manifest = done
    folder = store / "loads" / planned.load_id
    listed = {file.path: (file.rows, file.size_bytes) for result in manifest.results for file in result.files}
    found = {
        str(path.relative_to(folder)): (pq.ParquetFile(path).metadata.num_rows, path.stat().st_size)
        for path in folder.rglob("*.parquet")
    }
    assert listed == found


def test_second_run_writes_the_same_content_and_leaves_no_half_file(broker: Broker, done: Done) -> None:
    store, planned, manifest = done
    before = contents(store)
    again = run(broker, planned)
    assert contents(store) == before
    assert sorted(map(repr, again.results)) == sorted(map(repr, manifest.results))
    assert [path for path in before if path.endswith(".part")] == []


def test_other_chunks_give_the_same_rows(broker: Broker, done: Done, tmp_path: Path) -> None:
    run(broker, plan(broker, tmp_path, size=100_000))
    for table in ("order_header", "order_line", "dead_letter"):
        assert rows(tmp_path, table) == rows(done[0], table)


def test_empty_slice_has_a_manifest(broker: Broker, tmp_path: Path) -> None:
    assert run(broker, Plan("hour-empty", tmp_path.as_uri(), (), {})).results == ()


@pytest.mark.usefixtures("sent")
def test_holes_at_both_ends_of_a_chunk_are_counted(broker: Broker, tmp_path: Path) -> None:
    chunks = (
        Chunk("hour-test", TOPIC, 0, 4, 9),
        Chunk("hour-test", TOPIC, 0, 8, 10),
        Chunk("hour-test", TOPIC, 0, 10, 12),
    )
    manifest = run(broker, Plan("hour-holes", tmp_path.as_uri(), chunks, references.pin(tmp_path.as_uri())))
    found = {result.chunk.start: (result.delivered, result.holes) for result in manifest.results}
    assert found == {4: (0, 5), 8: (1, 1), 10: (1, 1)}


@pytest.mark.usefixtures("sent")
def test_log_that_ends_before_its_plan_is_named(broker: Broker, tmp_path: Path) -> None:
    text = failure(broker.bootstrap, tmp_path, Chunk("hour-test", TOPIC, 0, 0, 5), Chunk("hour-test", TOPIC, 3, 0, 40))
    assert "sales.orders[3] 0..39: the log ends at 4; was the topic truncated?" in text


@pytest.mark.usefixtures("sent")
def test_partition_that_does_not_exist_is_named(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STALL_S", 1)
    assert "sales.orders[9] 0..4: " in failure(broker.bootstrap, tmp_path, Chunk("hour-test", TOPIC, 9, 0, 5))


def test_broker_that_is_down_is_told_with_the_chunk_and_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STALL_S", 1)
    (port,) = free_ports(1)
    text = failure(f"127.0.0.1:{port}", tmp_path, Chunk("hour-test", TOPIC, 0, 0, 5))
    assert re.search(rf"sales\.orders\[0\] 0\.\.4: no answer .*(127\.0\.0\.1:{port}|brokers are down)", text)


@pytest.mark.usefixtures("done")
def test_expired_offsets_are_named_and_nothing_is_skipped(broker: Broker, tmp_path: Path) -> None:
    until_offset = TopicPartition(TOPIC, 1, 7)
    broker.admin.delete_records([until_offset])[TopicPartition(TOPIC, 1)].result()
    text = failure(broker.bootstrap, tmp_path, Chunk("hour-test", TOPIC, 1, 0, 21))
    assert "sales.orders[1] 0..20: these offsets have left the log" in text
    assert read_log(broker)[TOPIC, 1].first == 7
