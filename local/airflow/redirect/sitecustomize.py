"""Points production's clients at this machine's stand-ins. On PYTHONPATH of locally launched processes only.

A client that lets no setting say where its service is gets it here, when its module is imported; nothing is imported
for it. Where production code can be told by a connection or a variable, it is, and stands not in this file.
An own finder and not wrapt's hooks: wrapt takes longer to import than an interpreter to start, and the warehouse's
environment has none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


SNOWFLAKE = (".snowflakecomputing.com", ".snowflakecomputing.cn")


def snowflake_over_http(connection: ModuleType) -> None:
    """Sessions with a host that is not Snowflake's speak http: Airflow's hook passes host and port, but no protocol."""
    init = connection.SnowflakeConnection.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if not str(kwargs.get("host") or SNOWFLAKE[0]).endswith(SNOWFLAKE):
            kwargs.setdefault("protocol", "http")
        init(self, *args, **kwargs)

    connection.SnowflakeConnection.__init__ = __init__


def dataflow_here(hooks: ModuleType) -> None:
    """DataflowHook (REST) and AsyncDataflowHook (gRPC) talk to DATAFLOW_*_ENDPOINT, without credentials."""
    rest, rpc = os.environ.get("DATAFLOW_API_ENDPOINT"), os.environ.get("DATAFLOW_GRPC_ENDPOINT")

    def get_conn(_: Any) -> Any:
        import httplib2
        from google.api_core.client_options import ClientOptions

        options = ClientOptions(api_endpoint=rest)
        # The description of the API is the one in the client's package: nothing is fetched.
        return hooks.build(
            "dataflow",
            "v1b3",
            http=httplib2.Http(timeout=60),
            cache_discovery=False,
            client_options=options,
            static_discovery=True,
        )

    async def initialize_client(_: Any, client_class: Any) -> Any:
        import grpc

        transport = client_class.get_transport_class("grpc_asyncio")
        return client_class(transport=transport(channel=grpc.aio.insecure_channel(rpc)))

    if rest:
        hooks.DataflowHook.get_conn = get_conn
    if rpc:
        hooks.AsyncDataflowHook.initialize_client = initialize_client


def pubsub_here(hooks: ModuleType) -> None:
    """PubSubAsyncHook pulls from PUBSUB_EMULATOR_HOST, which Google's other clients heed by themselves."""
    address = os.environ.get("PUBSUB_EMULATOR_HOST")

    async def subscriber(_: Any) -> Any:
        import grpc

        client_class = hooks.SubscriberAsyncClient
        transport = client_class.get_transport_class("grpc_asyncio")
        return client_class(transport=transport(channel=grpc.aio.insecure_channel(address)))

    if address:
        hooks.PubSubAsyncHook._get_subscriber_client = subscriber


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "snowflake.connector.connection": snowflake_over_http,
    "airflow.providers.google.cloud.hooks.dataflow": dataflow_here,
    "airflow.providers.google.cloud.hooks.pubsub": pubsub_here,
}


class Redirect:
    """A finder that calls a module's hook right after the module has run."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        hook = HOOKS.get(name)
        spec = PathFinder.find_spec(name, path, target) if hook else None
        if spec is None or spec.loader is None or hook is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            hook(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _next_sitecustomize() -> None:
    """Runs the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs 10 ms here
    spec = PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.abspath(p) != here])  # noqa: PTH100
    if spec and spec.loader and (code := spec.loader.get_code("sitecustomize")):  # type: ignore[attr-defined]
        exec(code, {"__name__": "sitecustomize", "__file__": spec.origin})


sys.meta_path.insert(0, Redirect)  # type: ignore[arg-type]
_next_sitecustomize()
