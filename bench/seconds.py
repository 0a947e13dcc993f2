"""How soon the whole platform reacts, and whether it grows: a platform of its own, history included, live events at a
rate, probes of its own among them.

python -m bench.seconds [--rate 2000] [--minutes 70] [--chart docs/images/seconds.svg] [--notes file]

From the broker's taking of an event on: until its signal is on Pub/Sub and its alert in ops.alert, of the kinds that
one message decides; until it can be seen in reporting.sales_by_minute, by a probe each second, an order of one piece
shipped where the market sells nothing, looked for twice a second. Memory is that of all processes of a service, shared
pages shared out; the stream's state reaches back 35 minutes, so that it grows for so long and may not grow after it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import own
from bench.live import AT_ONCE
from include import signals
from local import processes, services, table, warehouse
from local.inject import produce
from local.instance import Instance
from local.progress import step
from local.warehouse import query

RATE, MINUTES, WARM_S = 2_000, 70, 60
PROBE_COUNTRY = "Greenland"
PROBE_S, LOOK_S, MEMORY_S = 1.0, 0.5, 30.0
LIMITS_S = {"signal": 0.5, "alert": 1.0, "visible": 13.0}
LIMIT_MB = 4_500
READY_S = 600
SHOWN = """
select coalesce(sum(units), 0) from reporting.sales_by_minute
where country = %s and minute_ts > dateadd(hour, -2, sysdate())
"""


@dataclass
class Seen:
    """samples: what -> (seconds since the start, value), in the order in which they were seen; seconds of latency, or
    megabytes of a service."""

    since: float
    latencies_s: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    memory_mb: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    lag_s: list[tuple[float, float]] = field(default_factory=list)
    signal_ids: set[str] = field(default_factory=set)


def probe(instance: Instance, seen: Seen, stop: threading.Event) -> None:
    """Sends an order of one piece each second and looks how many pieces the view shows; a probe is visible when as many
    are. Until the last one is."""
    sent: list[float] = []
    found = 0
    with warehouse.session(instance) as session:
        while not stop.is_set() or found < len(sent):
            if not stop.is_set() and (not sent or time.time() - sent[-1] >= PROBE_S):
                sent.append(produce(instance, [("sales.orders", _order())]))
            asked = time.time()
            units = int(session.execute(SHOWN, (PROBE_COUNTRY,)).fetchone()[0])
            if units > len(sent):
                raise RuntimeError(
                    f"{units} pieces of {len(sent)} probes are shown: who else sells to {PROBE_COUNTRY}?"
                )
            seen.latencies_s["visible"] += [(moment - seen.since, asked - moment) for moment in sent[found:units]]
            found = max(found, units)
            if stop.is_set() and asked - sent[-1] > 120:
                raise RuntimeError(f"{len(sent) - found} of {len(sent)} probes are not shown after 120 s")
            time.sleep(LOOK_S)


def _order() -> dict[str, Any]:
    order_id = f"PROBE-{uuid.uuid4().hex[:16]}"
    line = {"line_no": 1, "product_id": "85123A", "quantity": 1, "unit_price": 2.55}
    payment = {"payment_no": 1, "method": "invoice", "outcome": "accepted", "amount": 2.55}
    return {
        "event_id": f"order:{order_id}",
        "event_ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "order_id": order_id,
        "order_type": "sale",
        "country": PROBE_COUNTRY,
        "channel": "web",
        "currency": "GBP",
        "lines": [line],
        "payments": [payment],
    }


def listen(instance: Instance, seen: Seen, stop: threading.Event) -> None:
    """Hears each signal by subscriptions of its own."""
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]

    project, client = f"projects/{instance.settings['MADHATTER_PROJECT']}", pubsub_v1.SubscriberClient()
    names = {topic: f"{project}/subscriptions/bench-{topic}" for topic in set(signals.TOPICS.values())}
    for topic, name in names.items():
        client.create_subscription(request={"name": name, "topic": f"{project}/topics/{topic}"})
    while not stop.wait(0.5):
        for name in names.values():
            request = {"subscription": name, "max_messages": 1000, "return_immediately": True}
            received = client.pull(request=request).received_messages
            for one in received:
                said = json.loads(one.message.data)
                if said["kind"] in AT_ONCE and said["signal_id"] not in seen.signal_ids:
                    seen.signal_ids.add(said["signal_id"])
                    arrived = datetime.fromisoformat(said["arrival_ts"]).timestamp()
                    latency = one.message.publish_time.timestamp() - arrived
                    seen.latencies_s["signal"].append((arrived - seen.since, latency))
            if received:
                client.acknowledge(request={"subscription": name, "ack_ids": [one.ack_id for one in received]})


def weigh(instance: Instance, seen: Seen, stop: threading.Event) -> None:
    """Notes the memory of each service, and how far behind the stream is, until told to stop."""
    names = ("supervisord", *services.all_of(instance))
    while not stop.is_set():
        at = time.time() - seen.since
        of: dict[str, float] = defaultdict(float)
        for process in processes.of_service(instance.home):
            with suppress(Exception):  # it may end meanwhile
                name = process.environ()[processes.MARK]
                of[name if name in names else "other"] += process.memory_full_info().pss / 1e6
        for name, size in of.items():
            seen.memory_mb[name].append((at, size))
        (batch,) = query(
            instance, "select datediff(ms, max(newest_arrival_ts), max(written_ts)) / 1000.0 as lag_s from live.batch"
        )
        seen.lag_s.append((at, float(batch["lag_s"])))
        stop.wait(MEMORY_S)


def watch(instance: Instance, minutes: float) -> Seen:
    """Probes, listens, weighs, and takes the alerts' times from ops.alert at the end."""
    seen, stop = Seen(time.time()), threading.Event()
    failed: list[Exception] = []

    def kept(work: Any) -> None:
        try:
            work(instance, seen, stop)
        except Exception as error:
            failed.append(error)
            stop.set()

    threads = [threading.Thread(target=kept, args=(work,)) for work in (probe, listen, weigh)]
    for thread in threads:
        thread.start()
    stop.wait(minutes * 60)
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    for row in query(instance, "select signal_id, arrival_ts, booked_ts from ops.alert where signal_id is not null"):
        if row["signal_id"] in seen.signal_ids:
            at = row["arrival_ts"].replace(tzinfo=UTC).timestamp() - seen.since
            seen.latencies_s["alert"].append((at, (row["booked_ts"] - row["arrival_ts"]).total_seconds()))
    return seen


def share(values: Iterable[float], part: float) -> float:
    """A percentile; part: 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def report(seen: Seen) -> str:
    """Latencies against their limits, memory at the start, in the middle and at the end."""
    rows = []
    for name, limit in LIMITS_S.items():
        values = [latency for _, latency in seen.latencies_s[name]]
        found = [f"{share(values, part):.2f}" for part in (0.5, 0.95, 0.99)] if values else ["", "", ""]
        rows.append([f"produced to {name}", f"{len(values):,}", *found, f"{limit:g}"])
    latencies = table.text(["", "n", "p50 s", "p95 s", "p99 s", "limit of p95"], rows)
    weights = {name: [size for _, size in sizes] for name, sizes in seen.memory_mb.items()}
    rows = [
        [name, f"{sizes[0]:,.0f}", f"{sizes[len(sizes) // 2]:,.0f}", f"{sizes[-1]:,.0f}", f"{max(sizes):,.0f}"]
        for name, sizes in sorted(weights.items(), key=lambda item: -max(item[1]))
    ]
    total = [sum(size for _, size in moment) for moment in _moments(seen)]
    rows.append(
        [
            f"all (limit {LIMIT_MB:,})",
            *(f"{size:,.0f}" for size in (total[0], total[len(total) // 2], total[-1], max(total))),
        ]
    )
    memory = table.text(["MB", "at first", "half way", "at last", "most"], rows)
    lags = [lag for _, lag in seen.lag_s]
    return (
        f"{latencies}\n\n{memory}\n\nThe stream was {share(lags, 0.5):.1f} s behind (median), {max(lags):.1f} at most."
    )


def _moments(seen: Seen) -> list[list[tuple[str, float]]]:
    """What each service had at each moment."""
    at: dict[float, list[tuple[str, float]]] = defaultdict(list)
    for name, sizes in seen.memory_mb.items():
        for moment, size in sizes:
            at[moment].append((name, size))
    return [at[moment] for moment in sorted(at)]


def chart(seen: Seen) -> str:
    """An SVG: latencies by minute with their limits, and memory by service."""
    import vl_convert

    rows = []
    for name, samples in seen.latencies_s.items():
        minutes: dict[int, list[float]] = defaultdict(list)
        for at, latency in samples:
            minutes[int(at // 60)].append(latency)
        for minute, values in minutes.items():
            rows += [
                {"minute": minute, "what": name, "share": word, "s": share(values, part)}
                for word, part in (("p50", 0.5), ("p95", 0.95))
            ]
    heavy = sorted(seen.memory_mb, key=lambda name: -max(size for _, size in seen.memory_mb[name]))[:7]
    sizes = [
        {"minute": at / 60, "service": name if name in heavy else "others", "MB": size}
        for name, samples in seen.memory_mb.items()
        for at, size in samples
    ]
    axis = {"type": "quantitative", "title": "minute"}
    latencies = {
        "title": "Seconds from the broker's taking of an event",
        "data": {"values": rows},
        "width": 420,
        "height": 260,
        "mark": {"type": "line", "point": {"size": 12}},
        "encoding": {
            "x": {"field": "minute", **axis},
            "y": {"field": "s", "type": "quantitative", "scale": {"type": "log"}, "title": "s"},
            "color": {"field": "what", "sort": list(LIMITS_S), "title": "until"},
            "strokeDash": {"field": "share", "title": "share"},
        },
    }
    memory = {
        "title": "Memory of all processes, MB",
        "data": {"values": sizes},
        "width": 420,
        "height": 260,
        "mark": "area",
        "encoding": {
            "x": {"field": "minute", **axis},
            "y": {"field": "MB", "type": "quantitative", "aggregate": "sum"},
            "color": {"field": "service", "sort": [*heavy, "others"]},
        },
    }
    spec = {"hconcat": [latencies, memory], "background": "white", "resolve": {"scale": {"color": "independent"}}}
    return str(vl_convert.vegalite_to_svg(spec))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.seconds", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rate", type=int, default=RATE, help="events a second over all topics")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--chart", type=Path, help="an SVG of it")
    parser.add_argument("--notes", type=Path, help="all samples, as JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the platform does not stay behind
    with tempfile.TemporaryDirectory(prefix="bench-seconds-") as folder:
        try:
            with step("A platform of its own"):
                instance = own.start(Path(folder).resolve() / "home", MADHATTER_LIVE_RATE=str(options.rate))
            with step("The stream runs"):
                deadline = time.monotonic() + READY_S
                while not query(instance, "select 1 from live.batch limit 1"):
                    if time.monotonic() > deadline:
                        raise RuntimeError(
                            f"the stream has counted nothing after {READY_S} s: see the DAG retail_stream"
                        )
                    time.sleep(1)
                time.sleep(WARM_S)
            with step(f"{options.minutes:g} minutes"):
                seen = watch(instance, options.minutes)
        except (RuntimeError, OSError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        finally:
            with suppress(RuntimeError):
                own.run("-m", "local", "down")
    if options.notes:
        options.notes.write_text(json.dumps({**vars(seen), "signal_ids": sorted(seen.signal_ids)}))
    if options.chart:
        options.chart.write_text(chart(seen))
    print(f"\n{os.cpu_count()} cores, {options.rate:,} events/s\n{report(seen)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
