"""A load for the server: connections that each always have one request under way."""

import selectors
import socket
import time
from dataclasses import dataclass, field

from benchmarks.benchmark import BenchmarkError

READ_SIZE = 1 << 16
PATIENCE = 5.0  # seconds without any answer after which the server counts as dead


@dataclass(slots=True)
class Connection:
    """One kept-alive connection and its request under way."""

    socket: socket.socket
    asked: float = 0.0  # time.perf_counter()
    received: bytearray = field(default_factory=bytearray)

    def ask(self, request: bytes) -> None:
        self.received.clear()
        self.asked = time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> bool:
        """Read what has come; whether that is the whole answer."""
        piece = self.socket.recv(READ_SIZE)
        if not piece:
            raise BenchmarkError(f"the server closed a connection after {bytes(self.received[:200])!r}")
        self.received += piece
        end = self.received.find(b"\r\n\r\n")
        return end >= 0 and len(self.received) >= end + 4 + _length(self.received[:end])


def post(path: str, body: bytes) -> bytes:
    """A whole POST request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    """A whole GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def latencies(port: int, request: bytes, clients: int, seconds: float) -> tuple[list[float], float]:
    """Ask a server on loopback again and again; the seconds that each answer took, and those that passed.

    Args:
        request: a whole HTTP/1.1 request, the same each time.
        clients: connections, each of which asks anew as soon as it has its answer.
    Raises:
        BenchmarkError: an answer is not 200, or none comes.
    """
    times: list[float] = []
    with selectors.DefaultSelector() as ready:
        connections = [Connection(socket.create_connection(("127.0.0.1", port))) for _ in range(clients)]
        try:
            for connection in connections:
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(connection.socket, selectors.EVENT_READ, connection)
            began = time.perf_counter()
            for connection in connections:
                connection.ask(request)
            while time.perf_counter() - began < seconds:
                events = ready.select(PATIENCE)
                if not events:
                    raise BenchmarkError(f"no answer within {PATIENCE:g} s")
                for connection in (key.data for key, _ in events):
                    if connection.answered():
                        times.append(time.perf_counter() - connection.asked)
                        connection.ask(request)
            return times, time.perf_counter() - began
        finally:
            for connection in connections:
                connection.socket.close()


def _length(head: bytearray) -> int:
    """Content-Length of an answer's head, which has to be one of success."""
    status, *lines = bytes(head).split(b"\r\n")
    if not status.startswith(b"HTTP/1.1 200 "):
        raise BenchmarkError(f"the server answered {status.decode('latin-1')}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BenchmarkError("the server gave no Content-Length")
