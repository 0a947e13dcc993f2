"""The page of an audit: every rule that was checked over a load, in words, with its outcome and no value of any row.

Written beside the load in the store, served by madhatter.dashboards.app under /dashboards/audit/<load id>. Great
Expectations' own data docs load their looks from four public hosts and print what they observed: neither is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseOperator, BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

    from madhatter.audit import Verdict

LOAD_ID = re.compile(r"hour-[0-9]{8}t[0-9]{6}|(backfill|replay)-[0-9a-f]{16}(-[0-9]{1,4})?")
# Nothing is run or loaded; the page's own style sheet stands in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


class AuditLink(BaseOperatorLink):
    """The button on the task that leads to its load's page."""

    name = "Audit page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        given = getattr(operator, "load", None)
        # A path, not an address: whoever follows it is logged in at the host that he came by.
        return urlsplit(address(given["load_id"])).path if isinstance(given, dict) else ""


def address(load_id: str) -> str:
    """Where the web server shows a load's page."""
    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/dashboards/audit/{load_id}"


def uri(store: str, load_id: str) -> str:
    """Where the store keeps a load's page."""
    from include import storage
    from include.beam.plan import load_folder

    return storage.join(load_folder(store, load_id), "audit.html")


def write(store: str, load_id: str, verdicts: list[Verdict]) -> None:
    """Stores the page of a load, in place of an earlier one."""
    from include import storage

    body = html(load_id, verdicts, datetime.now(UTC)).encode()
    storage.write_whole(uri(store, load_id), lambda sink: sink.write(body))


def read(store: str, load_id: str) -> bytes:
    """The stored page. Raises FileNotFoundError when the load has none, or when the id is no load's."""
    from include import storage

    if not LOAD_ID.fullmatch(load_id):
        raise FileNotFoundError(f"{load_id!r} is no load id")
    return storage.read_bytes(uri(store, load_id))


def words(rule: dict[str, Any], why: str) -> str:
    """A rule of a suite in words. why: what its contract says of it."""
    kwargs = dict(rule["kwargs"])
    column, mostly, values = kwargs.pop("column", ""), kwargs.pop("mostly", None), kwargs.get("value_set", [])
    lowest, highest = kwargs.get("min_value"), kwargs.get("max_value")
    listed = ", ".join(map(str, values))
    bounds = [f"at least {lowest}"] * (lowest is not None) + [f"at most {highest}"] * (highest is not None)
    known = {
        "expect_column_values_to_not_be_null": "is given",
        "expect_column_values_to_be_null": "is empty",
        "expect_column_values_to_be_in_set": f"is {'one of ' * (len(values) > 1)}{listed}",
        "expect_column_values_to_not_be_in_set": f"is not {'one of ' * (len(values) > 1)}{listed}",
        "expect_column_values_to_be_between": f"is {' and '.join(bounds)}",
    }
    other = rule["type"].removeprefix("expect_").replace("_", " ") + "".join(f", {k} {v}" for k, v in kwargs.items())
    share = f" in at least {100 * mostly:g} % of rows" if mostly is not None else ""
    said = f"{column} {known.get(rule['type'], other)}".strip() + share
    return f"{said}. {why}" if why else said


def html(load_id: str, verdicts: Iterable[Verdict], checked: datetime) -> str:
    """The whole page. checked: UTC."""
    tables: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda v: _RANK[_tone(v)]):  # what needs a look comes first
        tables.setdefault((verdict.topic, verdict.table), []).append(verdict)
    tones = [_tone(verdict) for rules in tables.values() for verdict in rules]
    errors, warnings = tones.count("error"), tones.count("warning")
    warned = f" with {_count(warnings, 'warning')}" if warnings else ""
    if errors:
        tone, result = "error", f"Held: {_count(errors, 'rule')} of severity error broken{warned and ',' + warned}"
    elif warnings:
        tone, result = "warning", f"Passed{warned}"
    else:
        tone, result = "holds", "Passed: all rules hold" if tones else "Nothing was delivered: nothing to check"
    sections = []
    for (topic, table), rules in tables.items():
        lines = "".join(map(_line, rules))
        sections.append(
            f"<section><h2>{escape(table)} <small>{escape(topic)} · {_count(rules[0].rows, 'row')}</small></h2>"
            "<table><thead><tr><th>Result</th><th>Rule</th><th>Severity</th><th class=n>Rows</th>"
            f"<th class=n>Share broken</th></tr></thead><tbody>{lines}</tbody></table></section>"
        )
    held = (
        "<p>It stays in staging until its run is cleared from plan, or until a person publishes it as it is with "
        '<a href="../../dags/force_publish">force_publish</a>: docs/runbook.md (slice held).</p>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {escape(load_id)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><p class=top>Audit</p><h1>{escape(load_id)}</h1>"
        f'<p><b class="{tone}">{result}</b> <span>{_count(len(tones), "rule")} checked over '
        f"{_count(len(sections), 'table')}, {checked:%Y-%m-%d %H:%M:%S} UTC</span></p>{held if errors else ''}</header>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _line(verdict: Verdict) -> str:
    tone = _tone(verdict)
    said = {"error": "Broken", "warning": "Broken", "few": "Too few rows", "holds": "Holds"}[tone]
    named = "" if verdict.rule.startswith("expect_") else f"<code>{escape(verdict.rule)}</code> "
    return (
        f'<tr><td><b class="{tone}">{said}</b></td><td>{named}{escape(verdict.words)}</td>'
        f"<td>{escape(verdict.severity)}</td><td class=n>{verdict.rows:,}</td>"
        f"<td class=n>{escape(verdict.observed.removesuffix(' of rows'))}</td></tr>"
    )


def _tone(verdict: Verdict) -> str:
    return verdict.severity if verdict.outcome == "broken" else verdict.outcome


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_RANK = {"error": 0, "warning": 1, "few": 2, "holds": 3}
_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e5e8ee; --text: #1b1f2a; --soft: #667085;
  --good: #14734d; --good-soft: #e3f6ee; --warn: #8a5a00; --warn-soft: #fdf4e0; --bad: #b3261e; --bad-soft: #fdeceb;
  --calm: #55607a; --calm-soft: #eef0f4; font: 14px/1.45 Inter, ui-sans-serif, system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1016; --card: #161a22; --line: #242a35; --text: #eef0f5;
  --soft: #9aa3b5; --good: #45c38d; --good-soft: #14322a; --warn: #efb03f; --warn-soft: #372b14; --bad: #f4706c;
  --bad-soft: #3a1d20; --calm: #9aa3b5; --calm-soft: #252b37; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--text); background: var(--page); }
main { max-width: 1080px; margin: 0 auto; padding: 24px; }
h1 { margin: 0 0 8px; font-size: 22px; overflow-wrap: anywhere; }
h2 { margin: 0; padding: 12px 14px; font-size: 15px; }
p { margin: 0 0 4px; }
a { color: inherit; }
small, span, .top { color: var(--soft); font-size: 13px; font-weight: 400; }
header b { margin-right: 8px; }
b { display: inline-block; padding: 1px 8px; border-radius: 6px; font-weight: 600; font-size: 12.5px;
  white-space: nowrap; }
.holds { color: var(--good); background: var(--good-soft); }
.warning { color: var(--warn); background: var(--warn-soft); }
.error { color: var(--bad); background: var(--bad-soft); }
.few { color: var(--calm); background: var(--calm-soft); }
section { margin-top: 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: 6px 14px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: 12.5px; }
th:first-child { width: 120px; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font-size: 12.5px; font-weight: 600; }
"""
