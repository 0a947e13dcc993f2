"""From plan to publication on a real warehouse: all of a slice is visible, once, or nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from include.beam.plan import Manifest
from madhatter import ledger, publish, staging
from tests.pipeline.chain import TOPIC, Chain, order
from tests.stand_ins import Snowflake

FIRST, SECOND, THIRD = "hour-20110104t100000", "hour-20110104t110000", "hour-20110104t120000"


def test_slice_is_visible_with_every_offset_accounted_for(chain: Chain) -> None:
    chain.send(0, order("A"), None, b"{broken", order("B"), order("A"), None)
    chain.send(1, *(order(f"C{number}") for number in range(12)))
    chain.run(FIRST)
    assert chain.counts(FIRST) == {0: (4, 2, 2, 1, 1, 0), 1: (12, 0, 12, 0, 0, 0)}
    assert chain.state(FIRST) == "committed"
    assert chain.is_balanced()
    (letter,) = chain.warehouse.rows("select * from ops.dead_letter")
    assert (letter["partition"], letter["offset"], letter["payload"]) == (0, 2, "{broken")
    (amount,) = chain.warehouse.rows("select count(*) as n, sum(quantity * unit_price) as amount from core.order_line")
    assert (amount["n"], amount["amount"]) == (14, Decimal("15.300") * 14)


def test_first_of_equal_events_in_the_log_wins(chain: Chain) -> None:
    chain.send(1, order("A", country="France"))
    chain.send(0, order("B"), order("A", country="Spain"), order("A", country="Italy"))
    chain.run(FIRST)
    rows = chain.warehouse.rows("select partition, offset, country from core.order_header where order_id = 'A'")
    assert rows == [{"partition": 0, "offset": 1, "country": "Spain"}]
    (line,) = chain.warehouse.rows("select country from core.order_line where order_id = 'A'")
    assert line["country"] == "Spain"


def test_duplicates_of_earlier_slices_are_counted_where_they_were_delivered(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    chain.run(FIRST)
    chain.send(0, order("B"))
    chain.send(1, order("A"), order("C"), order("C"))
    chain.run(SECOND)
    assert chain.counts(FIRST)[0] == (2, 0, 2, 0, 0, 0)
    assert chain.counts(SECOND) == {0: (1, 0, 0, 1, 0, 0), 1: (3, 0, 1, 2, 0, 0)}
    assert chain.is_balanced()


def test_same_id_on_another_date_is_another_event(chain: Chain) -> None:
    chain.send(0, order("A", "2011-01-04T23:59:59Z"), order("A", "2011-01-05T00:00:00Z"))
    chain.run(FIRST)
    assert chain.counts(FIRST)[0] == (2, 0, 2, 0, 0, 0)


def test_empty_slice_and_slice_of_dead_letters_only_are_committed(chain: Chain) -> None:
    chain.run(FIRST)
    chain.send(0, b"junk", None)
    chain.run(SECOND)
    assert (chain.state(FIRST), chain.state(SECOND)) == ("committed", "committed")
    assert chain.counts(SECOND)[0] == (1, 1, 0, 0, 1, 0)
    assert chain.is_balanced()


def test_publishing_again_changes_nothing(chain: Chain) -> None:
    chain.send(0, order("A"), order("A"), b"junk")
    chain.run(FIRST)
    chain.send(1, order("A"), order("B", "2011-01-04T09:00:00Z", country="France"))
    chain.run(SECOND)
    before = chain.content()
    for slice_id in (FIRST, SECOND, FIRST):
        chain.publish(slice_id)
        assert chain.content() == before
    chain.transform(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    assert chain.content() == before


def test_slice_that_lost_an_event_of_an_hour_recomputes_that_hour(chain: Chain) -> None:
    chain.send(0, order("A", "2011-01-04T09:00:00Z"), order("B", "2011-01-04T10:00:00Z"))
    chain.run(FIRST)
    chain.log[TOPIC, 0][0] = b"junk"  # as if its contract had become stricter
    chain.transform(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    rows = chain.warehouse.rows("select order_hour from marts.sales_hourly")
    assert rows == [{"order_hour": datetime(2011, 1, 4, 10)}]


def test_erased_events_are_counted_and_stay_out(chain: Chain) -> None:
    chain.warehouse.run("insert into ops.erased (event_id, erased_ts) values ('order:A', sysdate())")
    chain.send(0, order("A"), order("A"), order("B"))
    chain.run(FIRST)
    assert chain.counts(FIRST)[0] == (3, 0, 1, 0, 0, 2)
    assert [row["order_id"] for row in chain.warehouse.rows("select order_id from core.order_line")] == ["B"]
    assert chain.is_balanced()


def _delete_the_staged_lines_of_an_event(chain: Chain, _: object) -> None:
    chain.warehouse.run("delete from staging.order_line where order_id = 'D'")


def _delete_a_staged_event(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("delete from staging.order_header where order_id = 'D'")


def _delete_a_staged_dead_letter(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("delete from staging.dead_letter where slice_id = :s", s=SECOND)


def _claim_one_more_hole(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run(
        "update ops.slice_partition set holes = holes + 1 where slice_id = :s and partition = 1", s=SECOND
    )


def _claim_one_more_delivered(chain: Chain, manifest: Manifest) -> None:
    first, *others = manifest.results
    more = replace(first, delivered=first.delivered + 1)
    chain.stage(SECOND, Manifest(SECOND, (more, *others), 0.1))


def _put_an_event_into_core_twice(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("insert into core.order_header select * from core.order_header where order_id = 'A'")


Tamper = Callable[[Chain, Manifest], None]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (
            _delete_a_staged_event,
            r"sales\.orders\[0\]: delivered 3 are not published 1 \+ duplicates 0 ",
        ),
        (_delete_the_staged_lines_of_an_event, r"sales\.orders\[0\]: event order:D has no row in core\.order_line"),
        (_delete_a_staged_dead_letter, r"sales\.orders\[0\]: 0 dead letters are stored, the manifest has 1"),
        (_claim_one_more_hole, r"sales\.orders\[1\]: delivered 1 and 1 holes are not the 1 offsets"),
        (_claim_one_more_delivered, r"sales\.orders\[0\]: delivered 4 and 0 holes are not the 3 offsets"),
        (_put_an_event_into_core_twice, r"order:A of 2011-01-04 is in core\.order_header 2 times"),
    ],
)
def test_false_equation_is_named_and_rolls_everything_back(chain: Chain, tamper: Tamper, words: str) -> None:
    chain.send(0, order("A"))
    chain.run(FIRST)
    chain.send(0, order("D"), b"junk", order("E", country="France"))
    chain.send(1, order("F", description="NEW NAME"))
    tamper(chain, chain.staged(SECOND))
    before = chain.content()
    with pytest.raises(publish.PublishFault, match=rf"load {SECOND}: .*{words}"):
        chain.publish(SECOND)
    assert chain.content() == before
    assert chain.state(SECOND) == "audited"


def test_tampered_slice_is_published_when_it_is_staged_again(chain: Chain) -> None:
    chain.send(0, order("D"))
    chain.staged(FIRST)
    _delete_a_staged_event(chain, Manifest.read(chain.store, FIRST))
    with pytest.raises(publish.PublishFault):
        chain.publish(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    assert chain.is_balanced()


@pytest.mark.parametrize("state", ["planned", "staged", "held"])
def test_slice_that_is_not_audited_is_not_published(chain: Chain, state: str) -> None:
    chain.send(0, order("A"))
    chain.staged(FIRST)
    ledger.set_state(chain.warehouse, FIRST, state)
    with pytest.raises(publish.PublishFault, match=rf"slice {FIRST} is {state}: only an audited one is published"):
        chain.publish(FIRST)
    assert chain.content("core", "marts") == {name: [] for name in chain.content("core", "marts")}


def test_unknown_slice_is_not_published(chain: Chain) -> None:
    with pytest.raises(publish.PublishFault, match="slice hour-unknown is unknown"), chain.warehouse.transaction():
        publish.publish(chain.warehouse, "hour-unknown", {"hour-unknown": []})


def test_held_slice_does_not_stop_later_ones_and_balances_once_it_is_published(chain: Chain) -> None:
    chain.send(0, order("A"))
    chain.staged(FIRST)
    ledger.set_state(chain.warehouse, FIRST, "held")
    chain.send(0, order("B"), order("A"))
    chain.run(SECOND)
    assert chain.counts(SECOND)[0] == (2, 0, 2, 0, 0, 0)
    ledger.set_state(chain.warehouse, FIRST, "audited")
    chain.publish(FIRST)
    assert chain.counts(FIRST)[0] == (1, 0, 0, 1, 0, 0)
    assert chain.is_balanced()


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def _replace_by_text(file: Path) -> None:
    file.write_text("not Parquet")


@pytest.mark.parametrize(
    ("harm", "table"),
    [
        (_truncate, "order_header"),
        (_truncate, "order_line"),
        (_replace_by_text, "order_line"),
        (Path.unlink, "order_line"),
        (Path.unlink, "dead_letter"),
    ],
)
def test_file_that_is_broken_or_missing_never_loads(chain: Chain, harm: Callable[[Path], None], table: str) -> None:
    chain.send(0, order("A"), b"junk")
    chain.send(1, order("B"), b"junk")
    chain.plan(FIRST)
    chain.transform(FIRST)
    file = chain.file(FIRST, table)
    harm(file)
    before = chain.content("staging", "ops")
    with pytest.raises(staging.LoadDamaged, match=file.name):
        chain.stage(FIRST)
    assert chain.content("staging", "ops") == before
    chain.transform(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    assert chain.is_balanced()


def test_file_with_other_rows_than_the_manifest_says_is_named(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    chain.plan(FIRST)
    (result,) = chain.transform(FIRST).results
    files = tuple(replace(f, rows=f.rows + 1) if f.table == "order_line" else f for f in result.files)
    with pytest.raises(staging.LoadDamaged, match=rf"staging\.order_line: .*{TOPIC}-0-0-2\.parquet"):
        chain.stage(FIRST, Manifest(FIRST, (replace(result, files=files),), 0.1))
    assert chain.content("staging") == {name: [] for name in chain.content("staging")}


@pytest.mark.parametrize("path", ["order_line/x'); drop table core.order_line; --.parquet", "order line/a.parquet"])
def test_file_name_that_is_no_plain_path_is_refused(chain: Chain, path: str) -> None:
    chain.send(0, order("A"))
    chain.plan(FIRST)
    (result,) = chain.transform(FIRST).results
    files = tuple(replace(file, path=path) for file in result.files)
    with pytest.raises(staging.LoadDamaged, match="cannot be a staged file's path"):
        chain.stage(FIRST, Manifest(FIRST, (replace(result, files=files),), 0.1))


def test_more_files_than_one_copy_takes_are_all_loaded(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MAX_FILES", 2)
    chain.chunk_size = 1
    chain.send(0, *(order(f"A{number}") for number in range(7)))
    chain.run(FIRST)
    assert chain.counts(FIRST)[0] == (7, 0, 7, 0, 0, 0)


def test_staging_again_replaces_what_was_staged(chain: Chain) -> None:
    chain.send(0, order("A"), b"junk")
    chain.staged(FIRST)
    before = chain.content("staging", "ops")
    chain.stage(FIRST)
    assert chain.content("staging", "ops") == before


def _together(*works: Callable[[], Any]) -> list[Any]:
    """Runs the works at once; their results, or what they raised."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(at: int) -> None:
        barrier.wait(30)
        try:
            results[at] = works[at]()
        except Exception as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_planners_of_one_window_at_once_agree(chain: Chain, snowflake: Snowflake) -> None:
    chain.send(0, *(order(f"A{number}") for number in range(9)))
    sessions = [snowflake.open() for _ in range(3)]
    found = _together(*(lambda s=s: chain.plan(FIRST, s) for s in sessions))  # type: ignore[misc]
    assert found[0] == found[1] == found[2]
    (row,) = chain.warehouse.rows("select count(*) as n from ops.slice_partition")
    assert row["n"] == len(chain.log)
    for session in sessions:
        session.close()


def test_planners_of_different_windows_at_once_share_no_offset(chain: Chain, snowflake: Snowflake) -> None:
    chain.send(0, *(order(f"A{number}") for number in range(9)))
    chain.send(1, order("B"))
    sessions = [snowflake.open() for _ in range(3)]
    names = (FIRST, SECOND, THIRD)
    found = _together(*(lambda n=n, s=s: chain.plan(n, s) for n, s in zip(names, sessions, strict=True)))  # type: ignore[misc]
    assert sorted(one.offsets for one in found) == [0, 0, 10]
    for session in sessions:
        session.close()


def test_planned_slice_is_returned_as_it_is_when_the_log_has_grown(chain: Chain) -> None:
    chain.send(0, order("A"))
    planned = chain.plan(FIRST)
    chain.send(0, order("B"))
    assert chain.plan(FIRST) == planned
    assert [(c.start, c.end) for c in chain.plan(SECOND).claims] == [(1, 2), (0, 0)]
