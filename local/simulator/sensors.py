"""Sensors of the warehouses: temperature, humidity, doors, scales. They drift, get stuck, fall silent. Vectorised."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from local.simulator import faults
from local.simulator.events import (
    CUT,
    DRIFT,
    DUPLICATE,
    HONEST,
    IOT,
    LATE,
    STUCK,
    Events,
    Numbers,
    draws,
    instants,
    mix,
)
from local.simulator.pace import SENSOR_SHARE, Pace
from local.simulator.shop import DAY_MS, HOUR_MS
from local.simulator.warehouses import WAREHOUSES

TYPES = ("temperature", "humidity", "door", "scale")
_TYPE_OF = np.array([0, 1, 0, 2, 0, 1, 3, 0])  # of eight neighbours
_LETTERS = "THDS"
SPELL_MS = 6 * HOUR_MS  # a sensor is silent or stuck for so long
CALIBRATED_MS = 10 * DAY_MS


class Sensors:
    """The source of readings. Slot g of all time is device g % devices, measured at g * period / devices."""

    def __init__(self, pace: Pace, devices: int | None = None, period_ms: int | None = None) -> None:
        self.pace = pace
        self.period_ms = period_ms or (60_000 if pace.rate <= 500 else 10_000)
        self.devices = devices or max(8, round(pace.rate * SENSOR_SHARE * self.period_ms / 1000))
        self.block = lru_cache(maxsize=4 + pace.horizon_ms // pace.block_ms)(self._block)

    def events(self, start_ms: int, end_ms: int) -> list[Events]:
        """What the sensors send in [start_ms, end_ms)."""
        found = []
        # Second copies come at most a quarter of the horizon later.
        reach = self.pace.horizon_ms // 4 + 10_000
        for number in range((start_ms - reach) // self.pace.block_ms, (end_ms - 1) // self.pace.block_ms + 1):
            block = self.block(number)
            first, last = np.searchsorted(block[0], [start_ms, end_ms]).tolist()
            if first < last:
                found.append(self.render(*(column[first:last] for column in block)))
        return found

    def _block(self, number: int) -> tuple[Numbers, ...]:
        start, end = number * self.pace.block_ms, (number + 1) * self.pace.block_ms
        slot = np.arange(-(-start * self.devices // self.period_ms), -(-end * self.devices // self.period_ms))
        return self.build(draws("sensors", self.pace.seed, self.pace.rate * 1000, number), slot)

    def build(self, random: np.random.Generator, slot: Numbers) -> tuple[Numbers, ...]:
        """(send_ms, event_ms, slot, reading in thousandths, kind, label) of these slots, by send_ms."""
        pace = self.pace
        device, event_ms = slot % self.devices, slot * self.period_ms // self.devices
        spell = mix(device * 1_000_003 + event_ms // SPELL_MS, pace.seed + 21) % np.uint64(1000)
        awake = spell >= 8
        slot, device, event_ms, spell = slot[awake], device[awake], event_ms[awake], spell[awake]
        total = len(slot)
        send_ms = event_ms + 20 + random.exponential(250, total).astype(np.int64).clip(0, 8_000)
        late = random.random(total) < faults.LATE_SHARE
        event_ms = np.where(late, event_ms - faults.delays(random, total, 1.0), event_ms)
        # A clock is wrong for a whole spell.
        clock = mix(device * 1_000_003 + slot * self.period_ms // self.devices // SPELL_MS, pace.seed + 22)
        kinds, ms = faults.clocks((clock >> np.uint64(32)) / 2**32, (clock & np.uint64(2**32 - 1)) / 2**32)
        kind = np.where(late, LATE, kinds).astype(np.int8)
        reading, label = self._readings(random, device, event_ms, spell)
        event_ms = np.where(late, event_ms, event_ms + ms)
        kind, twice, lag = faults.strike(random, kind, pace.horizon_ms // 4)
        lag, twice = lag[kind[twice] < CUT], twice[kind[twice] < CUT]
        rows = np.concatenate([np.arange(total), twice])
        send_ms = np.concatenate([send_ms, send_ms[twice] + lag])
        kind = np.concatenate([kind, np.full(len(twice), DUPLICATE, np.int8)])
        order = np.argsort(send_ms, kind="stable")
        rows = rows[order]
        return send_ms[order], event_ms[rows], slot[rows], reading[rows], kind[order], label[rows]

    def _readings(
        self, random: np.random.Generator, device: Numbers, event_ms: Numbers, spell: Numbers
    ) -> tuple[Numbers, Numbers]:
        """(reading in thousandths, label). Drift adds up until the sensor is calibrated; a stuck one repeats itself."""
        noise = random.standard_normal(len(device))
        day = event_ms % DAY_MS / DAY_MS
        warmth = np.sin((day - 0.35) * 2 * np.pi)
        own = (mix(device, 31) % np.uint64(1000)).astype(float) / 1000
        kind = _TYPE_OF[device % 8]
        u = random.random(len(device))
        value = np.choose(
            kind,
            [
                17 + own * 4 + warmth * 2.5 + noise * 0.15,
                48 + own * 10 - warmth * 6 + noise * 0.8,
                (u < 0.04 + 0.08 * (warmth > 0.2)).astype(float),
                120 + own * 500 + np.sin(day * 40 + own * 6) * 60 + noise * 0.05,
            ],
        )
        drifting = (mix(device * 7 + event_ms // CALIBRATED_MS, self.pace.seed + 23) % np.uint64(100) < 4) & (kind != 2)
        value = value + drifting * (event_ms % CALIBRATED_MS / HOUR_MS) * 0.05
        stuck = (spell < 14) & (kind != 2)
        value = np.where(stuck, np.where(spell < 10, -127.0, 20 + own), value)
        value = np.where(kind == 1, value.clip(-127, 100), value)
        label = np.where(stuck, STUCK, np.where(drifting, DRIFT, HONEST)).astype(np.int8)
        return np.rint(value * np.where(kind == 2, 1000, 100)).astype(np.int64) * np.where(kind == 2, 1, 10), label

    def render(
        self, send_ms: Numbers, event_ms: Numbers, slot: Numbers, reading: Numbers, kind: Numbers, label: Numbers
    ) -> Events:
        """The events of columns as build() gives them."""
        device = slot % self.devices
        names = self._names
        # A battery lasts half a year.
        battery = (100 - (event_ms // DAY_MS + device * 37) % 180 * 100 // 185).clip(0, 100)
        mark = f"{chr(97 + self.pace.salt % 26)}{chr(97 + self.pace.salt // 26 % 26)}"
        known = [names(d) for d in device.tolist()]
        ids = [f"iot:{name}-{mark}{s}" for (name, _, _), s in zip(known, slot.tolist())]
        values = [
            f'{{"event_id":"{i}","event_ts":"{t}Z",{fields}"reading":{r / 1000},"battery_percent":{b}}}'.encode()
            for i, t, (_, fields, _), r, b in zip(ids, instants(event_ms), known, reading.tolist(), battery.tolist())
        ]
        topic = np.full(len(ids), IOT, np.int8)
        faults.spoil_all(kind, topic, values)
        return Events(send_ms, event_ms, topic, kind, label, ids, [key for _, _, key in known], values)

    @staticmethod
    @lru_cache(maxsize=300_000)
    def _names(device: int) -> tuple[str, str, bytes]:
        """(device_id, its fields, key)."""
        warehouse = WAREHOUSES[device // 8 % len(WAREHOUSES)]
        kind = int(_TYPE_OF[device % 8])
        name = f"{warehouse}-{_LETTERS[kind]}-{device // 32 * 8 + device % 8 + 1:02d}"
        return (
            name,
            f'"device_id":"{name}","warehouse_id":"{warehouse}","sensor_type":"{TYPES[kind]}",',
            name.encode(),
        )
