"""The Vega-Lite bundle for the browser, from vl-convert: made offline, once, in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

_LOCK = Lock()
# vl-convert starts a JavaScript engine of some 100 MB that it never gives back: a child process does.
_MAKE = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"


def bundle(folder: Path) -> bytes:
    """The script (0.9 MB) that sets window.vegaEmbed and vega. Kept in `folder`, remade when vl-convert changes."""
    with _LOCK:
        return _read(folder / f"vega-{version('vl-convert-python')}.js")


@cache
def _read(path: Path) -> bytes:
    if not path.exists():
        made = subprocess.run([sys.executable, "-c", _MAKE], stdout=subprocess.PIPE, check=True, timeout=120)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(made.stdout)
        part.replace(path)
    return path.read_bytes()


def etag(body: bytes) -> str:
    """A strong HTTP entity tag."""
    return f'"{hashlib.sha256(body).hexdigest()[:20]}"'
