"""What the streaming job must have told, from the log alone: read by a plain consumer, computed by DuckDB, with nothing
of the job's own code but the contracts' decoders, whose word on what is an event is the definition."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from include.contracts.contract import generated
from tests.stand_ins import records

SALES, ACTIVITY = "sales.orders", ("web.interactions", "mobile.interactions")
# An event counts once, if it arrived within a minute of its time and is not more than 300 s ahead.
ACCEPTED = """
create table accepted as
select *, row_number() over (partition by topic, event_id order by "offset") as copy,
    date_trunc('minute', event_ts) as minute_ts
from event
where arrival_ts - event_ts <= interval 60 seconds and event_ts - arrival_ts <= interval 300 seconds
    and event_ts >= timestamp '2009-01-01'
"""
MINUTES = """
with starts as (
    select topic, "partition", "offset", country, channel, minute_ts, copy,
        arrival_ts - lag(arrival_ts) over (
            partition by topic, "partition", session_id order by "offset"
        ) as apart,
        interaction_type
    from accepted where topic like '%.interactions'
),
activity as (
    select minute_ts, country, '' as category, channel, 0 as orders, 0 as refunds,
        (apart is null or apart > interval 30 minutes)::int as sessions,
        (interaction_type in ('view', 'product_view'))::int as views,
        (interaction_type = 'add_to_cart')::int as carts
    from starts where copy = 1
    union all
    select minute_ts, country, '', channel, (order_type = 'sale')::int, (order_type = 'return')::int, 0, 0, 0
    from accepted where topic = 'sales.orders' and copy = 1
),
sales as (
    select minute_ts, country, category, channel, sum(quantity) as units, sum(quantity * unit_price) as net_sales
    from accepted inner join line using (topic, "partition", "offset")
    where copy = 1 and order_type in ('sale', 'return')
    group by all
)
select 'activity', minute_ts, country, category, channel, sum(orders), 0, 0.0, sum(refunds), sum(sessions), sum(views),
    sum(carts)
from activity group by all
having sum(orders) + sum(refunds) + sum(sessions) + sum(views) + sum(carts) > 0
union all
select 'sales', minute_ts, country, category, channel, 0, units, net_sales, 0, 0, 0, 0 from sales
"""
Row = tuple[Any, ...]


class LogTruth:
    """The log of a broker, and what follows from it. categories: of products."""

    def __init__(self, bootstrap: str, categories: dict[str, str] | None = None) -> None:
        self.db = duckdb.connect()
        self.db.execute("set timezone = 'UTC'")
        self.rejected = 0
        events: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        parties: list[dict[str, Any]] = []
        for topic in (SALES, *ACTIVITY):
            decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(generated(topic).Event)
            for message in records(bootstrap, topic):
                place = {"topic": topic, "partition": message.partition(), "offset": message.offset()}
                try:
                    event = msgspec.structs.asdict(decoder.decode(message.value() or b""))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    self.rejected += 1
                    continue
                kept = ("event_id", "event_ts", "country", "channel", "session_id", "interaction_type", "order_type")
                arrival = {"arrival_ms": message.timestamp()[1]}
                events.append(place | arrival | {name: event.get(name) for name in kept})
                for line in event.get("lines", ()):
                    category = (categories or {}).get(line.product_id, "Unknown")
                    price = line.unit_price.quantize(Decimal("0.001"))
                    lines.append(place | {"category": category, "quantity": line.quantity, "unit_price": price})
                subjects = {f"card:{paid.card_hash}" for paid in event.get("payments", ()) if paid.card_hash}
                if topic == SALES and event["customer_id"]:
                    subjects.add(f"customer:{event['customer_id']}")
                parties += [place | {"subject": subject} for subject in subjects]
        places = [("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())]
        event_schema = pa.schema(
            [*places, ("arrival_ms", pa.int64())]
            + [("event_id", pa.string()), ("event_ts", pa.timestamp("us", "UTC"))]
            + [(name, pa.string()) for name in ("country", "channel", "session_id", "interaction_type", "order_type")]
        )
        line_schema = pa.schema(
            [*places, ("category", pa.string()), ("quantity", pa.int64()), ("unit_price", pa.decimal128(12, 3))]
        )
        self.db.register("party", pa.Table.from_pylist(parties, pa.schema([*places, ("subject", pa.string())])))
        self.db.register("events", pa.Table.from_pylist(events, event_schema))
        self.db.register("lines", pa.Table.from_pylist(lines, line_schema))
        self.db.execute(
            "create table event as select * replace (event_ts::timestamp as event_ts), "
            "make_timestamp(arrival_ms * 1000) as arrival_ts from events"
        )
        self.db.execute("create table line as select * from lines")
        self.db.execute(ACCEPTED)

    def minutes(self, first: datetime, past_last: datetime) -> list[Row]:
        """kind, minute_ts, country, category, channel, orders, units, net_sales, refunds, sessions, views, carts."""
        sql = f"select * from ({MINUTES}) as m(kind, minute_ts) where minute_ts >= ? and minute_ts < ? order by all"
        return self.db.execute(sql, [first, past_last]).fetchall()


def written(store: str) -> list[Row]:
    """The rows of a store's batches, of each key the newest version: LogTruth.minutes()'s columns, then is_final."""
    sql = """
        select kind, minute_ts, country, category, channel, orders, units, net_sales, refunds, sessions, views, carts,
            is_final
        from read_parquet(?)
        qualify row_number() over (partition by kind, minute_ts, country, category, channel order by version desc) = 1
        order by all
    """
    return duckdb.execute(sql, [f"{store}/live/batches/*/*.parquet"]).fetchall()
