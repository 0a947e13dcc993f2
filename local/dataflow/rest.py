"""REST v1b3: the methods that Google's discovery document names, over JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.dataflow.errors import ApiError
from local.dataflow.jobs import Jobs
from local.dataflow.paging import page
from local.dataflow.templates import image_name, read_images, read_template

LOCATION = "/v1b3/projects/{project}/locations/{location}"
# Fields of the launch reply: the service does not tell the state yet.
LAUNCHED = ("id", "projectId", "name", "location", "createTime", "startTime", "currentStateTime")
# Accepted by the service, not here: to pass over them in silence would change the meaning.
NOT_SERVED = ("containerSpec", "update", "transformNameMappings", "validateOnly")


def refuse(_: Request, error: Exception) -> JSONResponse:
    """ApiError -> the HTTP reply of Google's APIs."""
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.http_code)


def routes(jobs: Jobs, images: Path, buckets: Path) -> list[Route]:
    """The routes over jobs. images: the images file, read at each launch; buckets: the folder that stands for gs://."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "healthy"})

    async def launch(request: Request) -> JSONResponse:
        body = await _json(request)
        wanted = body.get("launchParameter") or body.get("launch_parameter") or {}
        for name in NOT_SERVED:
            if wanted.get(name) or body.get(name):
                raise ApiError("UNIMPLEMENTED", f"{name} is not served by the local stand-in")
        for name in ("jobName", "containerSpecGcsPath"):
            if not wanted.get(name):
                raise ApiError("INVALID_ARGUMENT", f"launchParameter.{name} is required")
        template = read_template(wanted["containerSpecGcsPath"], buckets)
        try:
            known = read_images(images)
        except (OSError, ValueError) as error:
            raise ApiError("FAILED_PRECONDITION", f"The images of this machine cannot be read: {error}") from error
        if (short := image_name(template.image)) not in known:
            raise ApiError(
                "FAILED_PRECONDITION",
                f"Image {template.image} is not known on this machine: add [{short}] to {images} ({sorted(known)})",
            )
        labels = wanted.get("environment", {}).get("additionalUserLabels")
        job = jobs.launch(
            *_place(request), wanted["jobName"], template, known[short], wanted.get("parameters", {}), labels
        )
        return JSONResponse({"job": {name: job.api[name] for name in LAUNCHED}})

    async def list_jobs(request: Request) -> JSONResponse:
        query = request.query_params
        found = jobs.find(*_place(request), query.get("filter", "ALL"), query.get("name", ""))
        some, token = page(found, int(query.get("pageSize", 0)), query.get("pageToken", ""))
        return JSONResponse(_present(jobs=[job.api for job in some], nextPageToken=token))

    async def get_job(request: Request) -> JSONResponse:
        return JSONResponse(jobs.get(*_place(request), request.path_params["job"]).api)

    async def update_job(request: Request) -> JSONResponse:
        job = jobs.get(*_place(request), request.path_params["job"])
        jobs.request(job, (await _json(request)).get("requestedState", ""))
        return JSONResponse(job.api)

    async def list_messages(request: Request) -> JSONResponse:
        query = request.query_params
        job = jobs.get(*_place(request), request.path_params["job"])
        found = jobs.messages(job, query.get("minimumImportance", ""))
        some, token = page(found, int(query.get("pageSize", 0)), query.get("pageToken", ""))
        return JSONResponse(_present(jobMessages=some, nextPageToken=token))

    async def get_metrics(request: Request) -> JSONResponse:
        job = jobs.get(*_place(request), request.path_params["job"])
        return JSONResponse({"metricTime": job.api["currentStateTime"]})

    return [
        Route("/health", health),
        Route(f"{LOCATION}/flexTemplates:launch", launch, methods=["POST"]),
        Route(f"{LOCATION}/jobs", list_jobs),
        Route(f"{LOCATION}/jobs/{{job}}", get_job, methods=["GET"]),
        Route(f"{LOCATION}/jobs/{{job}}", update_job, methods=["PUT"]),
        Route(f"{LOCATION}/jobs/{{job}}/messages", list_messages),
        Route(f"{LOCATION}/jobs/{{job}}/metrics", get_metrics),
    ]


def _place(request: Request) -> tuple[str, str]:
    return request.path_params["project"], request.path_params["location"]


def _present(**fields: Any) -> dict[str, Any]:
    """JSON of a message: empty fields are absent."""
    return {name: value for name, value in fields.items() if value}


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise ApiError("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise ApiError("INVALID_ARGUMENT", "Invalid JSON payload received. Expected an object.")
    return body
