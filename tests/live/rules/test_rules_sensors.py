"""Sensors: runs of bad readings and silence, one signal an episode."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from include.beam.rules import ReadingRow, thresholds
from include.beam.rules.sensors import Sensors
from tests.live.rules.stream import START_MS, Names, Partitions, When, check_new_start, content, log, names, play, whens

LIMITS = thresholds.read().sensor
SILENT_MS = LIMITS.silent_s * 1000


def reading(number: int, when: When, **fields: Any) -> ReadingRow:
    times = when.event_ms, when.arrival_ms
    return ReadingRow(f"iot:{number}", *times, "LEEDS-T-01", "LEEDS", "temperature", 20.0)._replace(**fields)


def series(values: list[float], period_s: int = 60, **fields: Any) -> list[ReadingRow]:
    """Readings of one sensor, one a period, that arrive at once."""
    moments = [START_MS + n * period_s * 1000 for n in range(len(values))]
    return [
        reading(n, When(ms, ms, None), reading=value, **fields) for n, (ms, value) in enumerate(zip(moments, values))
    ]


@st.composite
def logs(draw: st.DrawFn) -> Partitions:
    rows = []
    values = st.sampled_from(draw(st.sampled_from([[20.0, 50.0, 50.0], [20.0, 21.0], [50.0, 51.0]])))
    for number, when in enumerate(draw(whens(40, [1, 10, 60, 60, 100, 130, 500, 700, 1500]))):
        device = draw(st.sampled_from([0, 0, 0, 1]))
        rows.append((device, reading(number, when, device_id=f"T-{device}", reading=draw(values)), when))
    return log(rows, 2)


def by_definition(partitions: Partitions) -> Names:
    """By device: what is not newer than all before it takes part in no run; silence asks for all readings."""
    found = set()
    for device in ("T-0", "T-1"):
        every = [row for rows in partitions for row in rows if row.device_id == device]
        seen = [row for n, row in enumerate(every) if all(row.event_ms > before.event_ms for before in every[:n])]
        bad = [row.event_ms for n, row in enumerate(seen) if _is_beyond(seen[: n + 1]) or _is_stuck(seen[: n + 1])]
        for row in seen:
            if row.event_ms in bad and not any(0 < row.event_ms - ms <= LIMITS.episode_s * 1000 for ms in bad):
                found.add(("sensor_out_of_range", f"sensor:{device}", row.event_id))
            if not any(row.event_ms < other.event_ms <= row.event_ms + SILENT_MS for other in every):
                found.add(("sensor_silent", f"sensor:{device}", row.event_id))
    return found


def _run(rows: list[ReadingRow], length: int) -> list[ReadingRow]:
    """The last readings, if there are so many and none is far from the next."""
    last = rows[-length:]
    apart = [later.event_ms - row.event_ms for row, later in pairwise(last)]
    return last if len(last) == length and max(apart) <= LIMITS.gap_s * 1000 else []


def _is_beyond(rows: list[ReadingRow]) -> bool:
    low, high = LIMITS.limits["temperature"]
    run = _run(rows, LIMITS.in_a_row)
    return bool(run) and all(not low <= row.reading <= high for row in run)


def _is_stuck(rows: list[ReadingRow]) -> bool:
    return len({row.reading for row in _run(rows, LIMITS.stuck_in_a_row)}) == 1


@given(partitions=logs(), random=st.randoms(use_true_random=False))
def test_any_interleaving_finds_what_the_definition_says(partitions: Partitions, random: Random) -> None:
    found = play(Sensors, None, partitions, random)
    assert names(found) == by_definition(partitions)
    assert content(found) == content(play(Sensors, None, partitions))


@given(partitions=logs(), start_s=st.integers(-100, 6_000))
def test_job_that_begins_anew_its_horizon_earlier_finds_the_same(partitions: Partitions, start_s: int) -> None:
    check_new_start(Sensors, None, partitions, START_MS + start_s * 1000)


def test_third_reading_out_of_range_is_found_and_the_episode_ends_after_a_while() -> None:
    good = [20.0, 20.1] * LIMITS.episode_s
    quiet = LIMITS.episode_s // 60
    values = [20.0, -127.0, 20.0, -127.0, -127.0, -127.0, -127.0, 20.1, -127.0, -127.0, -127.0]
    values += [*good[:quiet], 40.0, 40.1, 40.2]
    found = [each for each in play(Sensors, None, [series(values)]) if each.kind == "sensor_out_of_range"]
    assert [(each.event_id, each.features["problem"]) for each in found] == [
        ("iot:5", "out_of_range"),
        (f"iot:{len(values) - 1}", "out_of_range"),
    ]


def test_thermometer_that_repeats_itself_is_stuck_and_a_door_is_not() -> None:
    stuck = series([20.3] * 30)
    first, silent = play(Sensors, None, [stuck])
    assert (first.event_id, first.features["problem"]) == (f"iot:{LIMITS.stuck_in_a_row - 1}", "stuck")
    assert silent.kind == "sensor_silent"
    doors = [row._replace(sensor_type="door", reading=0.0) for row in stuck]
    assert names(play(Sensors, None, [doors])) == {("sensor_silent", "sensor:LEEDS-T-01", "iot:29")}


def test_sensor_that_falls_silent_is_found_by_its_last_reading() -> None:
    rows = series([20.0, 20.1, 20.2])
    back = reading(9, When(START_MS + 1_000_000, START_MS + 1_000_000, None))
    found = play(Sensors, None, [[*rows, back]])
    assert [each.event_id for each in found] == ["iot:2", "iot:9"]
    assert found[0].decided_ms == rows[-1].event_ms + SILENT_MS + 60_000


def test_nothing_is_left_of_a_sensor_that_is_gone() -> None:
    rule = Sensors(None)
    rule.observe("sensor:1", series([20.0])[0])
    end_ms = START_MS + 3_600_000
    assert rule.advance(end_ms)
    rule.forget(end_ms - Sensors.HORIZON_S * 1000)
    assert rule.dump() == Sensors(None).dump()
