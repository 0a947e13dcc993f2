"""What fraud_detection makes of the market, against its labels: `python -m bench.fraud [--seeds 5] [--trade 10]`.

Simulator -> rules -> score, as the streaming job and the function have it, in one process. An order is called fraud
when a signal about it, or one that names it, scores at least the threshold. Orders that the stream does not take (late
ones, malformed ones) count as missed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from bench.signals import Seen, orders
from include.functions.fraud_detection import score
from include.functions.fraud_detection.score import Features
from local import table

# The weights were set with seeds 101 to 106 and those below 10,000.
SEEDS = range(20_001, 20_100)
FRAUD = ("stolen_card", "refund_abuse")


@dataclass(frozen=True)
class Verdicts:
    """counts: (label, whether it was called fraud) -> orders. honest: the label "" ."""

    counts: Counter[tuple[str, bool]]

    @property
    def precision(self) -> float:
        right = sum(self.counts[label, True] for label in FRAUD)
        return right / max(1, sum(n for (_, called), n in self.counts.items() if called))

    @property
    def recall(self) -> float:
        right = sum(self.counts[label, True] for label in FRAUD)
        return right / max(1, sum(n for (label, _), n in self.counts.items() if label in FRAUD))

    def __add__(self, other: Verdicts) -> Verdicts:
        return Verdicts(self.counts + other.counts)


def judged(seen: Seen) -> Verdicts:
    """What was called fraud of what was sent. Each order counts once."""
    called: set[str] = set()
    threshold = score.weights().threshold
    for found in seen.found:
        if "order_id" in found.features:
            verdict = score.judge(found.kind, msgspec.convert(found.features, Features))
            if verdict.score >= threshold:
                called.update(f"order:{order_id}" for order_id in verdict.order_ids)
    return Verdicts(Counter((label, event_id in called) for event_id, label in seen.labels.items()))


def report(by_seed: Iterable[tuple[str, Verdicts]]) -> str:
    """A line a seed, and their sum."""
    lines, whole = [], Verdicts(Counter())
    for name, verdicts in by_seed:
        whole += verdicts
        lines.append(_line(name, verdicts))
    lines.append(_line("all", whole))
    head = ["seed", *(f"{label} {word}" for label in FRAUD for word in ("called", "missed"))]
    return table.text([*head, "honest called", "honest left", "precision", "recall"], lines)


def _line(name: str, verdicts: Verdicts) -> list[object]:
    counts = verdicts.counts
    cells = [f"{counts[label, called]:,}" for label in (*FRAUD, "") for called in (True, False)]
    return [name, *cells, f"{verdicts.precision:.3f}", f"{verdicts.recall:.3f}"]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m bench.fraud", description="What fraud_detection makes of the market.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--days", type=int, default=20, help="market days a seed")
    parser.add_argument("--trade", type=float, default=10.0, help="orders as a multiple of the history's pace")
    options = parser.parse_args()
    seeds = SEEDS[: options.seeds]
    print(report((f"{seed}", judged(orders(seed, options.trade, options.days))) for seed in seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
