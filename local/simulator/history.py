"""The real orders: UCI Online Retail, one order an invoice. docs/data.md describes the data and the mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

DATA = Path(__file__).parent / "data" / "online_retail.parquet"
LAST_DAY = date(2011, 12, 9)

# Adjustments are the ledger entries A... and stock corrections (price 0, goods that go out). Goods that come in at
# price 0 look like gifts and count as such.
_ORDERS = r"""
with

lines as (
    select
        invoice_no,
        file_row_number as file_row,
        invoice_ts,
        customer_id,
        country,
        quantity,
        unit_price,
        '{"line_no":' || row_number() over (partition by invoice_no order by file_row_number)
            || ',"product_id":' || to_json(stock_code)::varchar
            || ',"description":' || coalesce(to_json(description)::varchar, 'null')
            || ',"quantity":' || quantity
            || ',"unit_price":' || rtrim(rtrim(unit_price::varchar, '0'), '.')
            || '}' as line_json
    from read_parquet(?, file_row_number = true)
),

final as (
    select
        invoice_no as order_id,
        min(invoice_ts) as event_ts,
        case
            when invoice_no like 'C%' then 'return'
            when invoice_no like 'A%' then 'adjustment'
            when max(abs(unit_price)) = 0 and max(quantity) < 0 then 'adjustment'
            when max(abs(unit_price)) = 0 and min(quantity) > 0 then 'gift'
            else 'sale'
        end as order_type,
        min(customer_id)::varchar as customer_id,
        min(country) as country,
        count(*) as line_count,
        sum(quantity * unit_price) as amount,
        '[' || string_agg(line_json, ',' order by file_row) || ']' as lines_json
    from lines
    group by invoice_no
)

select * from final order by event_ts, order_id
"""


@dataclass(frozen=True, slots=True)
class Order:
    """One invoice. event_ts: its earliest minute, as recorded, without zone; amount: sum(quantity * unit_price), exact;
    lines_json: the event's array of lines as JSON text, in file order, prices as exact decimals."""

    order_id: str
    event_ts: datetime
    order_type: str
    customer_id: str | None
    country: str
    line_count: int
    amount: Decimal
    lines_json: str


def data_file() -> Path:
    """DATA. Raises FileNotFoundError when it is not in its place."""
    if not DATA.is_file():
        raise FileNotFoundError(f"the history is not at {DATA}: `git checkout -- {DATA.name}` there restores it")
    return DATA


def read() -> Iterator[Order]:
    """All 25,900 orders by (event_ts, order_id). Takes 1.5 s and some 350 MB until the iterator is used up.

    Raises FileNotFoundError when the data file is not in its place.
    """
    import duckdb  # 20 MB that only a reader needs

    with duckdb.connect() as connection:
        result = connection.execute(_ORDERS, [str(data_file())])
        while rows := result.fetchmany(500):
            for row in rows:
                yield Order(*row)


def event(order: Order, order_id: str, event_ts: str, channel: str) -> bytes:
    """The `sales.orders` message value: compact JSON in UTF-8. event_ts: an ISO 8601 instant in UTC, ending in Z."""
    head = {
        "event_id": f"order:{order_id}",
        "event_ts": event_ts,
        "order_id": order_id,
        "order_type": order.order_type,
        "customer_id": order.customer_id,
        "country": order.country,
        "channel": channel,
        "currency": "GBP",
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
    return f'{text[:-1]},"lines":{order.lines_json}}}'.encode()


def key(order: Order, order_id: str) -> bytes:
    """The message key: a customer's orders stay in one partition; guests spread by order."""
    return (order.customer_id or order_id).encode()
