"""Live against core: what is right, wrong, missing, late; and which hours are compared when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.functions.warehouse import Warehouse as Functions
from madhatter import live
from tests.pipeline import minutes
from tests.pipeline.chain import Chain
from tests.pipeline.minutes import Row, activity, connect, deliver, sales
from tests.stand_ins import Snowflake

HOUR = datetime(2011, 1, 4, 10)
KEY = HOUR.isoformat()
NOW = datetime(2011, 1, 4, 13, tzinfo=UTC)


@pytest.fixture
def loader(snowflake: Snowflake) -> Iterator[Functions]:
    """A function's session."""
    own = connect(snowflake)
    yield own
    own._drop()


def minute(number: int) -> datetime:
    return HOUR + timedelta(minutes=number)


def fill_core(chain: Chain, late_s: int = 0) -> None:
    """Sixty minutes, each with an order of ten pieces at 2.5, a visit with a view and a cart; the order of minute 30
    arrives so many seconds later."""
    for number in range(60):
        at = minute(number) + timedelta(seconds=20)
        after_s = late_s if number == 30 else 1
        common = {"id": f"e{number}", "at": at, "hour": HOUR, "arrival": at + timedelta(seconds=after_s)}
        chain.warehouse.run(
            "insert into core.order_header (event_id, event_ts, event_hour, arrival_ts, order_type, country, channel) "
            "select :id, :at, :hour, :arrival, :type, 'France', 'web'",
            **common,
            type="return" if number == 7 else "sale",
        )
        chain.warehouse.run(
            "insert into core.order_line (event_id, event_ts, event_hour, arrival_ts, quantity, unit_price) "
            "select :id, :at, :hour, :arrival, 10, 2.5",
            **common,
        )
        for what, offset_s in (("product_view", 0), ("add_to_cart", 5), ("search", 6)):
            chain.warehouse.run(
                "insert into core.interaction (event_id, event_ts, event_hour, arrival_ts, session_id, "
                "interaction_type, country, channel) select :id, :at, :hour, :at, :session, :what, 'Spain', 'mobile'",
                id=f"{what}{number}",
                at=at + timedelta(seconds=offset_s),
                hour=HOUR,
                session=f"s{number % 40}",
                what=what,
            )


def live_rows() -> list[Row]:
    """What live has of the same; a session that comes back within 35 minutes is no new one."""
    found = []
    for number in range(60):
        end = {"is_final": True}
        is_new = number < 40 or number - (number % 40) > 35
        visit = {"channel": "mobile", "sessions": int(is_new), "views": 1, "carts": 1, **end}
        is_return = int(number == 7)
        found += [
            sales(minute(number), "France", 10, **end),
            activity(minute(number), "France", 1 - is_return, refunds=is_return, **end),
            activity(minute(number), "Spain", 0, **visit),
        ]
    return found


def load(chain: Chain, loader: Functions, rows: list[Row], version: int = 1) -> None:
    span = {"minutes": ["2011-01-04T09:58:00Z", "2011-01-04T11:03:00Z"], "final_until": "2011-01-04T11:02:00Z"}
    deliver(loader, chain.store, minutes.write(chain.store, f"b{version}", version, rows, **span))


def publish(chain: Chain, state: str = "committed") -> None:
    chain.warehouse.run(
        "insert into ops.slice (slice_id, kind, window_start, window_end, state, planned_ts) "
        "select 'hour-1', 'hour', :start, :end, :state, :planned",
        start=HOUR,
        end=HOUR + timedelta(hours=1),
        state=state,
        planned=HOUR + timedelta(hours=1, minutes=2),
    )


def checked(chain: Chain) -> dict[str, tuple[float, float, float]]:
    """What -> live's value, core's value, share."""
    rows = chain.warehouse.rows("select * from ops.live_check")
    assert {row["event_hour"] for row in rows} <= {HOUR}
    assert len({row["what"] for row in rows}) == len(rows)
    return {row["what"]: (float(row["live_value"]), float(row["core_value"]), row["share"]) for row in rows}


def test_right_hour_has_nothing_above_the_limit(chain: Chain, loader: Functions) -> None:
    fill_core(chain)
    load(chain, loader, live_rows())
    assert live.check_hour(chain.warehouse, [KEY]) == []
    assert checked(chain) == {
        "units": (600, 600, 0),
        "net_sales": (1500, 1500, 0),
        "orders": (59, 59, 0),
        "refunds": (1, 1, 0),
        "sessions": (sessions(), sessions(), 0),
        "views": (60, 60, 0),
        "carts": (60, 60, 0),
        "missing_minutes": (60, 60, 0),
        "late_to_stream": (240, 240, 0),
    }


def sessions() -> int:
    """Sessions of the hour: 40, and those that come back after more than 35 minutes."""
    return sum(row["sessions"] for row in live_rows())


def test_wrong_minute_is_found_and_said_to_be_wrong(chain: Chain, loader: Functions) -> None:
    fill_core(chain)
    load(chain, loader, live_rows())
    load(chain, loader, [sales(minute(5), "France", 16, is_final=True)], version=2)
    found = live.check_hour(chain.warehouse, [KEY])
    assert [(one["what"], one["live_value"], one["core_value"], one["share"]) for one in found] == [
        ("net_sales", 1515, 1500, 0.01),
        ("units", 606, 600, 0.01),
    ]
    assert live.words(found[0]).startswith("2011-01-04 10h: net_sales is 1,515")
    assert live.words(found[0]).endswith(" in core; minute by minute 1.00 % are off")


def test_differences_that_cancel_out_are_found(chain: Chain, loader: Functions) -> None:
    fill_core(chain)
    load(chain, loader, live_rows())
    moved = [sales(minute(5), "France", 15, is_final=True), sales(minute(6), "France", 5, is_final=True)]
    load(chain, loader, moved, version=2)
    found = live.check_hour(chain.warehouse, [KEY])
    assert {one["what"]: one["share"] for one in found} == {"net_sales": 1 / 60, "units": 1 / 60}


def test_minute_that_core_has_not_is_wrong(chain: Chain, loader: Functions) -> None:
    fill_core(chain)
    load(chain, loader, [*live_rows(), sales(minute(5), "Norway", 30, is_final=True)])
    assert [one["what"] for one in live.check_hour(chain.warehouse, [KEY])] == ["net_sales", "units"]


@pytest.mark.parametrize("state", ["gone", "not final"])
def test_missing_minutes_are_told_from_wrong_ones(chain: Chain, loader: Functions, state: str) -> None:
    fill_core(chain)
    rows = [row for row in live_rows() if row["minute_ts"] not in (minute(3), minute(4))]
    if state == "not final":
        rows += [sales(minute(number), "France", 1) for number in (3, 4)]
    load(chain, loader, rows)
    (found,) = live.check_hour(chain.warehouse, [KEY])
    assert (found["what"], found["live_value"], found["core_value"]) == ("missing_minutes", 58, 60)
    assert "live has 58" in live.words(found)
    assert checked(chain)["units"] == (580, 580, 0)


@pytest.mark.parametrize(("late_s", "share"), [(60, 0), (61, 1 / 240)])
def test_what_came_too_late_for_live_is_left_out_of_core_and_told_apart(
    chain: Chain, loader: Functions, late_s: int, share: float
) -> None:
    fill_core(chain, late_s)
    left_out = {(minute(30), "France")} if share else set()
    load(chain, loader, [row for row in live_rows() if (row["minute_ts"], row["country"]) not in left_out])
    assert live.check_hour(chain.warehouse, [KEY]) == []
    late = checked(chain)["late_to_stream"]
    assert late[:2] == (240 - bool(share), 240)
    assert late[2] == pytest.approx(share)


def test_hour_that_is_compared_again_replaces_what_was_found(chain: Chain, loader: Functions) -> None:
    fill_core(chain)
    load(chain, loader, [])
    assert [one["what"] for one in live.check_hour(chain.warehouse, [KEY])] == ["missing_minutes"]
    load(chain, loader, live_rows(), version=2)
    assert live.check_hour(chain.warehouse, [KEY]) == []
    assert len(checked(chain)) == 9


def test_hour_is_due_when_core_and_live_have_it_whole_and_once(chain: Chain, loader: Functions) -> None:
    assert live.due(chain.warehouse, NOW) == []
    load(chain, loader, live_rows())
    assert live.due(chain.warehouse, NOW) == [], "core has nothing"
    publish(chain, "held")
    assert live.due(chain.warehouse, NOW) == []
    chain.warehouse.run("update ops.slice set state = 'committed'")
    assert live.due(chain.warehouse, NOW) == [KEY]
    assert live.due(chain.warehouse, NOW + timedelta(days=1)) == []
    live.check_hour(chain.warehouse, [KEY])
    assert live.due(chain.warehouse, NOW) == []


@pytest.mark.parametrize(
    "span",
    [
        {"minutes": ["2011-01-04T10:01:00Z", "2011-01-04T11:03:00Z"], "final_until": "2011-01-04T11:02:00Z"},
        {"minutes": ["2011-01-04T09:58:00Z", "2011-01-04T11:03:00Z"], "final_until": "2011-01-04T10:59:00Z"},
        {"minutes": ["2011-01-04T09:58:00Z", "2011-01-04T11:03:00Z"]},
    ],
)
def test_hour_that_live_has_not_whole_is_not_due(chain: Chain, loader: Functions, span: dict[str, Any]) -> None:
    publish(chain)
    deliver(loader, chain.store, minutes.write(chain.store, "b1", 1, live_rows(), **span))
    assert live.due(chain.warehouse, NOW) == []
