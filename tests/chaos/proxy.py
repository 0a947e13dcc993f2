"""A TCP proxy between the platform and its broker or warehouse, which drops, delays and half-closes connections."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")
HOST = "127.0.0.1"
BLOCK = 64 * 1024


@dataclass(eq=False)
class _Link:
    """A client's connection and the one to the target. is_muted: what the target answers is thrown away."""

    client: asyncio.StreamWriter
    target: asyncio.StreamWriter
    is_muted: bool = False

    def cut(self) -> None:
        for end in (self.client, self.target):
            end.transport.abort()


@dataclass
class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to `target`. reads_http: understands the warehouse's requests, so
    that the reply to a COMMIT can be lost."""

    port: int
    target: int
    reads_http: bool = False
    delay_s: float = 0.0
    is_refusing: bool = False
    commits_to_lose: int = 0
    commits_lost: int = 0
    on_lost_commit: Callable[[], None] | None = None
    _links: set[_Link] = field(default_factory=set)

    def start(self) -> None:
        """Returns when it listens."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True).start()
        self._call(self._listen())

    def stop(self) -> None:
        """Ends all connections and the thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def cut(self) -> int:
        """Resets all connections; returns how many there were."""
        return self._call(self._cut())

    def half_close(self) -> int:
        """Tells every client that nothing more comes, while it may go on sending; returns how many there were."""
        return self._call(self._half_close())

    def _call(self, what: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        while self._links:
            await asyncio.sleep(0.01)

    async def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    async def _half_close(self) -> int:
        links = list(self._links)
        for link in links:
            link.is_muted = True
            with contextlib.suppress(OSError, RuntimeError):
                link.client.write_eof()
        return len(links)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            client_out.transport.abort()
            return
        try:
            target_in, target_out = await asyncio.open_connection(HOST, self.target)
        except OSError:
            client_out.transport.abort()
            return
        link = _Link(client_out, target_out)
        self._links.add(link)
        ways = [
            asyncio.create_task(
                self._pass_requests(link, client_in, target_out)
                if self.reads_http
                else self._pass_bytes(client_in, target_out)
            ),
            asyncio.create_task(self._pass_replies(link, target_in)),
        ]
        try:
            # As over a network: an end that has nothing more to say may still listen.
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            self._links.discard(link)
            link.cut()

    async def _pass_bytes(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(BLOCK):
                await self._send(sink, block)
            sink.write_eof()

    async def _pass_requests(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """HTTP/1.1 requests, each whole: one that commits may have its reply lost."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await source.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await source.readexactly(int(fields.get(b"content-length", b"0")))
                if self.commits_to_lose and _commits(body, fields):
                    self.commits_to_lose -= 1
                    link.is_muted = True
                await self._send(sink, head + body)

    async def _pass_replies(self, link: _Link, source: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(BLOCK):
                if not link.is_muted:
                    await self._send(link.client, block)
                elif self.reads_http:
                    # The target has done what was asked; its client will never know.
                    self.commits_lost += 1
                    if self.on_lost_commit is not None:
                        self.on_lost_commit()
                    link.cut()
                    return
            link.client.write_eof()

    async def _send(self, sink: asyncio.StreamWriter, block: bytes) -> None:
        if self.delay_s:
            await asyncio.sleep(random.uniform(0, self.delay_s))
        sink.write(block)
        await sink.drain()


def _commits(body: bytes, fields: dict[bytes, bytes]) -> bool:
    if fields.get(b"content-encoding") == b"gzip":
        body = gzip.decompress(body)
    try:
        text = json.loads(body or b"{}").get("sqlText", "")
    except ValueError:
        return False
    return str(text).strip().lower() == "commit"
