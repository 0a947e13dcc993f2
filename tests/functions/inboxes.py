"""Where people are told of alerts: a Slack webhook and a mail server, while a block of a test runs."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Its port, while it runs in a thread."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Slack:
    """A webhook. answer: the text of a message -> the status of its answer. asked, taken: texts."""

    answer: Callable[[str], int] = lambda _: 200
    asked: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its address."""
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                own.asked.append(text)
                code = own.answer(text)
                if code == 200:
                    own.taken.append(text)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
            yield f"http://127.0.0.1:{port}/hook"


@contextmanager
def raw(answer: bytes) -> Iterator[tuple[list[bytes], str]]:
    """A webhook that answers with these bytes, whatever they are; what it was asked, and its address."""
    asked: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            size = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            asked.append(self.rfile.read(size))
            self.wfile.write(answer)

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield asked, f"http://127.0.0.1:{port}/hook"


@dataclass
class Mail:
    """A mail server. refused: so many mails it does not take at first; tls: with what it offers STARTTLS."""

    refused: int = 0
    tls: ssl.SSLContext | None = None
    mails: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Its port."""
        own = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 mail")
                while line := self.rfile.readline():
                    verb = line[:4].strip().upper()
                    if verb == b"EHLO":
                        self.say("250-mail\r\n250 STARTTLS" if own.tls else "250 mail")
                    elif verb == b"STAR" and own.tls:
                        self.say("220 go ahead")
                        try:
                            self.request = own.tls.wrap_socket(self.request, server_side=True)
                        except OSError:
                            return
                        self.setup()
                    elif verb == b"MAIL" and own.refused:
                        own.refused -= 1
                        self.say("451 later")
                    elif verb == b"DATA":
                        self.say("354 go ahead")
                        own.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                        self.say("250 taken")
                    else:
                        self.say("221 bye" if verb == b"QUIT" else "250 well")

            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

        with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
            yield port


def certificate(file: Path) -> ssl.SSLContext:
    """What a server on 127.0.0.1 has, signed by nobody but itself. file: gets the certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    own = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(own.public_bytes(pem) + key.private_bytes(pem, *plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
