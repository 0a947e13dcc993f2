"""The market: all that happens in an interval, as a function of (seed, rate, interval)."""

from __future__ import annotations

from local.simulator.events import Events, concat
from local.simulator.pace import Pace
from local.simulator.sensors import Sensors
from local.simulator.sessions import Sessions
from local.simulator.shop import Shop
from local.simulator.trade import Trade


class Market:
    """The sources together. Intervals that follow one another come cheaply: blocks are kept while they are needed."""

    def __init__(self, shop: Shop, pace: Pace) -> None:
        self.shop, self.pace = shop, pace
        self.trade = Trade(shop, pace)
        self.sessions = Sessions(shop, pace, self.trade.accounts.deleted)
        self.sensors = Sensors(pace)

    def events(self, start_ms: int, end_ms: int) -> Events:
        """What is sent in [start_ms, end_ms), in the order of sending. Two intervals that meet have together the events
        of the whole: none comes twice, none is missing."""
        parts = [*self.trade.events(start_ms, end_ms)]
        parts += self.sessions.events(start_ms, end_ms)
        parts += self.sensors.events(start_ms, end_ms)
        return concat(parts)
