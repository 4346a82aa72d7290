"""A server of the program as a process, and clients for it: one that is well behaved, and one that sends anything."""

import http.client
import json
import re
import shlex
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.process.command import COMMAND, Program


class ServerProgram(Program):
    """`serve` on a free port; ready when it is entered."""

    def __init__(self, path: Path, *options: object, command: Sequence[str] = COMMAND, **variables: str):
        super().__init__("serve", path, "--port", 0, *options, command=command, environment=variables)
        self.port = 0

    def __enter__(self) -> "ServerProgram":
        try:
            self.until(lambda: "Ctrl-C" in self.text, 60)
        except BaseException:
            self.__exit__()
            raise
        found = re.search(r"http://[^ ]*:(\d+)/", self.text)
        assert found, self.text
        self.port = int(found[1])
        return self

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request, a body that is no bytes as JSON; the status, and what JSON the answer is, or its text."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kinds = {"Content-Type": "application/json"} if content is not None else {}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, content, {**kinds, **names})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def act(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.ask("POST", "/act", body, **headers)

    def curl(self, command: str) -> tuple[int, Any]:
        """Send what a curl command would, whatever server it names: not every machine has curl."""
        _, url, *options = shlex.split(command)
        given = dict(zip(options[::2], options[1::2], strict=True))
        name, value = given["-H"].split(": ")
        path = "/" + url.split("/", 3)[3]
        return self.ask("POST", path, given["-d"].encode(), **{name.replace("-", "_"): value})

    def metric(self, name: str) -> float:
        """One number of /metrics, by its name and labels as they stand there; 0 where it is not there."""
        text = self.ask("GET", "/metrics")[1]
        found = re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def raw(self, sent: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes on a connection of their own; all that comes back until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def parsed(answer: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of one raw answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)
