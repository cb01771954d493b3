"""A small threaded HTTP/1.1 server on loopback that a fake derives its routes from. Can be stopped and started again
on the same port."""

from __future__ import annotations

import contextlib
import email
import json
import socket
import struct
import threading
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

    @classmethod
    def of(cls, value: Any, status: int = 200, **more: Any) -> Reply:
        return cls(status=status, body=json.dumps(value).encode(), **more)


RESET = Reply(status=0)
"""Closes the connection without an answer."""


class Server:
    """Owns the socket and the thread; a fake overrides `answer`."""

    def __init__(self) -> None:
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.requests: list[Request] = []
        self.replies = 0
        self.lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                request = Request(
                    self.command,
                    self.path,
                    {key.lower(): value for key, value in self.headers.items()},
                    self.rfile.read(length),
                )
                with fake.lock:
                    fake.requests.append(request)
                fake._send(self, fake.answer(request))
                with fake.lock:
                    fake.replies += 1

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

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
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def is_quiet(self) -> bool:
        """Whether every request has had its reply."""
        with self.lock:
            return self.replies == len(self.requests)

    def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            for connection in list(server.open):  # type: ignore[attr-defined]
                with contextlib.suppress(OSError):
                    # Wakes the handler that waits for the next request on it; close() alone would not.
                    connection.shutdown(socket.SHUT_RDWR)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.status == 0:
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

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


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
