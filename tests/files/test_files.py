"""A user's own files into a real broker: the tea shop's export, Parquet, and files that cannot be read."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from include.acceptance import refusals
from local.instance import ROOT
from tests.stand_ins import Broker

TOPIC = "sales.orders"
DATA = ROOT / "tests" / "data" / "tea_shop.csv"
MAP = DATA.with_name("tea_shop.map.yaml")
SIMPLE = """
topic: sales.orders
dates: {zone: Europe/London, formats: [iso, epoch_s]}
event:
  event_id: {template: "shop:{id}"}
  event_ts: at
  order_id: id
  order_type: {constant: sale}
  customer_id: customer
  country: {column: country, default: Unspecified}
  channel: {constant: store}
  currency: {constant: GBP}
  lines: {rows: {line_no: {position: true}, product_id: product, quantity: pieces, unit_price: price}}
"""
HEADER = "id,at,customer,country,product,pieces,price\n"


@dataclass
class Done:
    """What a run said and listed."""

    code: int
    out: str
    rejected: list[dict[str, str]]

    @property
    def reasons(self) -> dict[int, tuple[str, str]]:
        """Row -> (column, reason), without rows that only go with another."""
        own = [fault for fault in self.rejected if not fault["reason"].startswith("belongs to the event of")]
        return {int(fault["row"]): (fault["column"], fault["reason"]) for fault in own}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    started = Broker(tmp_path_factory.mktemp("kafka"))
    started.start()
    topic = NewTopic(TOPIC, 4, 1, config={"message.timestamp.type": "LogAppendTime"})
    started.admin.create_topics([topic])[TOPIC].result()
    yield started
    started.end()


@pytest.fixture
def replay(broker: Broker, tmp_path: Path) -> Callable[..., Done]:
    """Runs `python -m local.files` on a file and a mapping, or on their texts."""

    def run(file: Path | str | bytes, mapping: Path | str = SIMPLE, *options: str) -> Done:
        if not isinstance(file, Path):
            content = file if isinstance(file, bytes) else file.encode()
            file = tmp_path / "orders.csv"
            file.write_bytes(content)
        if isinstance(mapping, str):
            (tmp_path / "orders.map.yaml").write_text(mapping)
            mapping = tmp_path / "orders.map.yaml"
        listed = tmp_path / "rejected.csv"
        command = [sys.executable, "-m", "local.files", str(file), "--map", str(mapping), "--rejected", str(listed)]
        command += ["--bootstrap", broker.bootstrap, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        rows = []
        if listed.exists():
            with listed.open(newline="") as stream:
                rows = list(csv.DictReader(stream))
        return Done(done.returncode, done.stdout + done.stderr, rows)

    return run


def line(number: int, product: str, description: str | None, quantity: int, price: str) -> dict[str, Any]:
    """An order line as it is read from a message."""
    names = ("line_no", "product_id", "description", "quantity", "unit_price")
    return dict(zip(names, (number, product, description, quantity, Decimal(price))))


def sent(broker: Broker, prefix: str) -> list[tuple[bytes, bytes]]:
    """(key, value) of all messages whose event_id starts with the prefix."""
    found = [(message.key() or b"", message.value() or b"") for message in broker.read(TOPIC)]
    return [(key, value) for key, value in found if value.startswith(b'{"event_id":"' + prefix.encode())]


def test_every_row_of_the_tea_shop_is_in_an_event_or_listed_with_column_value_and_reason(
    replay: Callable[..., Done], broker: Broker
) -> None:
    done = replay(DATA, MAP)
    assert done.code == 0, done.out
    events = [json.loads(value, parse_float=Decimal) for _, value in sent(broker, "tea:")]
    lines = sum(len(event["lines"]) for event in events)
    assert (len(events), lines, len({fault["row"] for fault in done.rejected})) == (107, 260, 48)
    table = list(csv.reader(DATA.read_text(encoding="cp1252", errors="replace").splitlines()[3:], delimiter=";"))
    assert lines + 48 == len([cells for cells in table if cells])
    assert done.reasons[24] == ("Einzelpreis", "is no number (decimal ',', thousands '.')")
    assert next(fault["value"] for fault in done.rejected if fault["row"] == "24") == "1.23"
    assert {row: column for row, (column, _) in done.reasons.items()} == {
        15: "Einzelpreis",  # words for a price
        24: "Einzelpreis",  # a decimal point
        37: "Menge",  # half a piece
        47: "Datum",  # the 31st of February
        64: "Datum",  # in the hour that the clock skipped
        75: "",  # beside the next two
        76: "Beleg",
        77: "Beleg",
        78: "",
        91: "Art",  # a word that the mapping does not translate
        108: "Artikel",
        122: "Einzelpreis",  # negative
        135: "Bezeichnung",  # too long
        149: "Datum",  # 1989
        164: "Einzelpreis",
        193: "",
        194: "",  # a column too many
        195: "",
        219: "Bezeichnung",  # a byte that cp1252 does not have
        234: "",  # an order that has come before
    }


def test_tea_shop_events_have_the_exact_values_and_are_what_the_pipeline_accepts(
    replay: Callable[..., Done], broker: Broker
) -> None:
    replay(DATA, MAP)
    messages = dict.fromkeys(sent(broker, "tea:"))
    assert refusals(TOPIC, [value for _, value in messages], 1_800_000_000_000) == {}
    by_id = {json.loads(value)["order_id"]: (key, json.loads(value, parse_float=Decimal)) for key, value in messages}
    key, event = by_id["R5001"]
    assert key == b"40103"
    assert event == {
        "event_id": "tea:R5001",
        "event_ts": "2025-10-25T05:58:00Z",
        "order_id": "R5001",
        "order_type": "sale",
        "customer_id": "40103",
        "country": "United Kingdom",
        "channel": "web",
        "currency": "GBP",
        "lines": [
            line(1, "Z-014", None, 2, "3.10"),
            line(2, "T-005", "Earl Grey", 1, "5.40"),
            line(3, "T-005", "Earl Grey", 1, "5.40"),
        ],
    }
    events = [event for _, event in by_id.values()]
    samovars = {line["unit_price"] for e in events for line in e["lines"] if line["product_id"] == "Z-011"}
    assert samovars == {Decimal(1249)}
    assert {e["order_type"] for e in events} == {"sale", "return"}
    assert all(line["quantity"] < 0 for e in events if e["order_type"] == "return" for line in e["lines"])
    guests = [(key, e) for key, e in by_id.values() if e["customer_id"] is None]
    assert guests
    assert all(key.decode() == e["order_id"] for key, e in guests)


def test_sending_twice_makes_the_same_bytes(replay: Callable[..., Done], broker: Broker) -> None:
    file = HEADER + "".join(f"{n},2025-11-03 10:00:00,,,A,1,2.50\n" for n in range(50))
    mapping = SIMPLE.replace("shop:", "twice:")
    assert [replay(file, mapping).code for _ in range(2)] == [0, 0]
    assert set(Counter(sent(broker, "twice:")).values()) == {2}


def test_check_sends_nothing_and_lists_the_same_rows(replay: Callable[..., Done], broker: Broker) -> None:
    mapping = SIMPLE.replace("shop:", "check:")
    file = HEADER + "1,2025-11-03 10:00:00,,,A,1,2.50\n2,soon,,,A,1,2.50\n"
    checked = replay(file, mapping, "--check")
    assert "1 events of 1 rows would be sent" in checked.out
    assert sent(broker, "check:") == []
    assert replay(file, mapping).rejected == checked.rejected
    assert list(checked.reasons) == [3]


def test_exit_code_is_one_when_nothing_can_be_mapped_or_any_row_not_under_strict(replay: Callable[..., Done]) -> None:
    good, bad = "1,2025-11-03 10:00:00,,,A,1,2.50\n", "2,soon,,,A,1,2.50\n"
    assert replay(HEADER + bad, SIMPLE, "--check").code == 1
    assert replay(HEADER, SIMPLE, "--check").code == 1
    assert replay(HEADER + good + bad, SIMPLE, "--check").code == 0
    assert replay(HEADER + good + bad, SIMPLE, "--check", "--strict").code == 1
    assert replay(HEADER + good, SIMPLE, "--check", "--strict").code == 0


def test_file_without_faults_leaves_no_list(replay: Callable[..., Done]) -> None:
    assert len(replay(HEADER + "2,soon,,,A,1,2.50\n", SIMPLE, "--check").rejected) == 1
    done = replay(HEADER + "2,2025-11-03,,,A,1,2.50\n", SIMPLE, "--check")
    assert (done.code, done.rejected) == (0, [])
    assert "rejected" not in done.out


def test_parquet_keeps_its_types(replay: Callable[..., Done], broker: Broker, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": [1, 2, 3],
        "at": pa.array([1_762_164_000_000, 1_762_164_000_500, None], pa.timestamp("ms")),
        "customer": [17850.0, None, None],
        "country": ["Norway", None, "Norway"],
        "product": ["A", "B", "C"],
        "pieces": [1, -2, 3],
        "price": [2.55, 0.1, float("nan")],
        "unused": [b"\xff", b"", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "orders.parquet")
    done = replay(tmp_path / "orders.parquet", SIMPLE.replace("shop:", "parquet:"))
    events = {e["order_id"]: e for e in (json.loads(value) for _, value in sent(broker, "parquet:"))}
    assert {name: event["event_ts"] for name, event in events.items()} == {
        "1": "2025-11-03T10:00:00Z",
        "2": "2025-11-03T10:00:00.500000Z",
    }
    assert (events["1"]["customer_id"], events["1"]["lines"][0]["unit_price"]) == ("17850", 2.55)
    assert (events["2"]["customer_id"], events["2"]["country"]) == (None, "Unspecified")
    assert {(int(fault["row"]), fault["column"]) for fault in done.rejected} == {(3, "at"), (3, "price")}


@pytest.mark.parametrize(
    ("file", "mapping", "words"),
    [
        ("id;at\n1;2\n", SIMPLE, "has no column 'at', 'id'|has no column 'id', 'at'"),
        ("id,id\n1,2\n", SIMPLE, "more than one column 'id'"),
        ("", SIMPLE, "it has none"),
        (HEADER, SIMPLE.replace("topic:", "input: {encoding: utf-9}\ntopic:"), "no encoding 'utf-9'"),
        (HEADER, SIMPLE.replace("topic:", "input: {format: parquet}\ntopic:"), "no Parquet file"),
        (HEADER, SIMPLE.replace("topic:", "input: {encoding: utf-16}\ntopic:"), "is not utf-16"),
        (HEADER, SIMPLE.replace("topic:", "input: {delimiter: ;;}\ntopic:"), "input.delimiter"),
    ],
)
def test_file_that_cannot_be_read_is_named_with_what_to_look_at(
    replay: Callable[..., Done], file: str, mapping: str, words: str
) -> None:
    done = replay(file, mapping, "--check")
    assert done.code == 2
    assert any(word in done.out for word in words.split("|")), done.out
    assert "Traceback" not in done.out


def test_quote_that_is_never_closed_spoils_its_row_and_does_not_end_the_run(replay: Callable[..., Done]) -> None:
    good = "".join(f"{n},2025-11-03,,,A,1,2.50\n" for n in range(1, 40_001))
    done = replay(HEADER + '0,2025-11-03,,,"A,1,2.50\n' + good, SIMPLE, "--check")
    assert done.code == 0
    found = re.search(r"is a quote never closed\? lines 2 to (\d+) are in it", done.reasons[2][1])
    made = re.search(r"([\d,]+) events of", done.out)
    assert found
    assert made
    assert int(made[1].replace(",", "")) + len(done.reasons) - 1 == 40_002 - int(found[1])


def test_broker_that_is_away_is_an_error_with_what_to_do(replay: Callable[..., Done]) -> None:
    done = replay(HEADER + "1,2025-11-03,,,A,1,2.50\n", SIMPLE, "--bootstrap", "127.0.0.1:1")
    assert done.code == 2
    assert "no Kafka broker serves sales.orders at 127.0.0.1:1" in done.out
