"""A small threaded HTTP/1.1 server on loopback that a fake derives its routes from. Can be stopped and started again
on the same port, accept late, speak TLS, and treat a connection badly: see Reply."""

from __future__ import annotations

import contextlib
import email
import json
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    """Less than the client sent, where the server cut the connection on the way."""
    at: float = field(default_factory=time.time)

    @property
    def is_whole(self) -> bool:
        return len(self.body) >= int(self.headers.get("content-length") or 0)

    @property
    def json(self) -> Any:
        """The body; of a multipart form its text fields, {} where there is none (GET)."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            return _form_fields(kind, self.body)
        return json.loads(self.body) if self.body else {}


@dataclass
class Reply:
    """What the server answers. `chunks` is sent piece by piece; `reset_after` cuts the connection after so many."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] | None = None
    reset_after: int | None = None
    wait_between: threading.Event | None = None
    """Chunks after the first are held back until this is set."""
    drips_from: str = ""
    """The answer comes byte by byte: from its "head" on, or from its "body" on."""
    is_truncated: bool = False
    """The connection is cut in the middle of the body."""

    @classmethod
    def of(cls, value: Any, status: int = 200, **more: Any) -> Reply:
        return cls(status=status, body=json.dumps(value).encode(), **more)


RESET = Reply(status=0)
"""Closes the connection without an answer."""
CLOSE = Reply(status=-1)
"""The same as a clean end, not as a reset."""
SILENCE = Reply(status=-2)
"""Never answers; the connection stays open until the client gives it up."""

DRIP_S = 0.05
"""Between two bytes: a line takes seconds, and yet no single byte is late."""


class Server:
    """Owns the socket and the thread; a fake overrides `answer`."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.tls = tls
        self._server: ThreadingHTTPServer | None = None
        self._reserved: socket.socket | None = None
        """Has the port while the server is stopped: another test's server would take it, and what is sent to this one."""
        self.requests: list[Request] = []
        self.replies = 0
        self.given_up: list[float] = []
        """Seconds after which clients gave up an answer that dripped or did not come."""
        self.lock = threading.Lock()
        self.accepting = threading.Event()
        """Cleared: the system takes connections (the socket listens), this server does not, until it is set."""
        self.accepting.set()
        self.accept_delay_s = 0.0
        self.stopping = threading.Event()

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def share_to_read(self, path: str) -> float | None:
        """The share of a request's body that is read before its connection is cut; None: all, and no cut."""
        return None

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        fake = self
        self.stopping.clear()
        if self._reserved is None:
            self._reserved = reserved()
            self.port = self._reserved.getsockname()[1]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                share = fake.share_to_read(self.path)
                request = Request(
                    self.command,
                    self.path,
                    {key.lower(): value for key, value in self.headers.items()},
                    self.rfile.read(length if share is None else int(length * share)),
                )
                with fake.lock:
                    fake.requests.append(request)
                try:
                    fake._send(self, fake.answer(request) if share is None else RESET)
                finally:
                    with fake.lock:
                        fake.replies += 1

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def get_request(self) -> tuple[Any, Any]:
                fake.accepting.wait()
                fake.stopping.wait(fake.accept_delay_s)
                connection, address = super().get_request()
                if fake.tls is not None:
                    # Shakes hands with the first read, on the handler's thread.
                    connection = fake.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

            def handle_error(self, *args: object) -> None:
                pass  # a client that went away; the tests look at what arrived

            def __init__(self, *args: Any) -> None:
                self.open: set[socket.socket] = set()
                super().__init__(*args)

            def process_request(self, request: Any, client_address: Any) -> None:
                self.open.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request: Any) -> None:
                self.open.discard(request)
                super().shutdown_request(request)

        self._server = Quiet(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def is_quiet(self) -> bool:
        """Whether every request has had its reply."""
        with self.lock:
            return self.replies == len(self.requests)

    def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        self.stopping.set()
        self.accepting.set()
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            for connection in list(server.open):  # type: ignore[attr-defined]
                with contextlib.suppress(OSError):
                    # Wakes the handler that waits for the next request on it; close() alone would not.
                    connection.shutdown(socket.SHUT_RDWR)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.status <= 0:
            handler.close_connection = True
            if reply.status == RESET.status:
                _cut(handler.connection)
            elif reply.status == SILENCE.status:
                self._trickle(handler.connection, b"")
            return
        if reply.drips_from:
            head, body = _bytes_of(reply)
            if reply.drips_from == "body":
                handler.wfile.write(head)
            self._trickle(handler.connection, body if reply.drips_from == "body" else head + body)
            handler.close_connection = True
            return
        if reply.is_truncated:
            head, body = _bytes_of(reply)
            handler.wfile.write(head + body[: len(body) // 2])
            _cut(handler.connection)
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        handler.send_header("content-type", reply.content_type)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.chunks is None:
            handler.send_header("content-length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
            return
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for number, chunk in enumerate(reply.chunks):
            if number and reply.wait_between is not None:
                reply.wait_between.wait(20)
            if reply.reset_after is not None and number >= reply.reset_after:
                _cut(handler.connection)
                handler.close_connection = True
                return
            handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    def _trickle(self, connection: socket.socket, data: bytes) -> None:
        """Send byte by byte (nothing at all: for ever) until the client gives up."""
        waited_s = 0.0
        before = time.monotonic()
        sent = 0
        while not self.stopping.is_set() and (sent < len(data) or not data):
            readable, _, _ = select.select([connection], [], [], DRIP_S)
            now = time.monotonic()
            waited_s += min(
                now - before, 2 * DRIP_S
            )  # where more went by, the process stood still, the client in it too
            before = now
            if readable:  # it asks for no more on this connection, so it has closed it
                if not self.stopping.is_set():
                    with self.lock:
                        self.given_up.append(waited_s)
                return
            connection.sendall(data[sent : sent + 1])
            sent += 1

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


def reserved() -> socket.socket:
    """A socket that has a free port of loopback, and does not listen: nobody else gets the port, but who asks for it by its
    number and may share it (SO_REUSEADDR) can listen there."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", 0))
    return taken


_ports: list[socket.socket] = []


def free_port() -> int:
    """One that nobody else is given until the end of the tests."""
    _ports.append(reserved())
    return int(_ports[-1].getsockname()[1])


def _bytes_of(reply: Reply) -> tuple[bytes, bytes]:
    """An answer as it stands on the wire: its head, its body."""
    fields = {"content-type": reply.content_type, **reply.headers, "content-length": str(len(reply.body))}
    lines = [f"HTTP/1.1 {reply.status} Answer", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), reply.body


def _form_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """A form's fields that are no files; `name[]`, which can come several times, as a list."""
    form = email.message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, Any] = {}
    for part in form.get_payload():
        if part.get_filename():
            continue
        name = str(part.get_param("name", header="content-disposition"))
        value = part.get_payload(decode=True).decode()
        if name.endswith("[]"):
            fields.setdefault(name, []).append(value)
        else:
            fields[name] = value
    return fields


def _cut(connection: socket.socket) -> None:
    try:
        # A reset, not a clean end: what a crashed server or a broken network looks like.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    except OSError:
        pass
