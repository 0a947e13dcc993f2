"""Measurements as tables, and as one picture."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from local import table

Line = dict[str, Any]
STEPS = ("plan", "transform", "stage", "audit", "publish", "correct", "health")
SIZES = ("store", "files", "staged", "warehouse", "log", "segments", "memory")


def read(measured: Path) -> list[Line]:
    """The lines of a run."""
    return [json.loads(line) for line in measured.read_text().splitlines()]


def hours_of_day(found: list[Line]) -> dict[int, list[Line]]:
    """Day (from 1 on) -> its measured hours, 10:00 to 14:59."""
    days: dict[int, list[Line]] = defaultdict(list)
    for line in found:
        if line["kind"] == "hour" and line["a_day"] == 24:
            day, hour = divmod(round(line["days"] * 24) - 1, 24)
            if 10 <= hour < 15:
                days[day + 1].append(line)
    return dict(days)


def cost(lines: list[Line], unit: str) -> dict[str, float]:
    """Step -> its median over hours, and `hour`, that of what retail_hourly does. unit: wall_s or cpu_s."""
    medians = {step: median(line["costs"][step][unit] for line in lines) for step in STEPS}
    whole = [sum(line["costs"][step][unit] for step in STEPS[:-1]) for line in lines]
    return medians | {"hour": median(whole)}


def text(found: list[Line]) -> str:
    """An hour's cost by day, CPU and clock; the end of a day; sizes; what there was in the end."""
    days = hours_of_day(found)
    parts = []
    for unit, words in (("cpu_s", "CPU seconds of an hour"), ("wall_s", "seconds of an hour by the clock")):
        rows = []
        for day in [day for day in days if _is_shown(day) or len(days) <= 10]:
            own, base = cost(days[day], unit), cost(days[min(days)], unit)
            rows.append([day, *(f"{own[name]:.2f}" for name in (*STEPS, "hour")), f"{own['hour'] / base['hour']:.2f}"])
        if rows:
            parts.append(f"{words}, medians\n" + table.text(["day", *STEPS, "hour", "to day 1"], rows))
    ends = _ends(found)
    names = sorted({name for line in ends.values() for name in line["costs"]})
    rows = []
    for day, line in ends.items():
        costs = line["costs"]
        rows.append([day, *(f"{costs[name]['cpu_s']:.2f}" if name in costs else "" for name in names)])
    parts.append("CPU seconds of the end of a day, or of a load of days\n" + table.text(["day", *names], rows))
    rows = [[day, *(_size(name, line["size"][name]) for name in SIZES)] for day, line in ends.items()]
    parts.append("after the day\n" + table.text(["day", *SIZES], rows))
    parts += [
        ", ".join(f"{count:,} {name}" for name, count in line.items() if name not in ("kind", "days", "a_day"))
        for line in found
        if line["kind"] == "end"
    ]
    return "\n\n".join(parts)


def _ends(found: list[Line]) -> dict[int, Line]:
    """Day -> what was noted at its end, of the days that are shown."""
    ends = {int(line["days"]): line for line in found if line["kind"] == "day" and line["costs"]}
    return {day: line for day, line in ends.items() if _is_shown(day)}


def _is_shown(day: int) -> bool:
    return day in (1, 2, 3, 4, 5, 10, 15, 20, 25) or day >= 30


def _size(name: str, value: int) -> str:
    return f"{value:,}" if name in ("files", "staged", "segments") else f"{value / 1e6:.1f} MB"


WIDTH, HEIGHT, LEFT, TOP = 400, 260, 50, 50
INK = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
FONT = 'font-family="sans-serif" font-size="11" fill="#444"'


def chart(found: list[Line]) -> str:
    """An SVG: sizes over the days that went hour by hour, and what an hour costs at the points."""
    costs = {day: cost(lines, "cpu_s") for day, lines in hours_of_day(found).items()}
    month: dict[int, dict[str, int]] = {}
    for line in found:
        if line["kind"] == "day" and line["days"] == len(month) + 1:
            month[len(month) + 1] = line["size"]
    points = [day for day in costs if day in (1, 29, 30) or day > 31]
    left = _lines(
        {
            "files of loads and archive": {day: size["store"] / 1e6 for day, size in month.items()},
            "the broker's folder": {day: size["log"] / 1e6 for day, size in month.items()},
        }
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (WIDTH + LEFT + 20)} {HEIGHT + TOP + 50}">'
        '<rect width="100%" height="100%" fill="white"/>'
        f"<g>{left}{_text(LEFT, 18, 'MB on disk, by day')}</g>"
        f'<g transform="translate({WIDTH + LEFT + 20},0)">{_bars({day: costs[day] for day in points})}'
        f"{_text(LEFT, 18, 'CPU seconds of an hour, by day')}</g></svg>\n"
    )


def _lines(series: dict[str, dict[int, float]]) -> str:
    values = [value for points in series.values() for value in points.values()] or [1.0]
    last = max([day for points in series.values() for day in points] or [1])
    most = _round(max(values))
    drawn = _axis(most)
    for number, (name, points) in enumerate(series.items()):
        places = " ".join(
            f"{LEFT + (day - 1) * WIDTH / max(1, last - 1):.1f},{TOP + HEIGHT * (1 - value / most):.1f}"
            for day, value in points.items()
        )
        drawn += f'<polyline points="{places}" fill="none" stroke="{INK[number]}" stroke-width="2"/>'
        drawn += _legend(number, name, 170)
    ends = ((LEFT, "1"), (LEFT + WIDTH - 10, f"{last}"))
    return drawn + "".join(_text(x, TOP + HEIGHT + 16, words) for x, words in ends)


def _bars(costs: dict[int, dict[str, float]]) -> str:
    steps = STEPS[:5]
    most = _round(max([sum(own[step] for step in steps) for own in costs.values()] or [1.0]))
    drawn, width = _axis(most), WIDTH / max(1, len(costs))
    for place, (day, own) in enumerate(costs.items()):
        bottom, x = float(TOP + HEIGHT), LEFT + place * width + width * 0.15
        for number, step in enumerate(steps):
            height = own[step] / most * HEIGHT
            bottom -= height
            drawn += (
                f'<rect x="{x:.1f}" y="{bottom:.1f}" width="{width * 0.7:.1f}" height="{height:.1f}" '
                f'fill="{INK[number]}"/>'
            )
        drawn += _text(x, TOP + HEIGHT + 16, f"day {day}")
    return drawn + "".join(_legend(number, step, 80) for number, step in enumerate(steps))


def _round(most: float) -> float:
    """The next multiple of four at such a size: each of four lines has a short number."""
    size = 4 * 10.0 ** math.floor(math.log10(most / 4))
    return size * math.ceil(most / size)


def _axis(most: float) -> str:
    drawn = ""
    for part in range(5):
        y = TOP + HEIGHT * (1 - part / 4)
        drawn += f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#ddd"/>'
        drawn += _text(8, y + 4, f"{most * part / 4:.3g}")
    return drawn


def _legend(number: int, name: str, width: int) -> str:
    x = LEFT + number * width
    return f'<rect x="{x}" y="28" width="10" height="10" fill="{INK[number]}"/>{_text(x + 14, 37, name)}'


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT}>{words}</text>'
