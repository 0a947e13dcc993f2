"""gRPC v1beta3: the methods of the service's asynchronous clients that Airflow's triggers call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.cloud import dataflow_v1beta3 as dataflow
from google.protobuf import json_format

from local.dataflow.errors import ApiError
from local.dataflow.jobs import Job, Jobs
from local.dataflow.paging import page

PACKAGE = "google.dataflow.v1beta3"
Method = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


def handlers(jobs: Jobs) -> list[grpc.GenericRpcHandler]:
    """The services over jobs."""

    def get_job(request: Any) -> dict[str, Any]:
        return jobs.get(request.project_id, request.location, request.job_id).api

    def list_jobs(request: Any) -> dict[str, Any]:
        which = dataflow.ListJobsRequest.Filter(request.filter).name
        found = jobs.find(request.project_id, request.location, which, request.name)
        some, token = page(found, request.page_size, request.page_token)
        return {"jobs": [job.api for job in some], "nextPageToken": token}

    def list_messages(request: Any) -> dict[str, Any]:
        least = dataflow.JobMessageImportance(request.minimum_importance).name
        found = jobs.messages(_job(request), least)
        some, token = page(found, request.page_size, request.page_token)
        return {"jobMessages": some, "nextPageToken": token}

    def get_metrics(request: Any) -> dict[str, Any]:
        return {"metricTime": _job(request).api["currentStateTime"]}

    def _job(request: Any) -> Job:
        return jobs.get(request.project_id, request.location, request.job_id)

    services: dict[str, dict[str, tuple[Callable[[Any], dict[str, Any]], Any, Any]]] = {
        "JobsV1Beta3": {
            "GetJob": (get_job, dataflow.GetJobRequest, dataflow.Job),
            "ListJobs": (list_jobs, dataflow.ListJobsRequest, dataflow.ListJobsResponse),
        },
        "MessagesV1Beta3": {
            "ListJobMessages": (list_messages, dataflow.ListJobMessagesRequest, dataflow.ListJobMessagesResponse)
        },
        "MetricsV1Beta3": {"GetJobMetrics": (get_metrics, dataflow.GetJobMetricsRequest, dataflow.JobMetrics)},
    }
    return [
        grpc.method_handlers_generic_handler(
            f"{PACKAGE}.{service}",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    _method(answer, reply.pb()),
                    request_deserializer=request.pb().FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (answer, request, reply) in methods.items()
            },
        )
        for service, methods in services.items()
    ]


def _method(answer: Callable[[Any], dict[str, Any]], reply: Any) -> Method:
    async def method(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return json_format.ParseDict(answer(request), reply())
        except ApiError as error:
            return await context.abort(error.grpc_code, error.message)

    return method
