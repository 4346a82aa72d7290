"""`serve`: a policy that answers over HTTP, and takes up a newer model while it does."""

import contextlib
import errno
import json
import logging
import math
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from a3c.config import CheckpointError, ConfigError
from a3c.manifest import checkpoints_of, preferred
from workers import ExitCode
from workers.console.drawing import Frame
from workers.console.text import Line, clean, count, plural
from workers.extras import require

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from workers.serving.metadata import Metadata
    from workers.serving.model import Model

END_SECONDS = 5.0  # for an export that has answered to end
PACKAGES = ("flask", "onnx", "onnxruntime", "prometheus_client", "waitress")  # the extra `serve`
CONNECTIONS = 1000  # that may be open at once
OWN_FILES = 64  # that the process has open besides
HEADER_LIMIT = 2**15  # bytes
TRANSFER_LIMIT = 2**22  # bytes of a body that are received, so that a client learns that it is too large
IDLE_SECONDS = 60  # after which a connection is closed on which nothing arrives
CLEANUP_SECONDS = 5  # between two searches for such connections
POLL_SECONDS = 0.5  # between two checks of the model's file
EPISODES, SEED = 100, 0  # of the check of an export
LONGEST_BODY = 2000  # characters that are printed to try: an image has more
Identity = tuple[int, int, int]
ENDINGS = (".json", ".safetensors")  # of a checkpoint, which is exported first, as a run directory is


def serve(path: str, host: str, port: int, int8: bool, threads: int, env: str | None = None) -> int:
    """Serve an exported model, or the policy of a run or checkpoint, until SIGINT or SIGTERM; the exit code.

    With `port` 0 any free one, which is printed; `int8` and `env` are for an export.
    """
    require("serve", "serve", PACKAGES)
    from waitress import create_server

    from workers.serving.app import create_app

    logging.getLogger("waitress").setLevel(logging.CRITICAL)  # queues and clients that break off are no news
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # an export may be writing there to the last
    with _listen(host, port) as listener, folder:
        source = Source(Path(path), int8, Path(folder.name), env)
        identity = source.identity()  # before it is read: a later change is seen
        served = Served(source, source.load(), identity)
        server = create_server(
            create_app(served),
            sockets=[listener],
            threads=threads,
            connection_limit=_connections() + 2,  # waitress counts two sockets of its own
            max_request_body_size=TRANSFER_LIMIT,
            max_request_header_size=HEADER_LIMIT,
            recv_bytes=2**16,  # at once: what is unread when a connection is closed takes the answer away with it
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=CLEANUP_SECONDS,
            asyncore_use_poll=True,  # select knows no more than 1024 files
            clear_untrusted_proxy_headers=False,  # nobody reads them
        )
        with contextlib.suppress(SystemExit):
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    signal.signal(number, lambda *_: sys.exit())  # waitress ends its threads at a SystemExit
            threading.Thread(target=served.watch, name="watch", daemon=True).start()
            Console().print(_welcome(path, served.model.metadata, listener), crop=False)  # its line to paste is long
            server.run()
    Console().print(Frame([[("stopped", "")]]))
    return ExitCode.FINISHED


@dataclass(frozen=True, slots=True)
class Source:
    """Where the served model comes from: an ONNX file, or a run or checkpoint, which is exported and checked first."""

    path: Path
    int8: bool
    folder: Path  # for the export
    env: str | None  # by which its environment is found; None: the checkpoint's own

    def identity(self) -> Identity | None:
        """What differs once the model's file, or the best checkpoint of a run, is another one."""
        path = self.path
        with contextlib.suppress(OSError):
            if path.is_dir():
                first, second = (checkpoints_of(path) / f"{name}.json" for name in preferred(checkpoints_of(path)))
                path = first if first.exists() else second
            status = os.stat(path)
            return status.st_ino, status.st_size, status.st_mtime_ns
        return None

    def load(self) -> "Model":
        """Load the model; a CheckpointError, ConfigError or OSError where it cannot be served."""
        from workers.serving.model import load_model

        if not os.path.lexists(self.path):
            raise CheckpointError(f"{self.path}: no such run directory or model")
        if self.path.is_dir() or self.path.suffix in ENDINGS:
            return load_model(_export(self))
        model = load_model(self.path)
        if self.int8 and model.metadata.precision != "int8":
            raise ConfigError(f"int8: {self.path} is {model.metadata.precision}; `export --int8` writes the other one")
        if model.metadata.updates == 0:
            _log(f"run_a3c.py: warning: {self.path} is an untrained policy, of 0 updates", error=True)
        return model


class Served:
    """The model that answers now; the watching thread alone writes what those that answer read, each reference once."""

    def __init__(self, source: Source, model: "Model", identity: Identity | None):
        self.model, self.reloads, self.refused = model, 0, 0
        self._source, self._tried, self._seen = source, identity, identity

    def watch(self) -> None:
        """Reload the model whenever it changes, for good."""
        while True:
            time.sleep(POLL_SECONDS)
            identity = self._source.identity()
            if identity != self._tried and identity == self._seen:  # it is new, and no longer being written
                self._tried = identity
                self._reload()
            self._seen = identity

    def _reload(self) -> None:
        """Serve what the source has become, where it is good; else log why the old model stays."""
        try:
            model = self._source.load()
            if model.metadata.task != (task := self.model.metadata.task):
                raise CheckpointError(f"{self._source.path}: is for {model.metadata.task}; served is {task}")
        except (CheckpointError, ConfigError, OSError) as error:
            self.refused += 1
            _log(f"run_a3c.py: the old model stays: {error}", error=True)
        else:
            self.model = model
            self.reloads += 1
            digest, precision = model.metadata.checkpoint_sha256[:12], model.metadata.precision
            _log(f"reloaded {self._source.path}: checkpoint {digest}, {precision}")


def _log(text: str, error: bool = False) -> None:
    with contextlib.suppress(OSError):  # its reader has gone; the server continues
        print(clean(text), file=sys.stderr if error else sys.stdout, flush=True)


def _export(source: Source) -> Path:
    """Export a checkpoint in a process of its own, so that torch stays out of the server's; raises as it does."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_export, args=(sender, source), daemon=True)
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = CheckpointError(f"{source.path}: its export died")
    except BaseException:  # such as a signal's
        process.terminate()
        raise
    finally:
        process.join(END_SECONDS)  # by itself it leaves nothing in shared memory
        process.terminate()
        process.join()
    if isinstance(outcome, Path):
        return outcome
    raise outcome


def _send_export(sender: "Connection[Any, Any]", source: Source) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server, which ends this
    from workers.serving.export import export_policy

    output = str(source.folder / "policy.onnx")
    try:
        paths = export_policy(str(source.path), output, source.int8, True, EPISODES, SEED, source.env, quiet=True)
        sender.send(paths[-1])
    except (CheckpointError, ConfigError, OSError) as error:
        sender.send(error)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything takes time: who comes early waits."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        if (number := getattr(error, "errno", None)) not in (errno.EADDRINUSE, errno.EACCES):
            raise ConfigError(f"host: '{clean(host)}' is no address of this machine; 127.0.0.1 is always one") from None
        place = f"{port} of {clean(host)} {'is in use' if number == errno.EADDRINUSE else 'cannot be used'}"
        raise ConfigError(f"port: {place}; choose another with --port (0: any free one)") from None


def _connections() -> int:
    """How many connections may be open at once: as many as this process may have files open, less its own."""
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OWN_FILES
    if limit < wanted and (highest >= wanted or highest == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
        return CONNECTIONS
    return min(CONNECTIONS, limit - OWN_FILES)


def _welcome(path: str, metadata: "Metadata", listener: socket.socket) -> Frame:
    """The block that is printed once requests are answered."""
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    numbers, outputs = math.prod(metadata.interface.observation.shape), sum(metadata.interface.widths)
    what = "probabilities" if metadata.interface.is_discrete else "numbers of a distribution"
    shape = f"{plural(numbers, 'number')} in, {outputs:,} {what} out"
    critic = "with" if metadata.critic else "without"
    learned = f"{count(metadata.updates)} updates, {count(metadata.env_steps)} env steps"
    body = json.dumps({"observation": metadata.interface.example()})
    asked = f"curl {address}/act -H 'Content-Type: application/json' -d '{body}'"
    entries = {
        "model": f"{clean(path)}: {metadata.precision}, {critic} critic; {shape}",
        "checkpoint": f"{metadata.checkpoint_sha256[:12]}: {learned}",
        "page": f"{address}/",
        "others": "/act /healthz /metrics /openapi.json",
        "try": asked if len(body) <= LONGEST_BODY else f"curl {address}/openapi.json",
        "stop": "Ctrl-C",
    }
    lines: list[Line] = [[(f"serving {clean(metadata.env_id)}", "bold")], []]
    return Frame([*lines, *([(f"  {name:<12}", "dim"), (text, "")] for name, text in entries.items())])
