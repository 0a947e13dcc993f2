"""Dashboards in Airflow's navigation: mounts madhatter.dashboards.app under /dashboards, shown as a page of the UI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

Message = MutableMapping[str, Any]
ASGI = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class DashboardsApp:
    """Built on the first request: schedulers and tasks import this module too."""

    @cached_property
    def _app(self) -> ASGI:
        from madhatter.dashboards.app import make_app

        return make_app()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await self._app(scope, receive, send)


class DashboardsPlugin(AirflowPlugin):
    """Registered by Airflow's plugin manager."""

    name = "dashboards"
    fastapi_apps = [{"app": DashboardsApp(), "url_prefix": "/dashboards", "name": "Dashboards"}]
    external_views = [
        {
            "name": "Dashboards",
            "href": "/dashboards/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "dashboards",
            "icon": "/dashboards/static/icon/icon.svg",
        }
    ]
