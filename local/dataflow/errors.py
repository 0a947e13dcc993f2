"""Errors of the Dataflow API, as both protocols carry them."""

from __future__ import annotations

from typing import Any

import grpc

HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "UNIMPLEMENTED": 501,
}
REASONS = {"NOT_FOUND": "notFound", "ALREADY_EXISTS": "alreadyExists", "FAILED_PRECONDITION": "failedPrecondition"}


class ApiError(Exception):
    """A refused request. status: a name in google.rpc.Code; details: of google.rpc.Status, each with "@type"."""

    def __init__(self, status: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []

    @property
    def http_code(self) -> int:
        return HTTP_CODES[self.status]

    @property
    def grpc_code(self) -> grpc.StatusCode:
        return grpc.StatusCode[self.status]

    def body(self) -> dict[str, Any]:
        """The JSON body of the HTTP reply, in the shape of Google's APIs."""
        reason = REASONS.get(self.status, "badRequest")
        error: dict[str, Any] = {
            "code": self.http_code,
            "message": self.message,
            "errors": [{"message": self.message, "domain": "global", "reason": reason}],
            "status": self.status,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}
