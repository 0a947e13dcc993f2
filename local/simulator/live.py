"""The market as it happens: events of all topics in real time.

python -m local.simulator.live --bootstrap 127.0.0.1:18092 --rate 5 --seed 42

What is sent in an interval is a function of (seed, rate, interval). With --handover the first start goes on where the
sender before has stopped, and opens with a stocktaking where orders came at another rate. A restart goes on with the
next whole second, so no event comes twice; what lay in between is left out. Run one generator at a time.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from local.simulator import shop
from local.simulator.account import Account
from local.simulator.handover import take
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit
from local.simulator.sender import Sender, check_topics

# After a longer standstill (a laptop that slept, a full queue) the time in between is left out, not sent in a burst.
MAX_BEHIND_S = 10
HANDOVER_EVENTS = 1_000_000  # sent in a burst at most, where the sender before has stopped some time ago
EVENTS_AHEAD = 10_000  # made at a time
QUEUE_KB, QUEUE_S, EVENT_KB = 16 * 1024, 10, 0.5
FLUSH_S = 8  # less than supervisord waits before it kills
ACCOUNT_S = 2
MOST_RATE = 50_000

log = logging.getLogger("live")


def wait_for_topics(bootstrap: str, prefix: str, stop: threading.Event) -> dict[str, int]:
    """{topic: partitions} when all can be written to; empty on stop. Raises TopicUnfit: waiting would not help."""
    is_told = False
    while not stop.is_set():
        try:
            return check_topics(bootstrap, prefix, timeout_s=2)
        except BrokerUnreachable as e:
            if not is_told:
                log.warning("%s. Trying on", e)
                is_told = True
            stop.wait(1)
    return {}


def take_over(market: Market, sender: Sender, stop: threading.Event, handover: Path) -> int | None:
    """Sends what is to be known where another market went before. Returns the instant since when events are to be
    sent, POSIX milliseconds; None: from now on."""
    left = take(handover, market.pace.mark)
    now_ms = int(time.time()) * 1000
    since_ms = left.until_ms if left is not None else None
    if since_ms is not None and (now_ms - since_ms) / 1000 * market.pace.rate > HANDOVER_EVENTS:
        since_ms = None
    if left is None or left.mark != market.pace.mark:
        log.info("orders do not go on at the rate they had: accounts and a stocktaking first")
        since_ms = since_ms or now_ms
        sender.send(market.trade.opening(since_ms), stop)
    return since_ms


def run(market: Market, sender: Sender, stop: threading.Event, count: int | None, since_ms: int | None) -> None:
    """Sends events, each when its time has come, until stop or count: from the next whole second on, or since an
    instant that is past."""
    ahead_ms = int(min(10_000, max(200, EVENTS_AHEAD / market.pace.rate * 1000)))
    # What went before is made once, at 50,000 a second in ten seconds: the clock starts after it.
    at_ms = since_ms or int(time.time()) * 1000
    market.events(at_ms, at_ms + 1)
    is_joining = since_ms is not None
    if not is_joining:
        at_ms = (int(time.time()) + 1) * 1000
    account_due = time.monotonic() + ACCOUNT_S
    while not stop.is_set():
        behind_s = time.time() - at_ms / 1000
        is_joining = is_joining and behind_s > 0
        if behind_s > (HANDOVER_EVENTS / market.pace.rate if is_joining else MAX_BEHIND_S):
            log.warning("%d s were missed (the machine slept or the queue was full): no events for them", behind_s)
            at_ms = (int(time.time()) + 1) * 1000
        events = market.events(at_ms, at_ms + ahead_ms)
        first = 0
        while first < len(events) and not stop.is_set():
            sender.serve()
            # A clock set back makes this wait, so that no interval comes twice.
            due = int(np.searchsorted(events.send_ms, time.time() * 1000, side="right"))
            if count is not None:
                due = min(due, first + count - sender.sent)
            if due > first:
                sender.send(events.take(np.arange(first, due)), stop)
                first = due
                if sender.sent == count:
                    return
            if sender.account is not None and time.monotonic() > account_due:
                sender.account.write()
                account_due = time.monotonic() + ACCOUNT_S
            if first < len(events):
                stop.wait(min(max(events.send_ms[first] / 1000 - time.time(), 0.01), 0.5))
        at_ms += ahead_ms
        while not stop.is_set() and len(events) == 0 and at_ms / 1000 > time.time() + 1:
            stop.wait(0.5)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code. SIGTERM and SIGINT end it after the queue is flushed."""
    parser = argparse.ArgumentParser(prog="python -m local.simulator.live", description="Send live events to Kafka.")
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--prefix", default="", help="put before the topics' names")
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE, help="events a second over all topics, on average; 0: paused"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--count", type=int, help="end after this many events")
    parser.add_argument("--handover", type=Path, help="file that says where the sender before has stopped")
    parser.add_argument("--account", type=Path, help="folder to which to append what was sent, as Parquet")
    options = parser.parse_args(arguments)
    if not 0 <= options.rate <= MOST_RATE:
        parser.error(f"--rate {options.rate}: give events a second, from 0 to {MOST_RATE:,}")
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.rate == 0:
        log.info("paused (--rate 0)")
        stop.wait()
        return 0
    left = 0
    try:
        counts = wait_for_topics(options.bootstrap, options.prefix, stop)
        if stop.is_set():
            return 0
        market = Market(shop.load_apart(), Pace.of(options.seed, options.rate))
        settings = {
            "linger.ms": 5,
            "message.timeout.ms": 0,  # never give up
            "queue.buffering.max.kbytes": int(max(QUEUE_KB, options.rate * QUEUE_S * EVENT_KB)),
            "queue.buffering.max.messages": int(max(100_000, options.rate * QUEUE_S)),
            "reconnect.backoff.max.ms": 2000,
        }
        account = Account(options.account, options.prefix) if options.account else None
        sender = Sender(options.bootstrap, counts, settings, account, options.prefix)
        log.info("%g events a second to %s", options.rate, options.bootstrap)
        since_ms = take_over(market, sender, stop, options.handover) if options.handover else None
        run(market, sender, stop, options.count, since_ms)
        left = sender.close(FLUSH_S)
        log.info("%d events sent, %d of them left behind", sender.sent, left)
    except (TopicUnfit, NotDelivered, FileNotFoundError) as e:
        log.error("%s", e)
        return 1
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
