"""`serve`: a policy that answers over HTTP."""

import errno
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from a3c.config import ConfigError
from workers import exit_codes
from workers.console.drawing import Frame, Line, clean, count, plural
from workers.extras import require

if TYPE_CHECKING:
    from workers.serving.metadata import Facts

PACKAGES = ("flask", "onnx", "onnxruntime", "prometheus_client", "waitress")  # the extra `serve`
CONNECTIONS = 1000  # that may be open at once
OWN_FILES = 64  # that the process has open besides
STOPPING = (signal.SIGINT, signal.SIGTERM)


def serve(path: str, host: str, port: int, int8: bool, threads: int, env: str | None = None) -> int:
    """Serve a policy until SIGINT or SIGTERM.

    Args:
        path: an exported model, or a run directory or checkpoint's manifest, which is exported first.
        host, port: where to listen; port 0 is any free one, which is printed.
        int8: of a run: serve it with weights of 8 bits.
        threads: that answer requests; 1 is the one that reads them, too.
        env: of a run: the id by which its environment is found; default: the checkpoint's own.
    Returns: the exit code: a server that was asked to stop has finished.
    Raises:
        ConfigError: an option cannot be followed, or a package is missing.
        CheckpointError: there is nothing that can be served.
    """
    require("serve", PACKAGES)
    from workers.serving.app import Counted, create_app
    from workers.serving.connections import Server
    from workers.serving.metrics import Metrics
    from workers.serving.served import Served, find_source

    logging.getLogger("waitress").setLevel(logging.ERROR)  # queues and refused connections are no news
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # an export may be writing there to the last
    with _listening(host, port) as listener, folder:
        served = Served(find_source(path, int8, Path(folder.name), env))
        metrics = Metrics(served)
        application = Counted(create_app(served, metrics), metrics)
        server = Server(application, listener, threads, _connections(), metrics.refusal)
        with _stopped_by_signals(server.stop):
            served.watch()
            welcome = _welcome(path, served.model.facts, _address(listener))
            Console().print(welcome, crop=False)  # for the line to paste is a long one
            server.run()
    Console().print(Frame([[("stopped", "")]]))
    return exit_codes.FINISHED


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, before anything takes time: who comes early waits."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"host: '{clean(host)}' is no address of this machine; 127.0.0.1 is always one") from None
    with socket.socket(family, kind, protocol) as listener:
        try:
            if os.name == "posix":  # elsewhere it would share the port with whoever has it
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError as error:
            raise _cannot_listen(error, host, port) from None
        yield listener


def _cannot_listen(error: OSError, host: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"host: '{clean(host)}' is no address of this machine; 127.0.0.1 is always one")
    reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return ConfigError(f"port: {port} of {clean(host)} {reason}; choose another with --port (0: any free one)")


def _connections() -> int:
    """How many connections may be open at once: as many as this process may have files open, less its own."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return CONNECTIONS
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OWN_FILES
    if limit < wanted and (highest >= wanted or highest == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
        limit = wanted
    return min(CONNECTIONS, limit - OWN_FILES)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    listened = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, lambda *_: stop()) for number in listened}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _welcome(path: str, facts: "Facts", address: str) -> Frame:
    """The block that is printed once requests are answered."""
    learned = f"{count(facts.updates)} updates, {count(facts.env_steps)} env steps"
    shape = f"{plural(facts.observation_size, 'number')} in, {plural(facts.action_count, 'action')} out"
    critic = "with" if facts.critic else "without"
    body = json.dumps({"observation": [0.0] * facts.observation_size})
    entries = [
        ("model", f"{clean(path)}: {facts.precision}, {critic} critic; {shape}"),
        ("checkpoint", f"{facts.checkpoint_sha256[:12]}: {learned}"),
        ("page", f"{address}/"),
        ("others", "/act /healthz /metrics /openapi.json"),
        ("try", f"curl {address}/act -H 'Content-Type: application/json' -d '{body}'"),
        ("stop", "Ctrl-C"),
    ]
    lines: list[Line] = [[(f"serving {clean(facts.env_id)}", "bold")], []]
    return Frame([*lines, *([(f"  {name:<12}", "dim"), (text, "")] for name, text in entries)])
