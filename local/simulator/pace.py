"""The market's clock: what the seed and the rates make of time. All that is generated is a function of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from local.simulator.events import mix
from local.simulator.shop import DAY_MS

DEFAULT_RATE = 5.0  # events a second over all topics at which orders go on at the history's pace
SENSOR_SHARE = 0.38  # of all events; what the market day needs is about 2 %, the rest are interactions
BROWSE_SHARE = 0.60

_BLOCKS_MS = (600_000, 300_000, 120_000, 60_000, 30_000, 10_000, 5_000, 2_000, 1_000, 500, 200)
_BLOCK_EVENTS = 25_000
_OPEN_EVENTS = 500_000  # of sessions that are open at a time: they are in memory


@dataclass(frozen=True)
class Pace:
    """seed; rate: events a second on average, over all topics; trade: orders as a multiple of the history's pace."""

    seed: int
    rate: float
    trade: float

    @staticmethod
    def of(seed: int, rate: float) -> Pace:
        """Everything in proportion to the rate."""
        return Pace(seed, rate, rate / DEFAULT_RATE)

    @property
    def block_ms(self) -> int:
        """Interactions and readings are generated in blocks of this length, the rarer ones in days()."""
        return next((ms for ms in _BLOCKS_MS if self.rate * ms / 1000 <= _BLOCK_EVENTS), _BLOCKS_MS[-1])

    @property
    def horizon_ms(self) -> int:
        """What begins in a block is sent within this time. Above 280 events a second sessions become shorter, because
        those that are open are kept in memory."""
        return max(60_000, min(1_800_000, int(_OPEN_EVENTS / self.rate * 1000)))

    @property
    def quickness(self) -> float:
        """What a session's times are multiplied by, at most 1."""
        return self.horizon_ms / 1_800_000

    @property
    def day_ms(self) -> int:
        """A market day: shelves are refilled, tickets answered in days. At ten times the trade it is ten times shorter,
        so that the orders of a few days, which stock and tickets depend on, are never many."""
        wanted = DAY_MS / max(self.trade, 1.0)
        return next((day for day in _DAYS_MS if day <= wanted), _DAYS_MS[-1])

    @property
    def haste(self) -> float:
        """What delays of hours and days are multiplied by, at most 1."""
        return self.day_ms / DAY_MS

    @property
    def salt(self) -> int:
        """A number below 4,096 that keeps ids of other rates apart."""
        text = np.array([self.seed, int(self.rate * 1000), int(self.trade * 1000)])
        return int(np.bitwise_xor.reduce(mix(text, 7) >> np.arange(3, dtype=np.uint64)) & np.uint64(4095))

    @property
    def mark(self) -> str:
        """Three letters in the ids of orders and what follows from them. Equal where seed and trade are: such ids do
        not depend on the other events. Letters, because more digits in a row might be taken for a card's number."""
        number = int(mix(np.array([self.seed * 1_000_003 + int(self.trade * 1000)]), 9)[0])
        return "".join(chr(97 + number // 26**place % 26) for place in range(3))


# Divisors of a day.
_DAYS_MS = tuple(DAY_MS // n for n in (1, 2, 4, 8, 12, 24, 48, 96, 144, 288, 480, 720, 1440))
