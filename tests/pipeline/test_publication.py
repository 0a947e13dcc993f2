"""From plan to publication on a real warehouse: all of a slice is visible, once, or nothing of it."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from snowflake.connector.errors import Error

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
    assert chain.counts(FIRST) == {0: (2, 0, 2, 0, 0, 0), 1: (0, 0, 0, 0, 0, 0)} or chain.counts(FIRST)[0][2] == 2
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
    chain.log[0][0] = b"junk"  # as if its contract had become stricter
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


def _delete_a_staged_event(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("delete from staging.order_header where order_id = 'D'")


def _delete_a_staged_dead_letter(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("delete from staging.dead_letter where slice_id = :s", s=SECOND)


def _claim_one_more_hole(chain: Chain, _: Manifest) -> None:
    chain.warehouse.run("update ops.slice_partition set holes = holes + 1 where slice_id = :s and partition = 1", s=SECOND)


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
        (_delete_a_staged_event, r"sales\.orders\[0\]: delivered 3 are not published 1 \+ duplicates 0 \+ dead letters 1"),
        (_delete_a_staged_dead_letter, r"sales\.orders\[0\]: 0 dead letters are stored, the manifest has 1"),
        (_claim_one_more_hole, r"sales\.orders\[1\]: delivered 1 and 1 holes are not the 1 offsets"),
        (_claim_one_more_delivered, r"sales\.orders\[0\]: delivered 4 and 0 holes are not the 3 offsets"),
        (_put_an_event_into_core_twice, r"order:A of 2011-01-04 is in core 2 times"),
    ],
)
def test_false_equation_is_named_and_rolls_everything_back(chain: Chain, tamper: Tamper, words: str) -> None:
    chain.send(0, order("A"))
    chain.run(FIRST)
    chain.send(0, order("D"), b"junk", order("E", country="France"))
    chain.send(1, order("F", description="NEW NAME"))
    tamper(chain, chain.staged(SECOND))
    before = chain.content()
    with pytest.raises(publish.PublishFault, match=rf"slice {SECOND}: .*{words}"):
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
        publish.publish(chain.warehouse, "hour-unknown", [])


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


@pytest.mark.parametrize("harm", [_truncate, _replace_by_text, Path.unlink])
@pytest.mark.parametrize("table", ["order_header", "order_line", "dead_letter"])
def test_file_that_is_broken_or_missing_never_loads(chain: Chain, harm: Callable[[Path], None], table: str) -> None:
    chain.send(0, order("A"), b"junk")
    chain.send(1, order("B"), b"junk")
    chain.plan(FIRST)
    chain.transform(FIRST)
    file = chain.file(FIRST, table)
    harm(file)
    before = chain.content("staging", "ops")
    with pytest.raises(Error, match=file.name):
        chain.stage(FIRST)
    assert chain.content("staging", "ops") == before
    chain.transform(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    assert chain.is_balanced()


def test_file_with_other_rows_than_the_manifest_says_is_named(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    chain.plan(FIRST)
    result, = chain.transform(FIRST).results
    files = tuple(replace(f, rows=f.rows + 1) if f.table == "order_line" else f for f in result.files)
    with pytest.raises(staging.StagingMismatch, match=rf"staging\.order_line: .*{TOPIC}-0-0-2\.parquet"):
        chain.stage(FIRST, Manifest(FIRST, (replace(result, files=files),), 0.1))
    assert chain.content("staging") == {name: [] for name in chain.content("staging")}


@pytest.mark.parametrize("path", ["order_line/x'); drop table core.order_line; --.parquet", "order line/a.parquet"])
def test_file_name_that_is_no_plain_path_is_refused(chain: Chain, path: str) -> None:
    chain.send(0, order("A"))
    chain.plan(FIRST)
    result, = chain.transform(FIRST).results
    files = tuple(replace(file, path=path) for file in result.files)
    with pytest.raises(ValueError, match="cannot be the path of a staged file"):
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


PRODUCTS = ("22752", "85123A", "POST")
NAMES = ("BOX", "BIG BOX", "box?")
COUNTRIES = ("United Kingdom", "France", "Spain")


def random_orders(chance: random.Random, count: int, label: str) -> list[bytes]:
    """Orders of three products and three customers over two days, in any order of time."""
    made = []
    for number in range(count):
        lines = [
            {
                "line_no": line_no,
                "product_id": chance.choice(PRODUCTS),
                "description": chance.choice([*NAMES, None]),
                "quantity": chance.choice([-3, 0, 1, 2, 10]),
                "unit_price": chance.choice([0, 0.001, 2.55, 7.65, 1000]),
            }
            for line_no in range(1, chance.randint(2, 4))
        ]
        moment = datetime(2011, 1, 4) + timedelta(minutes=20 * chance.randint(0, 143))
        made.append(
            order(
                f"{label}{number}",
                f"{moment.isoformat()}Z",
                lines=lines,
                order_type=chance.choice(["sale", "sale", "return", "adjustment", "gift"]),
                customer_id=chance.choice(["1", "2", None]),
                country=chance.choice(COUNTRIES),
                channel=chance.choice(["web", "store"]),
            )
        )
    return made


@pytest.fixture
def random_chain(chain: Chain) -> Chain:
    """Five published slices of random orders, so that most are late to the slices before; with duplicates."""
    chance = random.Random(11)
    for number in range(5):
        orders = random_orders(chance, 25, f"R{number}-")
        chain.send(0, *orders[:15])
        chain.send(1, *orders[15:], *orders[:3], b"junk")
        chain.run(f"hour-{number}")
    return chain


def events(chain: Chain) -> list[dict[str, Any]]:
    """The log's valid events, each once."""
    found = {}
    for partition in sorted(chain.log):
        for value in chain.log[partition]:
            if value and value.startswith(b"{"):
                event = json.loads(value, parse_float=Decimal)
                found.setdefault(event["event_id"], event)
    return list(found.values())


def versions(observed: list[tuple[str, str, str]]) -> list[tuple[str, str, datetime, datetime | None, bool]]:
    """SCD2 of (key, event_ts, value): the largest value of a moment holds until the next different one."""
    at: dict[str, dict[datetime, str]] = defaultdict(dict)
    for key, event_ts, value in observed:
        moment = datetime.fromisoformat(event_ts.removesuffix("Z"))
        at[key][moment] = max(value, at[key].get(moment, ""))
    found = []
    for key, values in at.items():
        kept: list[tuple[datetime, str]] = []
        for moment in sorted(values):
            if not kept or kept[-1][1] != values[moment]:
                kept.append((moment, values[moment]))
        ends = [moment for moment, _ in kept[1:]]
        for (start, value), end in zip(kept, [*ends, None], strict=True):
            found.append((key, value, start, end, end is None))
    return sorted(found, key=lambda row: row[:3])


def test_product_versions_are_those_of_the_whole_history(random_chain: Chain) -> None:
    observed = [
        (line["product_id"], event["event_ts"], line["description"])
        for event in events(random_chain)
        for line in event["lines"]
        if line["description"] and line["unit_price"] > 0
    ]
    rows = random_chain.warehouse.rows("select * from core.product")
    found = [(r["product_id"], r["product_name"], r["valid_from_ts"], r["valid_to_ts"], r["is_current"]) for r in rows]
    assert sorted(found, key=lambda row: row[:3]) == versions(observed)


def test_customer_versions_are_those_of_the_whole_history(random_chain: Chain) -> None:
    observed = [(e["customer_id"], e["event_ts"], e["country"]) for e in events(random_chain) if e["customer_id"]]
    rows = random_chain.warehouse.rows("select * from core.customer")
    found = [(r["customer_id"], r["country"], r["valid_from_ts"], r["valid_to_ts"], r["is_current"]) for r in rows]
    assert sorted(found, key=lambda row: row[:3]) == versions(observed)


def test_late_change_of_a_name_is_placed_between_the_versions_around_it(chain: Chain) -> None:
    chain.send(0, order("A", "2011-01-04T08:00:00Z", description="OLD"))
    chain.send(0, order("B", "2011-01-04T12:00:00Z", description="OLD"))
    chain.run(FIRST)
    chain.send(0, order("C", "2011-01-04T10:00:00Z", description="NEW"))
    chain.run(SECOND)
    rows = chain.warehouse.rows("select * from core.product order by valid_from_ts")
    eight, ten, twelve = (datetime(2011, 1, 4, hour) for hour in (8, 10, 12))
    assert [(r["product_name"], r["valid_from_ts"], r["valid_to_ts"], r["is_current"]) for r in rows] == [
        ("OLD", eight, ten, False),
        ("NEW", ten, twelve, False),
        ("OLD", twelve, None, True),
    ]


MEASURES = ("orders", "return_orders", "units", "gross_sales", "returned_sales", "net_sales")


def independent_sales(chain: Chain, grain: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The sales of the log's events by DuckDB, with nothing of the platform's SQL."""
    path = chain.folder / "events.json"
    path.write_text("\n".join(json.dumps(event, default=float) for event in events(chain)))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(
            f"""
            with line as (
                select date_trunc('{grain}', event_ts::timestamptz::timestamp) as at, order_id, order_type, country,
                    channel, unnest(lines) as l
                from read_json(?, format = 'newline_delimited') where order_type in ('sale', 'return')
            )
            select at, country, channel, count(distinct order_id) filter (order_type = 'sale'),
                count(distinct order_id) filter (order_type = 'return'), sum(l.quantity),
                sum(l.quantity * l.unit_price::decimal(12, 3)) filter (l.quantity > 0),
                sum(-l.quantity * l.unit_price::decimal(12, 3)) filter (l.quantity < 0),
                sum(l.quantity * l.unit_price::decimal(12, 3))
            from line group by all
            """,
            [str(path)],
        ).fetchall()
    return {row[:3]: tuple(value or 0 for value in row[3:]) for row in found}


def test_hourly_sales_are_what_the_events_say(random_chain: Chain) -> None:
    rows = random_chain.warehouse.rows("select * from marts.sales_hourly")
    found = {(r["order_hour"], r["country"], r["channel"]): tuple(r[name] for name in MEASURES) for r in rows}
    assert len(found) == len(rows)
    assert found == independent_sales(random_chain, "hour")


def test_daily_sales_are_what_the_events_say_and_again_the_same(random_chain: Chain) -> None:
    expected = independent_sales(random_chain, "day")
    for _ in range(2):
        publish.roll_up(random_chain.warehouse, ["2011-01-04", "2011-01-05"])
        rows = random_chain.warehouse.rows("select * from marts.sales_daily")
        found = {
            (datetime.combine(r["order_date"], datetime.min.time()), r["country"], r["channel"]): tuple(
                r[name] for name in MEASURES
            )
            for r in rows
        }
        assert len(found) == len(rows)
        assert found == expected


def test_daily_products_are_what_the_events_say(random_chain: Chain) -> None:
    publish.roll_up(random_chain.warehouse, ["2011-01-04", "2011-01-05"])
    expected: Counter[tuple[str, str, str]] = Counter()
    for event in events(random_chain):
        if event["order_type"] in ("sale", "return"):
            for line in event["lines"]:
                key = (event["event_ts"][:10], event["country"], line["product_id"])
                expected[key] += line["quantity"] * Decimal(line["unit_price"])  # type: ignore[assignment]
    rows = random_chain.warehouse.rows("select * from marts.product_daily")
    found = {(r["order_date"].isoformat(), r["country"], r["product_id"]): r["net_sales"] for r in rows}
    assert found == dict(expected)


def test_random_slices_are_balanced_everywhere(random_chain: Chain) -> None:
    rows = random_chain.warehouse.rows("select * from ops.reconciliation order by partition")
    assert [row["is_balanced"] for row in rows] == [True, True]
    assert [row["delivered"] for row in rows] == [75, 70]
    assert [row["dead_letters"] for row in rows] == [0, 5]
    assert sum(row["published"] for row in rows) == len(events(random_chain)) == 125
    assert sum(row["duplicates"] for row in rows) == 15


def test_open_days_are_shown_from_their_hours_until_they_are_rolled_up(random_chain: Chain) -> None:
    before = random_chain.warehouse.rows("select * from reporting.sales_by_day")
    publish.roll_up(random_chain.warehouse, ["2011-01-04"])
    after = random_chain.warehouse.rows("select * from reporting.sales_by_day")
    assert sorted(map(repr, after)) == sorted(map(repr, before))
