"""Copies, sessions and minutes: what is counted, whatever the batches and wherever the state is made anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import storage
from include.beam import live
from include.beam.live_copies import TAKEN, Copies, Sums
from include.beam.live_minutes import CLOSED, FINAL, TOLD, WRITTEN, OpenMinutes, Outcome, Row, platform_wide
from include.beam.live_parse import Counted, Trade, Visit
from include.beam.live_sink import Message, WriteMinutes, notice_of, position_uri, signals_uri, table
from include.beam.live_sink import _iso as iso
from include.functions.live_loader import load

START_MS = 1_795_392_000_000
MINUTE = START_MS // 60_000


def visit(number: int, event_ms: int, arrival_ms: int, session: str) -> Visit:
    return Visit(f"e{number}", event_ms // 60_000, arrival_ms, session, "France", "vc"[number % 2])


def counted(visits: list[Visit], trades: list[Trade] | None = None) -> bytes:
    arrivals = [visit.arrival_ms for visit in visits] + [trade.arrival_ms for trade in trades or ()]
    newest_ms = max(arrivals, default=START_MS)
    return msgspec.msgpack.encode(Counted("web", len(visits), {}, 0, newest_ms, visits, trades or []))


def total(sums: list[Sums]) -> Counter[tuple[int, int]]:
    """(minute, place of the value) -> sum, of activity."""
    found: Counter[tuple[int, int]] = Counter()
    for each in sums:
        for minute, _, _, *values in each.activity:
            found.update({(minute, at): value for at, value in enumerate(values)})
    return +found


@st.composite
def logs(draw: st.DrawFn) -> list[Visit]:
    """A partition's accepted visits, in log order, with copies and pauses."""
    now, found = START_MS, list[Visit]()
    for number in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 700, 20_000, 400_000, 1_800_000, 1_800_001]))
        event_ms = now - draw(st.sampled_from([0, 10_000, 60_000, -300_000]))
        found.append(visit(number, event_ms, now, f"s{draw(st.integers(0, 3))}"))
        if draw(st.booleans()):
            copy = draw(st.sampled_from(found))
            if now <= (copy.minute + 1) * 60_000 + 60_000:
                found.append(msgspec.structs.replace(copy, arrival_ms=now))
    return found


@given(logs(), st.integers(0, 2**32))
def test_counts_are_the_same_for_all_batches_and_after_every_making_anew(log: list[Visit], seed: int) -> None:
    random, seen, last = Random(seed), set[str](), dict[str, int]()
    expected: Counter[tuple[int, int]] = Counter()
    for each in log:
        apart_ms = each.arrival_ms - last.get(each.session_id, -(10**12))
        last[each.session_id] = each.arrival_ms
        if each.event_id not in seen:
            seen.add(each.event_id)
            expected[each.minute, 2] += apart_ms > 1_800_000
            expected[each.minute, 3 if each.what == "v" else 4] += 1
    copies, sums, at = Copies(MINUTE - 10), [], 0
    while at < len(log):
        size = random.randrange(1, 8)
        sums.append(copies.take(TAKEN, counted(log[at : at + size])))
        at += size
        if random.random() < 0.3:
            copies.forget(log[min(at, len(log)) - 1].arrival_ms)
            state, copies = copies.dump(), Copies(MINUTE - 10)
            copies.load(state)
    assert total(sums) == +expected


def test_state_of_a_partition_ends_with_what_could_still_matter() -> None:
    copies = Copies(MINUTE)
    copies.take(TAKEN, counted([visit(1, START_MS, START_MS, "s1")]))
    copies.forget(START_MS + 120_000)
    assert list(copies.ids) == ["e1"]
    copies.forget(START_MS + 120_001)
    assert not copies.ids
    assert copies.sessions
    copies.forget(START_MS + 1_800_001)
    assert copies.is_empty


def test_minutes_before_the_first_are_left_out_and_their_sessions_are_known() -> None:
    copies = Copies(MINUTE + 1)
    first = copies.take(TAKEN, counted([visit(1, START_MS, START_MS, "s1")]))
    assert first.activity == []
    second = copies.take(TAKEN, counted([visit(2, START_MS + 60_000, START_MS + 60_000, "s1")]))
    assert second.activity == [(MINUTE + 1, "France", "web", 0, 0, 0, 1, 0)]


def test_order_and_its_copy_count_once() -> None:
    trade = Trade("o1", MINUTE, START_MS, "France", "web", "o", [("Lights", 2, 5_000)])
    copies = Copies(MINUTE)
    blob = counted([], [trade, msgspec.structs.replace(trade, arrival_ms=START_MS + 59_000)])
    sums = copies.take(TAKEN, blob)
    assert sums.sales == [(MINUTE, "France", "Lights", "web", 2, 5_000)]
    assert sums.activity == [(MINUTE, "France", "web", 1, 0, 0, 0, 0)]


def sums(minute: int, views: int) -> bytes:
    activity = [(minute, "France", "web", 0, 0, 0, views, 0)]
    return msgspec.msgpack.encode([Sums(views, {}, 0, START_MS, [], activity)])


def test_upsert_has_what_changed_since_the_last_one_with_its_whole_sums() -> None:
    minutes = OpenMinutes(MINUTE)
    minutes.take(TAKEN, sums(MINUTE, 2))
    assert [row.views for row in minutes.take(WRITTEN, b"")] == [2]
    minutes.take(TAKEN, sums(MINUTE + 1, 5))
    again = OpenMinutes(0)
    again.load(minutes.dump())
    assert [(row.minute, row.views) for row in again.take(WRITTEN, b"")] == [(MINUTE + 1, 5)]
    assert again.take(WRITTEN, b"") == []


def test_closed_minutes_leave_and_nothing_may_come_for_them() -> None:
    minutes = OpenMinutes(MINUTE)
    minutes.take(TAKEN, sums(MINUTE, 2))
    minutes.take(TAKEN, sums(MINUTE + 1, 3))
    done = minutes.take(CLOSED, (MINUTE + 1).to_bytes(8, "big"))
    assert [(row.minute, row.views) for row in done] == [(MINUTE, 2)]
    assert platform_wide(MINUTE, done) == (START_MS, 0, 2)
    with pytest.raises(AssertionError, match=f"minute {MINUTE} is final"):
        minutes.take(TAKEN, sums(MINUTE, 1))


def test_batch_says_money_exactly_and_final_beats_every_other_version() -> None:
    rows = [Row(MINUTE, "sales", "France", "Lights", "web", units=2, net_sales=-5_001)]
    partial = Outcome(rows, 17, None, 10, {"a": 2}, 1, START_MS)
    final = Outcome(rows, FINAL + 3, START_MS + 60_000, 10, {"a": 2}, 1, START_MS)
    (row,) = table(final).to_pylist()
    assert str(row["net_sales"]) == "-5.0010"
    assert row["is_final"]
    assert row["version"] > 2**61 > table(partial)["version"][0].as_py()
    notice = notice_of(final, "b1", "file:///b1.parquet", row["minute_ts"])
    assert notice["minutes"] == [iso(START_MS)] * 2
    assert notice["final_until"] == iso(START_MS + 60_000)
    assert (notice["events"], notice["rejected"], notice["late_to_stream"]) == (10, 2, 1)


def test_what_was_read_is_kept_until_it_is_told() -> None:
    minutes = OpenMinutes(MINUTE)
    minutes.take(TAKEN, sums(MINUTE, 2))
    minutes.take(CLOSED, (MINUTE + 1).to_bytes(8, "big"))
    minutes.take(TAKEN, sums(MINUTE + 1, 3))
    minutes.take(WRITTEN, b"")
    assert minutes.totals[0] == 5
    minutes.take(TOLD, b"")
    assert minutes.totals[0] == 0


def test_final_minutes_without_rows_are_told_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Message] = []
    write = WriteMinutes(tmp_path.as_uri(), "p")
    monkeypatch.setattr(write, "publisher", SimpleNamespace(publish=said.extend), raising=False)
    write.process(Outcome([], FINAL + 3, START_MS, 4, {"iot.readings: not JSON": 4}, 0, 0))
    (notice,) = [load.decode(message.data) for message in said]
    assert (notice.rows, notice.minutes, notice.uri, notice.rejected) == (0, None, "", 4)
    assert notice.final_until is not None
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["position.json"]


def test_job_goes_on_where_both_its_minutes_and_its_signals_are_out(tmp_path: Path) -> None:
    store = tmp_path.as_uri()
    assert live.since(store, START_MS + 1) == START_MS + 60_000
    storage.write_json(position_uri(store), {"final_until": iso(START_MS + 120_000)})
    assert live.since(store, START_MS + 300_000) == START_MS + 120_000
    storage.write_json(signals_uri(store), {"until": iso(START_MS + 60_000)})
    assert live.since(store, START_MS + 300_000) == START_MS + 60_000
