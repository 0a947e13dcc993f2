"""What `make up` sends after the real orders: a thin year of the other topics, and the market up to now.

python -m local.simulator.preload --bootstrap HOST:PORT [--until 2026-11-23T10:00:00Z] [--seed 42] [--account FOLDER]

In parts: accounts and catalogue of the history; its time, thin; the gap from its end to 24 hours ago: orders at the
history's pace, of the rest a little; a stocktaking; the last 24 hours in full, at LAST_DAY_RATE. It ends at an instant,
from which `live` goes on without an event of the same id: orders, stock and tickets are the same market in both.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from local.simulator import past, shop
from local.simulator.account import Account
from local.simulator.batch import Sent, milliseconds, pieces, send
from local.simulator.events import CUSTOMERS, ORDERS, PRODUCTS, STOCK, TICKETS, Events, concat, draws
from local.simulator.handover import Handover
from local.simulator.log import Left
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit
from local.simulator.replay import shift_weeks
from local.simulator.shop import DAY_MS
from local.simulator.trade import dispatch
from local.simulator.year import WEEK_MS, year

LAST_DAY_RATE = 2.2
KEPT_IN_GAP = 20  # one visitor in so many
LONGEST_GAP_MS = 30 * DAY_MS  # between the history's end and the last day; a longer one (--original) stays empty


def parts(market: Market, weeks: int, until_ms: int) -> Iterator[Events]:
    """All that comes before until_ms, in order of time. weeks: by which the history was moved."""
    known, shift_ms = market.shop, weeks * WEEK_MS
    trade = market.trade
    changes = past.products(known, trade.stock, shift_ms) + past.accounts(known, trade.accounts, shift_ms)
    changes = [event for event in changes if event.event_ms < until_ms]
    # Without faults: a customer or product who is not there would be missed for ever.
    yield dispatch(changes, draws("past", market.pace.seed), 1.0, is_faulty=False)
    yield year(market, shift_ms)
    end_ms = int(known.baskets.order_ms[-1]) + shift_ms
    last_day_ms = max(until_ms - DAY_MS, end_ms)
    if last_day_ms - end_ms < LONGEST_GAP_MS:
        for at in range(end_ms, last_day_ms, DAY_MS):
            yield _thinned(concat(trade.events(at, min(at + DAY_MS, last_day_ms))), end_ms)
    counted = trade.stock.stocktaking(last_day_ms)
    yield dispatch(counted, draws("stocktaking", market.pace.seed), 1.0, is_faulty=False)
    yield from pieces(market, last_day_ms, until_ms)


def _thinned(events: Events, since_ms: int) -> Events:
    """Orders, accounts and prices whole, of visitors a few. Movements begin with the stocktaking, tickets with the
    first orders of the market."""
    keep = np.isin(events.topic, (ORDERS, CUSTOMERS, PRODUCTS)) & (events.event_ms >= since_ms)
    for at in np.flatnonzero(~keep & (events.topic != STOCK) & (events.event_ms >= since_ms)).tolist():
        key = events.keys[at]
        # A ticket is named after its order: T-<second>-...
        is_ticket = int(events.topic[at]) == TICKETS
        keep[at] = int(key.split(b"-")[1]) * 1000 >= since_ms if is_ticket else zlib.crc32(key) % KEPT_IN_GAP == 0
    return events.take(np.flatnonzero(keep))


def load(
    bootstrap: str,
    weeks: int,
    until_ms: int,
    *,
    seed: int = 42,
    account: Account | None = None,
    prefix: str = "",
    left: Left | None = None,
    handover: Path | None = None,
) -> Sent:
    """Sends all parts, but for what is left of an earlier sending, and returns once the broker has them. handover: file
    from which `live` goes on. Raises BrokerUnreachable, TopicUnfit, NotDelivered."""
    market = Market(shop.load(), Pace(seed, LAST_DAY_RATE, trade=1.0))
    sent = send(bootstrap, parts(market, weeks, until_ms), account=account, prefix=prefix, left=left)
    if handover is not None:
        Handover(market.pace.mark, until_ms).leave(handover)
    return sent


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m local.simulator.preload", description="Send the market up to now.")
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--original", action="store_true", help="the history was sent in its original time")
    parser.add_argument("--until", type=milliseconds, help="ISO 8601, UTC; now")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--account", type=Path, help="folder to which to write what was sent, as Parquet")
    parser.add_argument("--prefix", default="", help="put before the topics' names")
    options = parser.parse_args(arguments)
    until_ms = options.until or int(time.time()) * 1000
    weeks = 0 if options.original else shift_weeks(datetime.fromtimestamp(until_ms / 1000, UTC).date())
    account = Account(options.account, options.prefix) if options.account else None
    try:
        sent = load(options.bootstrap, weeks, until_ms, seed=options.seed, account=account, prefix=options.prefix)
    except (BrokerUnreachable, TopicUnfit, NotDelivered, FileNotFoundError) as e:
        print(f"preload: {e}", file=sys.stderr)
        return 1
    print(f"{sent.events:,} events up to {datetime.fromtimestamp(until_ms / 1000, UTC):%F %T}, {sent.cpu_s:.1f} CPU s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
