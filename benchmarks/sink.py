"""A minimal HTTP/1.1 server on loopback that takes whatever is posted and counts it. It runs in a process of its own.

Why not a ready-made server: it would be the bottleneck of what is measured here. It answers every POST and PUT with 200
and a small JSON body that HoneyHive clients, OTLP exporters and ddtrace's writers all accept, keeps connections open,
and counts how often a marker occurs in the bodies: that is how a benchmark knows that what it sent has arrived.

    GET /counts   the counts so far, as JSON
    GET /info     what a Datadog agent says of itself, so that ddtrace finds the routes it needs
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass
from types import TracebackType

HOST = "127.0.0.1"

TAKEN = b'{"success":true}'
AGENT_INFO = json.dumps(
    {"version": "7.60.0", "endpoints": ["/v0.4/traces", "/v0.5/traces", "/evp_proxy/v2/", "/evp_proxy/v4/"]}
).encode()


@dataclass(slots=True)
class Counts:
    """What has arrived."""

    requests: int = 0
    """POST and PUT only."""
    wire_bytes: int = 0
    """Everything received on those connections, request heads included."""
    body_bytes: int = 0
    markers: int = 0
    """Occurrences of the marker in the bodies."""

    def since(self, earlier: Counts) -> Counts:
        """What came on top of an earlier state."""
        return Counts(*(now - then for now, then in zip(asdict(self).values(), asdict(earlier).values(), strict=True)))


class SinkProtocol(asyncio.Protocol):
    """One connection. Requests are answered in order; pipelining works by itself."""

    def __init__(self, counts: Counts, marker: bytes) -> None:
        self._counts = counts
        self._marker = marker
        self._data = bytearray()
        self._head_end = -1
        self._length = 0
        self._is_chunked = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._take_request():
            pass

    def _take_request(self) -> bool:
        """Answer the first request in the buffer. False: it is not complete yet."""
        if self._head_end < 0 and not self._read_head():
            return False
        start = self._head_end
        if self._is_chunked:
            if self._data.find(b"0\r\n\r\n", start) < 0:
                return False
            end = self._data.index(b"0\r\n\r\n", start) + 5
        else:
            end = start + self._length
            if len(self._data) < end:
                return False
        method, target = bytes(self._data[:256]).split(b" ", 2)[:2]
        body = bytes(self._data[start:end])
        del self._data[:end]
        self._head_end = -1
        self._answer(method, target, body, end)
        return True

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._data[:end]).lower()
        self._head_end = end + 4
        self._length = 0
        self._is_chunked = b"transfer-encoding: chunked" in head
        for line in head.split(b"\r\n")[1:]:
            if line.startswith(b"content-length:"):
                self._length = int(line[15:])
        return True

    def _answer(self, method: bytes, target: bytes, body: bytes, wire_bytes: int) -> None:
        counts = self._counts
        if method in (b"POST", b"PUT"):
            counts.requests += 1
            counts.wire_bytes += wire_bytes
            counts.body_bytes += len(body)
            if self._marker:
                counts.markers += body.count(self._marker)
            answer = TAKEN
        elif target == b"/counts":
            answer = json.dumps(asdict(counts)).encode()
        elif target == b"/info":
            answer = AGENT_INFO
        else:
            answer = b"{}"
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )


async def serve(marker: bytes) -> None:
    """Serve on a free port, print it, go on until the parent is gone (its end of our stdin closes)."""
    counts = Counts()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SinkProtocol(counts, marker), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


class SinkProcess:
    """`with SinkProcess(marker=...) as sink:` a sink in its own process; `sink.url` is where it listens."""

    def __init__(self, *, marker: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, "--marker", marker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://{HOST}:{int(self._process.stdout.readline())}"

    def __enter__(self) -> SinkProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# Without this urllib would ask the environment for a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def counts_at(url: str) -> Counts:
    """The counts of the sink that listens at `url`."""
    with _opener.open(f"{url}/counts", timeout=10) as response:
        return Counts(**json.load(response))


def main() -> None:
    """What runs in the sink's process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--marker", default="", help="text to count in the bodies")
    asyncio.run(serve(parser.parse_args().marker.encode()))


if __name__ == "__main__":
    main()
