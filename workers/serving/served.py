"""The model that answers now, where it comes from, and how a newer one takes its place."""

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from a3c.config import CheckpointError, ConfigError
from a3c.manifest import checkpoints_of, preferred
from workers.console.drawing import clean
from workers.serving.model import Model, load_model

LOOK_SECONDS = 0.5  # between two looks at the model's file
EPISODES, SEED = 100, 0  # of the check of an export
ENDINGS = (".json", ".safetensors")  # of what is exported first, as a run directory is
Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An exported model."""

    path: Path
    int8: bool

    @property
    def watched(self) -> Path:
        return self.path

    def load(self) -> Model:
        model = load_model(self.path)
        if self.int8 and model.facts.precision != "int8":
            raise ConfigError(f"int8: {self.path} is {model.facts.precision}; `export --int8` writes the other one")
        if model.facts.updates == 0:
            _say(f"run_a3c.py: warning: {self.path} is an untrained policy, of 0 updates", error=True)
        return model


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory's best checkpoint, or a manifest's, which is exported and checked before it is served."""

    path: Path
    int8: bool
    folder: Path  # for the exported model

    env: str | None  # by which its environment is found; None: the checkpoint's own

    @property
    def watched(self) -> Path:
        if not self.path.is_dir():
            return self.path
        folder = checkpoints_of(self.path)
        names = [folder / f"{name}.json" for name in preferred(folder)]
        return next((name for name in names if name.exists()), names[-1])

    def load(self) -> Model:
        return load_model(_exported(self))


Source = ModelFile | Run


def find_source(path: str, int8: bool, folder: Path, env: str | None = None) -> Source:
    """What a path names: a run, or a model."""
    place = Path(path)
    if not os.path.lexists(place):
        raise CheckpointError(f"{place}: no such run directory or model")
    return Run(place, int8, folder, env) if place.is_dir() or place.suffix in ENDINGS else ModelFile(place, int8)


class Served:
    """The model that answers now.

    `model`, `reloads` and `refused` are written by the watching thread alone and read by those that answer. A request
    takes the reference once, so that it has one model from its beginning to its end; nothing can be torn.
    """

    def __init__(self, source: Source):
        """Load the first model.

        Raises:
            CheckpointError, ConfigError, OSError: it cannot be served.
        """
        self._source = source
        self._tried = self._seen = _identity(source.watched)  # before it is read: a change meanwhile is another look
        self.model = source.load()
        self.reloads = self.refused = 0

    def watch(self) -> None:
        """Look at the source again and again, in a thread that ends with the process."""
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def look(self) -> None:
        """Serve what the source has become, where it is good; else say once why the old model stays."""
        identity = _identity(self._source.watched)
        if identity == self._tried or identity != self._seen:  # nothing new, or perhaps still being written
            self._seen = identity
            return
        self._tried = identity
        try:
            model = self._source.load()
            if model.facts.task != self.model.facts.task:
                raise CheckpointError(
                    f"{self._source.path}: is for {model.facts.task}; served is {self.model.facts.task}"
                )
        except (CheckpointError, ConfigError, OSError) as error:
            self.refused += 1
            _say(f"run_a3c.py: the old model stays: {error}", error=True)
        else:
            self.model = model
            self.reloads += 1
            facts = model.facts
            _say(f"reloaded {self._source.path}: checkpoint {facts.checkpoint_sha256[:12]}, {facts.precision}")

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_SECONDS):
            self.look()


def _identity(path: Path) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _say(text: str, error: bool = False) -> None:
    with contextlib.suppress(OSError):  # whoever read it has gone; the server goes on
        print(clean(text), file=sys.stderr if error else sys.stdout, flush=True)


def _exported(run: Run) -> Path:
    """Export a checkpoint in a process of its own: torch, and the load of the check, stay out of the server's.

    Raises: as `export_checked`.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_export, args=(sender, run), daemon=True)
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        raise CheckpointError(f"{run.path}: its export ended without a word") from None
    finally:
        process.terminate()  # where a signal ends the waiting; else it is about to end anyway
        process.join()
    if isinstance(outcome, Exception):
        raise outcome
    return Path(outcome)


def _export(sender: "Connection[Any, Any]", run: Run) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server, which ends this
    try:
        from workers.serving.export import export_checked

        outcome: object = export_checked(str(run.path), run.folder, run.int8, True, EPISODES, SEED, run.env)[-1]
    except (CheckpointError, ConfigError, OSError) as error:
        outcome = error
    sender.send(outcome)
