"""Sensors that measure what cannot be, that repeat themselves, that fall silent.

A device's readings are looked at in the order of their own times: one that is not newer than the newest before it says
nothing of runs. They are many, so a device has one small record.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import msgspec

from include.beam.rules import thresholds
from include.beam.rules.rows import ReadingRow
from include.beam.rules.rule import AHEAD_MS, LATENESS_MS, Found, Rule
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().sensor
GAP_MS, EPISODE_MS, SILENT_MS = LIMITS.gap_s * 1000, LIMITS.episode_s * 1000, LIMITS.silent_s * 1000
_RUN_S = LIMITS.gap_s * (max(LIMITS.in_a_row, LIMITS.stuck_in_a_row) - 1)
_DECIDED_MS = SILENT_MS + LATENESS_MS  # after a reading, what came after it is known
_ANY = (float("-inf"), float("inf"))
_NEVER = -(2**62)


class _Last(msgspec.Struct, array_like=True, gc=False):
    """A reading after which nothing may come."""

    event_ms: int
    event_id: str
    arrival_ms: int
    reading: float


class _Device(msgspec.Struct, array_like=True):
    """The newest reading; beyond, same: readings in a row, with it, that are out of range, that are equal; bad_ms: when
    one of these rows was last too long; is_silent: whether nothing
    followed the newest in time; gaps: earlier readings that nothing seems to have followed in time, not yet decided."""

    warehouse_id: str
    sensor_type: str
    event_ms: int
    event_id: str
    arrival_ms: int
    reading: float
    beyond: int = 0
    same: int = 1
    bad_ms: int = _NEVER
    is_silent: bool = False
    gaps: list[_Last] = []

    def newest(self) -> _Last:
        return _Last(self.event_ms, self.event_id, self.arrival_ms, self.reading)


class Sensors(Rule):
    """Finds the reading that is the third in a row out of its type's limits, or the eighth equal one, when there was no
    such row in the episode before; and the reading after which there was none for ten minutes."""

    NAME = "sensors"
    KINDS = ("sensor_out_of_range", "sensor_silent")
    ROW = ReadingRow
    HORIZON_S = LIMITS.episode_s + _RUN_S + (LATENESS_MS + AHEAD_MS) // 1000

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._devices: dict[str, _Device] = {}
        self._due: list[tuple[int, str]] = []  # heap of (when to look whether a device is silent, device)

    def keys(self, row: ReadingRow) -> Iterable[str]:
        return (f"sensor:{row.device_id}",)

    def observe(self, key: str, row: ReadingRow) -> list[Found]:
        event_id, now, arrival_ms, _, warehouse_id, sensor_type, reading = row
        low, high = LIMITS.limits.get(sensor_type, _ANY)
        is_beyond = not low <= reading <= high
        device = self._devices.get(key)
        if device is None:
            device = _Device(warehouse_id, sensor_type, now, event_id, arrival_ms, reading, beyond=int(is_beyond))
            self._devices[key] = device
            self._push(key, device)
            return []
        apart = now - device.event_ms
        if apart <= 0:
            if device.gaps:
                device.gaps = [gap for gap in device.gaps if not gap.event_ms < now <= gap.event_ms + SILENT_MS]
            return []
        if apart > SILENT_MS and not device.is_silent:
            device.gaps = [*device.gaps, device.newest()]
        goes_on = apart <= GAP_MS
        device.same = device.same + 1 if goes_on and reading == device.reading else 1
        device.beyond = (device.beyond + 1 if goes_on else 1) if is_beyond else 0
        device.event_ms, device.event_id, device.arrival_ms, device.reading = now, event_id, arrival_ms, reading
        if device.is_silent:
            device.is_silent = False
            self._push(key, device)
        is_stuck = device.same >= LIMITS.stuck_in_a_row and sensor_type in LIMITS.stuck_types
        if device.beyond < LIMITS.in_a_row and not is_stuck:
            return []
        is_new, device.bad_ms = now - device.bad_ms > EPISODE_MS, now
        if not is_new:
            return []
        features = {
            "device_id": row.device_id,
            "warehouse_id": warehouse_id,
            "sensor_type": sensor_type,
            "problem": "out_of_range" if device.beyond >= LIMITS.in_a_row else "stuck",
            "reading": reading,
            "low": low,
            "high": high,
            "in_a_row": device.beyond if device.beyond >= LIMITS.in_a_row else device.same,
        }
        return [Found("sensor_out_of_range", key, event_id, now, arrival_ms, features, arrival_ms)]

    def advance(self, watermark_ms: int) -> list[Found]:
        found: list[Found] = []
        past_ms = watermark_ms - _DECIDED_MS
        while self._due and self._due[0][0] <= watermark_ms:
            _, key = heapq.heappop(self._due)
            device = self._devices[key]
            found += [_silent(key, device, gap) for gap in device.gaps if gap.event_ms <= past_ms]
            device.gaps = [gap for gap in device.gaps if gap.event_ms > past_ms]
            if device.event_ms <= past_ms:
                found.append(_silent(key, device, device.newest()))
                device.is_silent = True
            self._push(key, device)
        return found

    def _push(self, key: str, device: _Device) -> None:
        """Into the heap, when there is something to decide. The time of a device in it is never too late."""
        if device.gaps or not device.is_silent:
            first_ms = device.gaps[0].event_ms if device.gaps else device.event_ms
            heapq.heappush(self._due, (first_ms + _DECIDED_MS, key))

    def forget(self, before_ms: int) -> None:
        for key in [key for key, device in self._devices.items() if device.event_ms < before_ms and device.is_silent]:
            if not self._devices[key].gaps:
                del self._devices[key]

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._devices)

    def load(self, state: bytes) -> None:
        self._devices = msgspec.msgpack.decode(state, type=dict[str, _Device])
        self._due = []
        for key, device in self._devices.items():
            self._push(key, device)


def _silent(key: str, device: _Device, last: _Last) -> Found:
    features = {
        "device_id": key.removeprefix("sensor:"),
        "warehouse_id": device.warehouse_id,
        "sensor_type": device.sensor_type,
        "last_reading": last.reading,
        "silent_s": LIMITS.silent_s,
    }
    decided_ms = last.event_ms + _DECIDED_MS
    return Found("sensor_silent", key, last.event_id, last.event_ms, last.arrival_ms, features, decided_ms)
