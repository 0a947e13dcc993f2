"""Dashboard files, filters and the API, with rows from a source in memory; tests/e2e/browser has the real warehouse."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import sqlglot
import vl_convert
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from madhatter import audit_page
from madhatter.audit import Verdict
from madhatter.dashboards import app as app_module
from madhatter.dashboards import files
from madhatter.dashboards.app import make_app
from madhatter.dashboards.board import Board
from madhatter.dashboards.cache import Cache
from madhatter.dashboards.filters import Coverage, FilterError, NothingBefore, select
from madhatter.dashboards.model import Dashboard, palette
from madhatter.dashboards.query import StatementFailed, Table, WarehouseDown
from madhatter.settings import settings

SHELF = files.load()
COVERAGE = Coverage(dt.datetime(2025, 11, 24, 8), dt.datetime(2026, 11, 23, 10), dt.datetime(2026, 11, 23, 10), "v1")
MINIMAL = """\
title: Tiny
summary: One table.
coverage: {dataset: coverage, promise_min: 60}
datasets:
  coverage:
    sql: select max(order_hour) as data_to from reporting.sales_by_hour
panels:
  - id: hours
    title: Hours
    dataset: coverage
    kind: table
    columns:
      - {field: data_to, label: To}
"""


def _errors(text: str) -> list[str]:
    with pytest.raises(ExceptionGroup) as caught:
        files.parse(text, "include/dashboards/tiny.yml")
    return [str(error) for error in caught.value.exceptions]


def _datasets() -> list[Any]:
    return [
        pytest.param(dataset, board, id=f"{name}.{dataset}")
        for name, board in SHELF.dashboards.items()
        for dataset in board.datasets
    ]


def _charts() -> list[Any]:
    return [
        pytest.param(panel, id=f"{name}.{panel.id}")
        for name, board in SHELF.dashboards.items()
        for panel in board.panels
        if panel.kind == "chart"
    ]


def test_every_dashboard_file_is_valid() -> None:
    assert [str(error) for error in SHELF.errors] == []
    assert next(iter(SHELF.dashboards)) == "sales"
    assert "platform" in SHELF.dashboards


@pytest.mark.parametrize(("dataset", "board"), _datasets())
def test_dataset_only_reads_what_dashboards_may_and_binds_its_parameters(dataset: str, board: Dashboard) -> None:
    item = board.datasets[dataset]
    parsed = sqlglot.parse(item.sql, read="snowflake")
    assert len(parsed) == 1
    statement = parsed[0]
    assert isinstance(statement, exp.Select)
    common = {cte.alias_or_name.lower() for cte in statement.find_all(exp.CTE)}
    tables = {f"{table.db}.{table.name}".lower() for table in statement.find_all(exp.Table) if table.db}
    unnamed = {table.name.lower() for table in statement.find_all(exp.Table) if not table.db and table.name} - common
    assert unnamed == set()
    assert all(table.startswith("reporting.") or table in ("ops.reconciliation", "ops.dead_letter") for table in tables)
    assert item.statement.count("?") == len(item.parameters)


@pytest.mark.parametrize("panel", _charts())
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_chart_compiles_to_vega(panel: Any, theme: str) -> None:
    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: resolve(value) for key, value in node.items()}
        if isinstance(node, list):
            return [resolve(value) for value in node]
        return palette()[theme].get(node[1:], node) if isinstance(node, str) and node.startswith("$") else node

    spec = {**resolve(panel.spec), "data": {"name": "rows"}, "width": 400, "height": panel.height}
    assert vl_convert.vegalite_to_vega(spec)["marks"]


def test_both_themes_have_the_same_meanings() -> None:
    assert palette()["light"].keys() == palette()["dark"].keys()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("title: Tiny", "titel: Tiny", "tiny.yml:1: titel: is not a word of dashboard files"),
        ("kind: table", "kind: pie", "tiny.yml:11: panels.0.kind: Input should be 'chart' or 'table'"),
        ("    dataset: coverage\n    kind", "    dataset: cover\n    kind", "tiny.yml:10: there is no dataset cover"),
        ("label: To}", "label: To, format: euro}", "tiny.yml:13: panels.0.columns.0.format: "),
        (
            "from reporting.sales_by_hour",
            "from core.order_line",
            "tiny.yml:6: datasets.coverage.sql: core.order_line is not",
        ),
        ("select max", "delete; select max", "tiny.yml:6: datasets.coverage.sql: a dataset is one SELECT"),
        ("reporting.sales_by_hour", "reporting.sales_by_hour where c = :c", "tiny.yml:6: parameter :c is no filter"),
        ("summary: One", "summary: One: two", "tiny.yml:2: not YAML: "),
    ],
)
def test_error_in_a_dashboard_file_names_file_and_line(old: str, new: str, expected: str) -> None:
    errors = _errors(MINIMAL.replace(old, new))
    assert any(expected in error for error in errors), errors


def test_all_errors_of_a_file_are_reported_at_once() -> None:
    assert len(_errors(MINIMAL.replace("kind: table", "kind: pie").replace("title: Tiny", "titel: Tiny"))) >= 2


def test_colour_without_a_meaning_is_an_error() -> None:
    text = MINIMAL.replace("kind: table", "spec: {mark: {type: bar, color: $pink}}")
    assert any("$pink has no meaning" in error for error in _errors(text))


def test_unquoted_on_is_explained() -> None:
    assert any(
        "put it in quotes" in error for error in _errors(MINIMAL.replace("kind: table", "spec: {mark: {on: click}}"))
    )


SALES = SHELF.dashboards["sales"]


def test_default_period_ends_where_the_data_ends() -> None:
    selection = select(SALES, {}, COVERAGE)
    assert (selection.start, selection.end) == (dt.datetime(2025, 11, 24), dt.datetime(2026, 11, 23, 10))


def test_period_before_is_as_long_and_cut_at_the_same_time_of_day() -> None:
    selection = select(SALES, {"period": "30d", "compare": "previous"}, COVERAGE)
    assert (selection.start, selection.end) == (dt.datetime(2026, 9, 25), dt.datetime(2026, 10, 24, 10))


def test_period_before_the_first_data_is_not_compared() -> None:
    with pytest.raises(NothingBefore):
        select(SALES, {"period": "12m", "compare": "previous"}, COVERAGE)


def test_dates_are_inclusive() -> None:
    selection = select(SALES, {"from": "2026-01-01", "to": "2026-01-31"}, COVERAGE)
    assert (selection.start, selection.end) == (dt.datetime(2026, 1, 1), dt.datetime(2026, 2, 1))


@pytest.mark.parametrize(
    "query",
    [
        {"period": "5y"},
        {"from": "2026-02-30"},
        {"from": "yesterday"},
        {"from": "20260101"},
        {"to": "9999-12-31"},
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"colour": "red"},
        {"compare": "next"},
    ],
)
def test_wrong_filter_is_refused_in_words(query: dict[str, str]) -> None:
    with pytest.raises(FilterError, match=r"^[A-Z'2].{10,}\.$"):
        select(SALES, query, COVERAGE)


@given(text=st.text(max_size=60))
def test_no_text_reaches_the_statement(text: str) -> None:
    selection = select(SALES, {"country": text}, COVERAGE)
    assert selection.values["country"] == (text or None)
    assert all(len(text) < 12 or text not in item.statement for item in SALES.datasets.values())


class Memory:
    """A source of fixed rows that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any]]] = []
        self.slices = 1
        self.failure: Exception | None = None

    def ask(self, statement: str, values: list[Any], tag: str) -> Table:
        json.loads(tag)
        self.asked.append((statement, values))
        if self.failure:
            raise self.failure
        if "as data_from" in statement:
            columns = (("data_from", "time"), ("data_to", "time"), ("complete_to", "time"), ("slices", "number"))
            return Table(
                columns, (("2025-11-24T08:00:00Z", "2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z", self.slices),)
            )
        if statement.startswith("select country, sum(net_sales)"):
            return Table((("country", "text"), ("net_sales", "number")), (("France", 197403.9), ("=SUM(A1)", 1.5)))
        return Table((("net_sales", "number"),), ((1234.5,),))

    def close(self) -> None:
        pass


@pytest.fixture
def source() -> Memory:
    return Memory()


def _open(board: Board) -> FastAPI:
    """The application as a logged-in user sees it."""
    app = make_app(board)
    for dependency in app.router.dependencies:
        assert dependency.dependency is not None
        app.dependency_overrides[dependency.dependency] = lambda: None
    return app


@pytest.fixture
def client(source: Memory) -> Iterator[TestClient]:
    with TestClient(_open(Board(source))) as client:
        yield client


def test_unknown_dashboard_dataset_and_file_are_404_in_words(client: TestClient) -> None:
    for path in (
        "/api/nothing/totals",
        "/api/sales/nothing",
        "/api/sales/nothing.csv",
        "/api/nothing/status",
        "/static/1/nothing.js",
    ):
        response = client.get(path)
        assert response.status_code == 404
        assert len(response.json()["detail"]) > 15


def test_unknown_filter_date_and_country_are_422_in_words(client: TestClient) -> None:
    for query in ("colour=red", "from=never", "period=5y", "country=Atlantis", "country=France'%20or%20'1'='1"):
        response = client.get(f"/api/sales/totals?{query}")
        assert response.status_code == 422, query
        assert len(response.json()["detail"]) > 15


def test_a_country_is_bound_beside_the_statement(client: TestClient, source: Memory) -> None:
    assert client.get("/api/sales/totals?country=France").status_code == 200
    statement, values = source.asked[-1]
    assert "France" not in statement
    assert values[2:] == ["France", "France"]


def test_question_is_asked_once_until_the_data_has_a_new_version(
    source: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("madhatter.dashboards.board._LOOK_EVERY_S", 0.0)
    with TestClient(_open(Board(source))) as fresh:
        first = fresh.get("/api/sales/totals").json()
        fresh.get("/api/sales/totals")
        assert sum("average_order" in statement for statement, _ in source.asked) == 1
        source.slices += 1
        second = fresh.get("/api/sales/totals").json()
    assert sum("average_order" in statement for statement, _ in source.asked) == 2
    assert first["version"] != second["version"]


def test_warehouse_down_is_503_in_words(client: TestClient, source: Memory) -> None:
    source.failure = WarehouseDown("The warehouse does not answer.")
    for path in ("/api/sales/status", "/api/sales/totals", "/api/sales/totals.csv"):
        response = client.get(path)
        assert (response.status_code, response.json()["detail"]) == (503, "The warehouse does not answer.")


def test_refused_statement_names_dataset_and_file(client: TestClient, source: Memory) -> None:
    source.failure = StatementFailed("002003: object does not exist")
    response = client.get("/api/sales/status")
    assert response.status_code == 502
    assert response.json()["detail"].startswith(
        "Dataset coverage of include/dashboards/sales.yml failed in the warehouse: 002003"
    )


def test_csv_has_a_header_and_no_formulas(client: TestClient) -> None:
    response = client.get("/api/sales/countries.csv")
    assert response.headers["content-disposition"] == 'attachment; filename="sales-countries.csv"'
    assert response.content.decode("utf-8-sig").splitlines() == [
        "country,net_sales",
        "France,197403.9",
        "'=SUM(A1),1.5",
    ]


def test_page_forbids_other_hosts_and_eval_and_foreign_frames(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "{{" not in response.text


def test_files_of_the_page_may_be_kept_for_ever_and_are_checked_by_etag(client: TestClient) -> None:
    page = client.get("/").text
    path = next(part.split('"')[0] for part in page.split('href="') if "page.css" in part)
    response = client.get("/" + path)
    assert "immutable" in response.headers["cache-control"]
    assert client.get("/" + path, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_sql_is_not_shown_to_the_browser(client: TestClient) -> None:
    assert "from reporting." not in client.get("/api/dashboards").text


def test_every_route_asks_who_is_there(source: Memory) -> None:
    app = make_app(Board(source))
    routes = [route for route in app.routes if hasattr(route, "dependant")]
    assert len(routes) == len(app.routes)
    for route in routes:
        first = route.dependant.dependencies
        calls = {inner.call for dependency in first for inner in (dependency, *dependency.dependencies)}
        assert get_user in calls, route


def test_without_a_login_the_page_leads_to_it_and_the_api_says_401(source: Memory, monkeypatch: Any) -> None:
    class Auth:
        def get_url_login(self, next_url: str) -> str:
            return f"/auth/login?next={next_url}"

    monkeypatch.setattr(app_module, "get_auth_manager", Auth)
    with TestClient(make_app(Board(source)), follow_redirects=False) as client:
        page = client.get("/")
        assert (page.status_code, page.headers["location"]) == (302, "/auth/login?next=http://testserver/")
        audit = client.get("/audit/hour-20261123t100000")
        assert audit.status_code == 302
        assert audit.headers["location"] == "/auth/login?next=http://testserver/audit/hour-20261123t100000"
        for path in (
            "api/dashboards",
            "api/sales/totals",
            "api/sales/totals.csv",
            "api/sales/status",
            "static/1/page.js",
        ):
            assert client.get(f"/{path}").status_code == 401
    assert source.asked == []


def test_many_askers_cost_one_computation() -> None:
    cache: Cache[int] = Cache(size=4, age_s=60)
    gate, calls, answers = Barrier(8), [], []

    def compute() -> int:
        calls.append(1)
        return 7

    def ask() -> None:
        gate.wait()
        answers.append(cache.get("key", compute))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, len(calls)) == ([7] * 8, 1)


def test_a_failure_is_not_kept() -> None:
    cache: Cache[int] = Cache(size=4, age_s=60)

    def fail() -> int:
        raise WarehouseDown("down")

    with pytest.raises(WarehouseDown):
        cache.get("key", fail)
    assert cache.get("key", lambda: 1) == 1


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty store that the settings name."""
    monkeypatch.setenv("MADHATTER_STORE", tmp_path.as_uri())
    settings.cache_clear()
    yield tmp_path.as_uri()
    settings.cache_clear()


def test_audit_page_is_served_as_it_was_stored_and_runs_and_loads_nothing(client: TestClient, store: str) -> None:
    name = "hour-20261123t100000"
    rule = Verdict("sales.orders", "order_line", "lines_move", "quantity is not 0", "warning", 7, "broken", "9.00 %")
    audit_page.write(store, name, [rule])
    page = client.get(f"/audit/{name}")
    assert page.status_code == 200
    assert page.content == audit_page.read(store, name)
    assert "Passed with 1 warning" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "<script" not in page.text


@pytest.mark.parametrize("name", ["hour-20261123t100000", "..%2fsecret", "secret"])
def test_slice_without_an_audit_has_no_page(client: TestClient, store: str, name: str) -> None:
    answer = client.get(f"/audit/{name}")
    assert answer.status_code == 404
    assert store not in answer.text
