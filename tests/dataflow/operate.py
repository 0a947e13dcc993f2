"""`python -m tests.dataflow.operate NAME TEMPLATE PARAMETERS [PATIENCE_S [RESULT_URI]]`: LaunchPipeline as in Airflow.

First in the worker, then its trigger, again and again; prints a line at each step: `deferred JSON`, `result JSON` or
`error text`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pkgutil import resolve_name
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger

from madhatter.dataflow import LaunchPipeline


def main(name: str, template: str, parameters: str, patience_s: str = "60", result_uri: str = "") -> None:
    task = LaunchPipeline(
        task_id="transform",
        job_name=name,
        template=template,
        parameters=json.loads(parameters),
        patience_s=float(patience_s),
        result_uri=result_uri or None,
    )
    walk(task, {})


def walk(task: BaseOperator, context: Any) -> None:
    """All steps of a task to its end."""
    step: str = "execute"
    more: dict[str, Any] = {}
    while step:
        try:
            tell("result", json.dumps(getattr(task, step)(context, **more)))
            step = ""
        except TaskDeferred as deferred:
            path, arguments = deferred.trigger.serialize()
            tell("deferred", json.dumps(arguments, default=str))
            event = asyncio.run(first_event(resolve_name(path)(**arguments)))
            step, more = deferred.method_name, {"event": event}
        except Exception as error:
            tell("error", f"{type(error).__name__} {error}".replace("\n", " "))
            step = ""


async def first_event(trigger: BaseTrigger) -> Any:
    return (await anext(aiter(trigger.run()))).payload


def tell(kind: str, text: str) -> None:
    sys.stdout.write(f"{kind} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
