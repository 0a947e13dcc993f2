"""The Dashboards page as a person meets it: a real browser, the real login, numbers equal to the warehouse's."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright

from local.instance import ROOT

DASHBOARDS = ROOT / "include" / "dashboards"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# A test's browser talks to the platform only: what Chromium does for itself is switched off.
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
)
_READY = "main[aria-busy=false] .panel:not(.loading)"
_DEADLINE_MS = 90_000


@dataclass
class Visit:
    """An open page, and all that went wrong in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note console errors, uncaught exceptions, requests to other hosts and answers of 400 and more."""
        allowed = (self.url, "data:", "blob:")
        self.page.on("console", lambda m: self.complaints.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(f"exception: {e}"))
        self.page.on(
            "request", lambda r: None if r.url.startswith(allowed) else self.complaints.append(f"host: {r.url}")
        )
        self.page.on("response", lambda r: self.complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None)

    @property
    def frame(self) -> Frame:
        """The dashboards inside Airflow's page, with figures and charts drawn."""
        element = self.page.wait_for_selector("iframe[title=Dashboards]", timeout=_DEADLINE_MS)
        frame = element.content_frame() if element else None
        assert frame is not None
        frame.wait_for_selector(_READY, timeout=_DEADLINE_MS)
        return frame


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    assert executable, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(browser: Browser, platform: Any) -> dict[str, Any]:
    """Cookies after a login through Airflow's own page."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(platform.airflow_url)
    page.fill("input[name=username]", "admin", timeout=_DEADLINE_MS)
    page.fill("input[name=password]", platform.admin_password)
    page.keyboard.press("Enter")
    page.wait_for_selector("a[href$='/plugin/dashboards']", timeout=_DEADLINE_MS)
    state = context.storage_state()
    context.close()
    return dict(state)


@pytest.fixture
def visit(browser: Browser, session: dict[str, Any], platform: Any) -> Iterator[Visit]:
    context = browser.new_context(storage_state=session, viewport={"width": 1440, "height": 900})  # type: ignore[arg-type]
    visit = Visit(context.new_page(), platform.airflow_url.rstrip("/"))
    visit.watch()
    yield visit
    context.close()


def _open(visit: Visit, query: str = "") -> Frame:
    visit.page.goto(f"{visit.url}/plugin/dashboards{query}")
    return visit.frame


def _value(frame: Frame, tile: str) -> float:
    text = frame.get_attribute(f"#tile-{tile}", "data-value")
    assert text, f"tile {tile} has no value"
    return float(text)


def _rows(frame: Frame, panel: str) -> list[dict[str, Any]]:
    """The data of the panel's Vega view, and proof that something of it is drawn."""
    frame.wait_for_selector(f"#panel-{panel} .stage svg .mark-rect path", timeout=_DEADLINE_MS, state="attached")
    rows = frame.evaluate("panel => window.dashboards.view(panel).data('rows').map(row => ({...row}))", panel)
    return list(rows)


def _one(platform: Any, statement: str) -> tuple[Any, ...]:
    rows = platform.sql(statement)
    assert len(rows) == 1
    return tuple(rows[0].values()) if isinstance(rows[0], dict) else tuple(rows[0])


def test_dashboards_open_from_the_navigation_with_charts_and_a_clean_console(visit: Visit) -> None:
    visit.page.goto(visit.url + "/")
    visit.page.click("a[href$='/plugin/dashboards']", timeout=_DEADLINE_MS)
    frame = visit.frame
    for panel in ("by_day", "by_country", "by_product", "by_hour_of_week", "returns"):
        assert _rows(frame, panel), panel
    assert frame.locator(".panel.failed, .tile.failed, .notice").count() == 0
    assert visit.complaints == []


def test_key_figures_of_all_data_equal_the_warehouse(visit: Visit, platform: Any) -> None:
    frame = _open(visit, "?period=all")
    # Orders go on arriving: the page's own window is the one to ask for.
    newest = frame.evaluate("() => dashboards.panel('by_day').answer.end")
    end = dt.datetime.fromisoformat(newest.removesuffix("Z"))
    net_sales, orders, average, returned = _one(
        platform,
        f"""
        select
            sum(net_sales) as net_sales,
            sum(orders) as orders,
            div0(sum(gross_sales), sum(orders)) as average_order,
            div0(sum(returned_sales), sum(gross_sales)) as return_share
        from reporting.sales_by_hour where order_hour < '{end:%Y-%m-%d %H:%M:%S}'
        """,
    )
    assert _value(frame, "net_sales") == pytest.approx(float(net_sales), abs=0.005)
    assert _value(frame, "orders") == float(orders)
    assert _value(frame, "average_order") == pytest.approx(float(average), rel=1e-9)
    assert _value(frame, "return_share") == pytest.approx(float(returned), rel=1e-9)


def test_charts_of_one_country_equal_the_warehouse(visit: Visit, platform: Any) -> None:
    frame = _open(visit, "?country=France&from=2000-01-01&to=2100-01-01")
    rows = _rows(frame, "by_day")
    drawn = {dt.datetime.fromtimestamp(row["order_date"] / 1000, dt.UTC).date(): row["net_sales"] for row in rows}
    asked = platform.sql(
        "select order_date, sum(net_sales) as net_sales from reporting.sales_by_day "
        "where country = 'France' group by order_date"
    )
    days = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in asked]
    expected = {dt.date.fromisoformat(str(day)[:10]): float(amount) for day, amount in days}
    closed = sorted(expected)[:-1]  # the newest day may have grown meanwhile
    assert len(closed) > 100
    assert [drawn[day] for day in closed] == pytest.approx([expected[day] for day in closed], abs=0.005)


def test_filter_changes_figures_and_the_outer_address_and_comes_back_from_it(visit: Visit) -> None:
    frame = _open(visit)
    before = _value(frame, "net_sales")
    frame.select_option("select[name=country]", "Germany")
    expect(frame.locator("#tile-net_sales")).not_to_have_attribute("data-value", re.compile(rf"^{int(before)}\b"))
    german = _value(frame, "net_sales")
    assert german < before
    assert visit.page.url.endswith("/plugin/dashboards?country=Germany")
    again = _open(visit, "?country=Germany")
    assert _value(again, "net_sales") == pytest.approx(german, rel=0.05)
    assert again.input_value("select[name=country]") == "Germany"


def _drawn_order(frame: Frame, panel: str, name: str) -> list[float]:
    """Net sales of a bar chart's names from top to bottom, as the view's scale places them."""
    return list(
        frame.evaluate(
            """([panel, name]) => {
                const view = window.dashboards.view(panel);
                const place = view.scale("y");
                const rows = view.data("rows").map((row) => [place(row[name]), row.net_sales]);
                return rows.sort((a, b) => a[0] - b[0]).map((row) => row[1]);
            }""",
            [panel, name],
        )
    )


def test_bars_stay_sorted_when_a_filter_changes_their_order(visit: Visit) -> None:
    frame = _open(visit)
    _rows(frame, "by_product")
    before = _drawn_order(frame, "by_product", "product")
    frame.select_option("select[name=country]", "France")
    frame.wait_for_function(
        "before => dashboards.view('by_product').data('rows')[0].net_sales !== before",
        arg=before[0],
        timeout=_DEADLINE_MS,
    )
    frame.check("input[value='90d']", force=True)
    frame.wait_for_function(
        "() => document.querySelector('main[aria-busy=false]') && dashboards.panel('by_product').query.period === '90d'"
        " && dashboards.panel('by_country').query.period === '90d'",
        timeout=_DEADLINE_MS,
    )
    for panel, name in (("by_country", "country"), ("by_product", "product")):
        drawn = _drawn_order(frame, panel, name)
        assert len(drawn) == 12
        assert drawn == sorted(drawn, reverse=True), panel
    assert visit.complaints == []


def test_platform_shows_slices_and_balanced_books(visit: Visit, platform: Any) -> None:
    frame = _open(visit, "?dashboard=platform")
    (committed,) = _one(platform, "select count(*) from reporting.slice_status where state = 'committed'")
    (unbalanced,) = _one(platform, "select count_if(not is_balanced) from ops.reconciliation")
    assert frame.locator("#panel-slices tbody tr").count() >= 1
    assert int(committed) >= 1
    assert _value(frame, "unbalanced") == float(unbalanced) == 0
    assert visit.complaints == []


def test_platform_shows_dead_letters_by_reason_and_what_became_of_them(visit: Visit, platform: Any) -> None:
    reason = "lines[].unit_price: is below the minimum"
    (open_,) = _one(
        platform,
        f"select open from reporting.dead_letter_by_reason where topic = 'sales.orders' and reason = '{reason}'",
    )
    assert int(open_) >= 2, "two orders of the real history have a negative price"
    frame = _open(visit, "?dashboard=platform")
    row = frame.locator("#panel-dead_letters_by_reason tbody tr", has_text=reason)
    assert row.locator("td").all_inner_texts()[:6] == [reason, "sales.orders", str(open_), "0", "0", "0"]
    assert visit.complaints == []


def test_table_of_a_chart_and_its_csv_have_the_same_rows(visit: Visit, tmp_path: Path) -> None:
    frame = _open(visit)
    frame.hover("#panel-by_country")
    frame.click("#panel-by_country button:has-text('Table')")
    shown = frame.locator("#panel-by_country tbody tr").count()
    with visit.page.expect_download() as download:
        frame.click("#panel-by_country button:has-text('CSV')")
    file = tmp_path / "by_country.csv"
    download.value.save_as(file)
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "country,net_sales,orders,share"
    assert len(lines) - 1 == shown == 12


def test_wrong_address_is_answered_in_words_on_the_page(visit: Visit) -> None:
    visit.page.goto(f"{visit.url}/dashboards/?period=5y")
    expect(visit.page.locator(".notice")).to_contain_text("Unknown period '5y'")
    visit.page.goto(f"{visit.url}/dashboards/?dashboard=nothing")
    expect(visit.page.locator(".notice")).to_contain_text("There is no dashboard “nothing”")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dashboard", sorted(file.stem for file in DASHBOARDS.glob("*.yml")))
def test_page_fits_its_width_in_both_themes(
    browser: Browser, session: dict[str, Any], platform: Any, dashboard: str, width: int, scheme: Any
) -> None:
    context = browser.new_context(
        storage_state=session,  # type: ignore[arg-type]
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
    )
    visit = Visit(context.new_page(), platform.airflow_url.rstrip("/"))
    visit.watch()
    page = visit.page
    page.goto(f"{visit.url}/dashboards/?dashboard={dashboard}")
    page.wait_for_selector(_READY, timeout=_DEADLINE_MS)
    assert page.locator(".tile.failed, .panel.failed, .notice").count() == 0
    assert visit.complaints == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.get_attribute("html", "data-theme") == scheme
    context.close()


def test_without_a_login_the_page_leads_to_it(browser: Browser, platform: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{platform.airflow_url.rstrip('/')}/dashboards/")
    expect(page.locator("input[name=username]")).to_be_visible(timeout=_DEADLINE_MS)
    assert context.request.get(f"{platform.airflow_url.rstrip('/')}/dashboards/api/sales/totals").status == 401
    context.close()
