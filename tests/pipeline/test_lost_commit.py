"""The reply to a publication's COMMIT is lost for good: published or not, the task says what is true.

For a short while is no test of it: the connector itself asks again, by the same request id.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from snowflake.connector.errors import Error

from local.ports import free_ports
from local.snowflake.client import connect
from madhatter.publish import PublishFault, PublishLoad
from madhatter.warehouse import Warehouse
from tests.chaos.proxy import Proxy
from tests.pipeline.chain import Chain, order
from tests.stand_ins import Snowflake

SLICE = "hour-20110104t100000"
# Of the connector's own thread, which wants to cancel what takes too long.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
HOURS = {SLICE: ["2011-01-04T10:00:00"]}


@pytest.fixture
def given_up() -> list[Any]:
    """Errors that ended a session of the task."""
    return []


@pytest.fixture
def proxy(snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch, given_up: list[Any]) -> Iterator[Proxy]:
    """Between the task and the warehouse. Whom it refuses gives up after two seconds, and then it lets all in again."""
    (port,) = free_ports(1)
    own = Proxy(port, snowflake.port, reads_http=True)
    own.start()

    @contextmanager
    def session(_: Any = None) -> Iterator[Warehouse]:
        warehouse = Warehouse(connect(port, network_timeout=2))
        try:
            yield warehouse
        except Error as error:
            given_up.append(error)
            raise
        finally:
            own.is_refusing = False
            warehouse.close()

    monkeypatch.setattr("madhatter.warehouse.session", session)
    yield own
    own.stop()


@pytest.fixture
def staged(chain: Chain) -> Chain:
    """Ready to be published."""
    chain.send(0, order("A"), order("B"), b"junk")
    chain.staged(SLICE)
    return chain


def task() -> Any:
    context: Any = {"ti": SimpleNamespace(dag_id="dag", task_id="publish", run_id="run")}
    load = {"load_id": SLICE, "slices": [SLICE], "hours": HOURS}
    return PublishLoad(task_id="publish", load=load).execute(context)


@pytest.mark.usefixtures("proxy")
def test_fault_of_a_slice_that_was_published_before_is_not_taken_for_a_lost_reply(staged: Chain) -> None:
    task()
    before = staged.content("core", "marts", "ops")
    staged.warehouse.run("delete from staging.order_header where order_id = 'A'")
    with pytest.raises(PublishFault, match=SLICE):
        task()
    assert staged.content("core", "marts", "ops") == before


def test_publication_whose_reply_is_lost_is_published_once_and_the_task_succeeds(
    staged: Chain, proxy: Proxy, given_up: list[Any]
) -> None:
    def refuse() -> None:
        proxy.is_refusing = True

    proxy.on_lost_commit = refuse
    for _ in ("first", "again"):
        proxy.commits_lost, proxy.commits_to_lose = 0, 1
        given_up.clear()
        task()
        assert [error.errno for error in given_up] == [250003]
        assert proxy.commits_lost == 1
        assert staged.state(SLICE) == "committed"
        assert staged.is_balanced()
        assert staged.counts(SLICE)[0] == (3, 0, 2, 0, 1, 0)


def test_connection_that_is_lost_before_the_commit_is_an_error_and_nothing_is_visible(
    staged: Chain, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from madhatter import publish

    real = publish.compute_hours

    def compute_hours(*arguments: Any) -> None:
        real(*arguments)
        proxy.is_refusing = True
        proxy.cut()

    monkeypatch.setattr(publish, "compute_hours", compute_hours)
    with pytest.raises(Error):
        task()
    assert staged.state(SLICE) == "audited"
    assert staged.warehouse.rows("select event_id from core.order_header") == []
