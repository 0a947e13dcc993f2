"""Sensors: they measure on, drift, get stuck, and some fall silent."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from local.simulator import shop
from local.simulator.events import DRIFT, HONEST, IOT, NORMAL, STUCK, Events, concat
from local.simulator.market import Market
from local.simulator.sensors import SPELL_MS
from local.simulator.shop import DAY_MS
from tests.simulator.conftest import MONDAY_MS


@pytest.fixture(scope="module")
def readings(market: Market) -> Events:
    """Four days of readings that came as they should."""
    events = concat([part for at in range(4) for part in market.sensors.events(*_day(at))])
    return events.take(np.flatnonzero(events.kind == NORMAL))


def _day(at: int) -> tuple[int, int]:
    return MONDAY_MS + at * DAY_MS, MONDAY_MS + (at + 1) * DAY_MS


def by_device(events: Events, label: int, sensor_type: str) -> dict[bytes, list[tuple[int, float]]]:
    """{device: [(event_ms, reading)]} of the readings with a label."""
    found = defaultdict(list)
    for row in np.flatnonzero(events.label == label).tolist():
        event = json.loads(events.values[row])
        if event["sensor_type"] == sensor_type:
            found[events.keys[row]].append((int(events.event_ms[row]), event["reading"]))
    return found


def test_sensors_measure_once_a_minute_in_every_warehouse(readings: Events) -> None:
    assert (readings.topic == IOT).all()
    rows = [json.loads(value) for value in readings.values[:5_000]]
    assert {row["warehouse_id"] for row in rows} == {"LEEDS", "BRISTOL", "KOELN", "LYON"}
    assert {row["sensor_type"] for row in rows} == {"temperature", "humidity", "door", "scale"}
    assert all(row["device_id"].startswith(row["warehouse_id"]) for row in rows)
    gaps = [np.median(np.diff(sorted(at for at, _ in found))) for found in by_device(readings, HONEST, "door").values()]
    assert set(gaps) == {60_000}


def test_warm_days_and_cold_nights_are_measured(readings: Events) -> None:
    for found in by_device(readings, HONEST, "temperature").values():
        by_hour = defaultdict(list)
        for at, reading in found:
            by_hour[at % DAY_MS // 3_600_000].append(reading)
        if len(by_hour) == 24:
            assert 3 < np.mean(by_hour[14]) - np.mean(by_hour[2]) < 7


def test_drifting_sensors_wander_off_and_stuck_ones_repeat_themselves(readings: Events) -> None:
    drifting = by_device(readings, DRIFT, "temperature")
    slopes = []
    for found in drifting.values():
        days = defaultdict(list)
        for at, reading in found:
            days[at // DAY_MS].append(reading)
        whole = [np.mean(values) for _, values in sorted(days.items()) if len(values) > 1_000]
        slopes += np.diff(whole).tolist()
    # 0.05 degrees an hour, until the sensor is calibrated.
    assert sum(0.8 < slope < 1.6 for slope in slopes) >= len(slopes) / 2 > 0
    stuck = by_device(readings, STUCK, "temperature")
    spells = defaultdict(set)
    for device, found in stuck.items():
        for at, reading in found:
            spells[device, at // SPELL_MS].add(reading)
    assert spells
    assert all(len(values) == 1 for values in spells.values())


def test_some_sensors_fall_silent_for_hours(readings: Events) -> None:
    seen = defaultdict(set)
    for key, at in zip(readings.keys, readings.event_ms.tolist()):
        seen[key].add(at // SPELL_MS)
    spells = range(MONDAY_MS // SPELL_MS, (MONDAY_MS + 4 * DAY_MS) // SPELL_MS)
    silent = sum(spell not in found for found in seen.values() for spell in spells)
    assert 0 < silent < 0.03 * len(seen) * len(spells)


def test_readings_are_named_after_devices_of_the_same_market(known: shop.Shop, market: Market) -> None:
    again = Market(known, market.pace).sensors.events(*_day(0))
    first = market.sensors.events(*_day(0))
    assert [part.values for part in again] == [part.values for part in first]
