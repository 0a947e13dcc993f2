"""A refused request, with the status that the service answers with."""

from __future__ import annotations

import grpc


class Refusal(Exception):
    """code: of gRPC; the text is for whoever sent the request."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def not_found(name: str) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name.rsplit('/', 1)[-1]}).")


def exists(name: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists in the project (resource={name.rsplit('/', 1)[-1]})."
    )


def invalid(text: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)


def unimplemented(what: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in for Pub/Sub has no {what}")
