"""Flex templates: container specs, what their images run, and the check of launch parameters."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from local import prism
from local.dataflow.errors import ApiError

PY_FILE = "FLEX_TEMPLATE_PYTHON_PY_FILE"


@dataclass(frozen=True)
class Image:
    """What an image holds. env: its environment, with the pipeline's file; options: the runner's flags here."""

    env: dict[str, str]
    options: list[str]

    @property
    def module(self) -> str:
        return self.env[PY_FILE].removesuffix(".py").replace("/", ".")


@dataclass(frozen=True)
class Template:
    """A container spec. parameters: the metadata's entries; None without metadata: nothing is checked."""

    image: str
    is_streaming: bool
    parameters: list[dict[str, Any]] | None

    def check(self, given: dict[str, Any]) -> None:
        """Refuse what the service refuses: missing, unknown, ill-formed parameters. Raises ApiError with them all."""
        not_text = [name for name, value in given.items() if not isinstance(value, str)]
        if not_text:
            raise ApiError(
                "INVALID_ARGUMENT",
                f"Invalid value at 'launch_parameter.parameters' (TYPE_STRING): {', '.join(not_text)}",
            )
        if self.parameters is None:
            return
        known = {entry["name"]: entry for entry in self.parameters}
        violations = {name: "Unrecognized parameter" for name in given if name not in known}
        for name, entry in known.items():
            if name not in given:
                if not entry.get("isOptional"):
                    violations[name] = "Missing required parameter"
                continue
            for regex in entry.get("regexes", []):
                if not re.fullmatch(regex, given[name]):
                    violations[name] = f"Value {given[name]!r} does not match the regex {regex}"
        if violations:
            lines = "\n".join(f"{name}: {text}" for name, text in violations.items())
            raise ApiError(
                "INVALID_ARGUMENT",
                f"The template parameters are invalid. Details: \n{lines}",
                [
                    {
                        "@type": "type.googleapis.com/google.dataflow.v1beta3.InvalidTemplateParameters",
                        "parameterViolations": [{"parameter": n, "description": t} for n, t in violations.items()],
                    }
                ],
            )


def read_images(path: Path) -> dict[str, Image]:
    """The images of this machine by short name. Raises ValueError that names the file and the image."""
    images = {}
    for name, entry in tomllib.loads(path.read_text()).items():
        if PY_FILE not in entry.get("env", {}):
            raise ValueError(
                f"{path}: image [{name}] lacks env.{PY_FILE}, its pipeline's path from the repository's root"
            )
        images[name] = Image(env=entry["env"], options=entry.get("options", []))
    return images


def filled(command: list[str]) -> list[str]:
    """A command with the place of Prism where it has {prism}. Raises PrismMissing where that is not installed."""
    return [part.replace("{prism}", str(prism.binary())) if "{prism}" in part else part for part in command]


def image_name(image: str) -> str:
    """`europe-docker.pkg.dev/project/repository/hourly:1.2` -> `hourly`."""
    return image.rsplit("/", 1)[-1].split("@")[0].split(":")[0]


def read_template(uri: str, buckets: Path) -> Template:
    """A container spec. uri: file:///path, or gs://bucket/object for buckets/bucket/object. Raises ApiError."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
    elif parts.scheme == "gs":
        path = buckets / parts.netloc / parts.path.lstrip("/")
    else:
        raise ApiError(
            "INVALID_ARGUMENT", f"Invalid template file {uri}: give a URI that starts with gs:// or file:///"
        )
    try:
        text = path.read_text()
    except OSError as error:
        raise ApiError("NOT_FOUND", f"Unable to open template file: {uri} ({path}: {error.strerror}).") from error
    try:
        spec = json.loads(text)
        metadata = spec.get("metadata")
        return Template(
            image=spec["image"],
            is_streaming=bool((metadata or {}).get("streaming")),
            parameters=None if metadata is None else metadata.get("parameters", []),
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise ApiError("FAILED_PRECONDITION", f"Unable to parse template file '{uri}': {error!r}.") from error
