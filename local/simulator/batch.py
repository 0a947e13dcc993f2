"""The market of any window, sent as fast as it goes.

python -m local.simulator.batch --bootstrap HOST:PORT --from 2026-11-22T00:00Z --to 2026-11-23T00:00Z --rate 100

The same window, seed and rate give the same bytes. Windows that meet go on without repeating an event.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from include.producing import BULK
from local.simulator import shop
from local.simulator.account import Account
from local.simulator.events import Events
from local.simulator.log import Left
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit
from local.simulator.sender import Sender, check_topics

EVENTS_AT_A_TIME = 40_000
SETTINGS = BULK | {
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 400_000,
    "message.timeout.ms": 120_000,
}
FLUSH_S = 120


@dataclass(frozen=True)
class Sent:
    """events: messages that the broker has; kept: those that were there before; cpu_s: of this process, seconds."""

    events: int
    kept: int
    cpu_s: float


def pieces(market: Market, start_ms: int, end_ms: int) -> Iterator[Events]:
    """The window's events, some ten thousand at a time."""
    step = max(200, int(EVENTS_AT_A_TIME / market.pace.rate * 1000))
    for at in range(start_ms, end_ms, step):
        yield market.events(at, min(at + step, end_ms))


def send(
    bootstrap: str,
    parts: Iterator[Events],
    *,
    account: Account | None = None,
    prefix: str = "",
    left: Left | None = None,
) -> Sent:
    """Sends all parts, but for what is left of an earlier sending, and returns once the broker has them. Raises
    BrokerUnreachable, TopicUnfit or NotDelivered."""
    started = time.process_time()
    sender = Sender(bootstrap, check_topics(bootstrap, prefix), SETTINGS, account, prefix, left)
    for events in parts:
        sender.send(events)
    if missing := sender.close(FLUSH_S):
        raise NotDelivered(f"{missing} of {sender.sent} events did not reach {bootstrap} within {FLUSH_S} s")
    return Sent(sender.sent, sender.kept, time.process_time() - started)


def milliseconds(text: str) -> int:
    """POSIX milliseconds of an ISO 8601 instant; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m local.simulator.batch", description="Send a window of the market.")
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--from", dest="start", type=milliseconds, required=True, help="ISO 8601, UTC")
    parser.add_argument("--to", dest="end", type=milliseconds, required=True, help="ISO 8601, UTC, not included")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--rate", type=float, default=DEFAULT_RATE, help="events a second over all topics, on average")
    amount.add_argument("--per-day", type=float, help="events a day, instead of a rate")
    parser.add_argument("--trade", type=float, help="orders as a multiple of the history's pace (default: rate / 5)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--account", type=Path, help="folder to which to write what was sent, as Parquet")
    parser.add_argument("--prefix", default="", help="put before the topics' names")
    options = parser.parse_args(arguments)
    rate = options.per_day / 86_400 if options.per_day else options.rate
    if rate <= 0 or options.end <= options.start:
        parser.error("give a rate above 0 and a window that ends after it begins")
    pace = Pace.of(options.seed, rate)
    if options.trade is not None:
        pace = Pace(options.seed, rate, options.trade)
    account = Account(options.account, options.prefix) if options.account else None
    try:
        market = Market(shop.load(), pace)
        parts = pieces(market, options.start, options.end)
        sent = send(options.bootstrap, parts, account=account, prefix=options.prefix)
    except (BrokerUnreachable, TopicUnfit, NotDelivered, FileNotFoundError) as e:
        print(f"batch: {e}", file=sys.stderr)
        return 1
    print(f"{sent.events:,} events sent in {sent.cpu_s:.1f} CPU s: {sent.events / sent.cpu_s:,.0f} a CPU second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
