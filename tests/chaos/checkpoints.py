"""Faults for checkpoints: damaged, half written, malformed; each function injects one kind and counts what was lost."""

import errno
import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from a3c.checkpoint import Training, load_checkpoint, load_training, save_checkpoint
from tests.chaos.outcome import Outcome
from tests.unit.networks import mlp

Trial = tuple[bool, str]  # whether the fault fired, and what was lost


def save(folder: Path, updates: int, keep: int = 3, name: str = "latest") -> Path:
    """Save a small checkpoint whose every part tells its `updates`."""
    model = mlp(2, 2, [4])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(updates)
    facts = {"env_id": "CartPole-v1", "max_episode_steps": None, "updates": updates}
    tensors = {"exp_avg": torch.full((3,), float(updates)), "pending": torch.full((2, 1), updates)}
    training = Training(tensors, {"updates": updates}) if name == "latest" else None
    return save_checkpoint(folder, name, model, facts, training, keep)


def loaded(folder: Path) -> tuple[int, tuple[str, ...]]:
    """The updates of the latest checkpoint, which every part must agree on, and what was skipped."""
    checkpoint, training = load_training(folder)
    updates = int(checkpoint.manifest["updates"])
    tensors = [*checkpoint.model.state_dict().values(), *training.tensors.values()]
    assert set(training.tensors) == {"exp_avg", "pending"}
    assert all(bool((tensor == updates).all()) for tensor in tensors) and training.facts == {"updates": updates}
    return updates, checkpoint.skipped


def bit_flips(count: int, folder: Path, seed: int) -> Outcome:
    """Flip one random bit of a random file; the newest checkpoint that it does not touch is loaded, and it is told."""
    rng, generations = random.Random(seed), _generations(folder)
    return Outcome.of((_bit_flip(folder, generations, rng) for _ in range(count)), f"{count} bits")


def _bit_flip(folder: Path, generations: list[set[str]], rng: random.Random) -> Trial:
    file = folder / rng.choice(sorted(set.union(*generations)))
    content = bytearray(file.read_bytes())
    position, bit = rng.randrange(len(content)), rng.randrange(8)
    content[position] ^= 1 << bit
    return True, _damaged(file, bytes(content), generations, f"{file.name}, byte {position}, bit {bit}")


def truncations(folder: Path) -> Outcome:
    """Cut every file of the newest checkpoint at every length, and let it grow by a byte."""
    generations = _generations(folder)
    trials = []
    for name in sorted(generations[0]):
        whole = (folder / name).read_bytes()
        for content in [*(whole[:length] for length in range(len(whole))), whole + b"\n"]:
            trials.append((True, _damaged(folder / name, content, generations, f"{name}, {len(content)} bytes")))
    return Outcome.of(trials, f"every length of {len(generations[0])} files")


def _generations(folder: Path) -> list[set[str]]:
    """Save three checkpoints; the files of each, newest first, with the manifest it is read from."""
    files: list[set[str]] = []
    for updates in (1, 2, 3):
        before = set(os.listdir(folder))
        save(folder, updates)
        files.insert(0, set(os.listdir(folder)) - before)
    os.unlink(folder / "latest-000000000003.json")  # as after a crash between the two: latest.json is the only one
    (newest, *older) = files
    return [newest - {"latest-000000000003.json"} | {"latest.json"}, *(names - {"latest.json"} for names in older)]


def _damaged(file: Path, content: bytes, generations: list[set[str]], damage: str) -> str:
    """Replace a file's content for a moment: what was lost by it ('' for nothing)."""
    whole, newest = file.read_bytes(), file.name in generations[0]
    file.unlink()  # a file that is written over is flushed to the disk each time
    file.write_bytes(content)
    try:
        updates, skipped = loaded(file.parent)
        told = len(skipped) == newest and all(str(file) in line and "\n" not in line for line in skipped)
        return "" if told and updates == (2 if newest else 3) else f"{damage}: loaded {updates}, told {skipped}"
    except (Exception, AssertionError) as error:
        return f"{damage}: {error!r}"
    finally:
        file.unlink()
        file.write_bytes(whole)


class FaultyOs:
    """The `os` of a3c.files, whose Nth call fails; nothing is synced, for no power is cut here."""

    def __init__(self, module: ModuleType, fail_at: int, code: int):
        """Let call number `fail_at` (from 0) fail with `code`, or write one byte alone where that is 0."""
        self._os, self._fail_at, self._code = module, fail_at, code
        self.calls, self.fired, self._readers = 0, "", set[int]()
        self.of_reader = False  # whether the failed call only looked for what to prune

    def __getattr__(self, name: str) -> Any:
        return getattr(self._os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        reads = bool(flags & os.O_NONBLOCK)
        self._maybe_fail("open", reads)
        descriptor = os.open(path, flags, mode)
        (self._readers.add if reads else self._readers.discard)(descriptor)  # a number comes round again
        return descriptor

    def write(self, descriptor: int, content: memoryview) -> int:
        return os.write(descriptor, content[:1] if self._maybe_fail("write", shortens=True) else content)

    def fsync(self, descriptor: int) -> None:
        self._maybe_fail("fsync")

    def replace(self, old: Path, new: Path) -> None:
        self._maybe_fail("replace")
        os.replace(old, new)

    def close(self, descriptor: int) -> None:
        reads = descriptor in self._readers
        self._readers.discard(descriptor)
        os.close(descriptor)  # as Linux does, also where it then reports an error
        self._maybe_fail("close", reads)

    def _maybe_fail(self, call: str, reads: bool = False, shortens: bool = False) -> bool:
        """Fail where it is time; true where the call is to fall short instead."""
        self.calls += 1
        if self.calls <= self._fail_at or self.fired or (self._code == 0 and not shortens):
            return False
        self.fired, self.of_reader = call, reads
        if self._code:
            raise OSError(self._code, os.strerror(self._code))
        return True


def disk_faults(folder: Path) -> Outcome:
    """Let each call of a save fail in turn: it is told, the old checkpoint is whole, the next save leaves no rest."""
    trials: list[Trial] = []
    fired: Counter[str] = Counter()
    for name in ("latest", "best"):
        for updates in (1, 2):
            save(folder, updates, name=name)
        before = {file: file.read_bytes() for file in folder.iterdir()}
        for code in (errno.ENOSPC, errno.EIO, 0):
            for fail_at in itertools.count():
                put_back(folder, before)
                call, loss = _disk_fault(folder, name, fail_at, code)
                if not call:
                    break
                fired[f"{os.strerror(code) if code else 'short'} {call}"] += 1
                trials.append((True, loss and f"{name}, call {fail_at} ({call}), {code}: {loss}"))
        put_back(folder, {})
    return Outcome.of(trials, ", ".join(f"{call} x {count}" for call, count in sorted(fired.items())))


def put_back(folder: Path, files: dict[Path, bytes]) -> None:
    """Let a folder hold these files and nothing else."""
    for file in folder.iterdir():
        file.unlink()
    for file, content in files.items():
        file.write_bytes(content)


def _disk_fault(folder: Path, name: str, fail_at: int, code: int) -> tuple[str, str]:
    """Let one call of a save fail: which that was ('' where there are fewer), and what was lost ('' for nothing)."""

    def load() -> int:
        return loaded(folder)[0] if name == "latest" else int(load_checkpoint(folder).manifest["updates"])

    failure: OSError | None = None
    with mock.patch("a3c.files.os", FaultyOs(os, fail_at, code)) as faulty:
        try:
            save(folder, 3, name=name)
        except OSError as error:
            failure = error
    harmless = code == 0 or faulty.of_reader or not faulty.fired
    if (failure is None) != harmless or load() not in ((3,) if harmless else (2, 3)):
        return faulty.fired, f"told {failure!r}, loaded {load()}"
    if failure and (failure.errno != code or str(folder) not in str(failure.filename)):
        return faulty.fired, f"told {failure!r}"
    with mock.patch("a3c.files.os", FaultyOs(os, sys.maxsize, 0)):
        save(folder, 4, name=name)
    rest = set(os.listdir(folder)) - needed(folder)
    return faulty.fired, f"the next save gave {load()} and left {rest}" if load() != 4 or rest else ""


def needed(folder: Path) -> set[str]:
    """The manifests in a folder and the files that they name."""
    manifests = [path for path in folder.glob("*.json") if ".training." not in path.name]
    entries = [value for path in manifests for value in json.loads(path.read_bytes()).values()]
    parts = [entry["file"] for entry in entries if isinstance(entry, dict) and "file" in entry]
    return {path.name for path in manifests} | set(parts)


def kills_while_saving(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill a process that saves again and again, at a random moment; what it announced is there, or something newer."""
    rng = random.Random(seed)
    trials, torn = [], 0
    for _ in range(count):
        trials.append(_kill(folder, rng.uniform(0, 0.04)))
        torn += bool(list(folder.glob(".*.tmp")))
    save(folder, loaded(folder)[0] + 1)
    rest = set(os.listdir(folder)) - needed(folder)
    assert not rest, f"the last save left {rest}"
    return Outcome.of(trials, f"{torn} of {count} in the middle of a file")


def _kill(folder: Path, seconds: float) -> Trial:
    reader, writer = get_context("fork").Pipe(duplex=False)
    saver = get_context("fork").Process(target=_save_forever, args=(folder, reader, writer), daemon=True)
    saver.start()
    writer.close()
    try:
        announced = int.from_bytes(reader.recv_bytes())
        time.sleep(seconds)  # until the moment drawn
        saver.kill()
        saver.join()
        announced = max([announced, *_drain(reader)])
        updates, skipped = loaded(folder)
        loss = (
            "" if updates >= announced and not skipped else f"announced {announced}, loaded {updates}, told {skipped}"
        )
    except (Exception, AssertionError) as error:
        loss = repr(error)
    finally:
        saver.kill()
        saver.join()
        reader.close()
    return saver.exitcode == -signal.SIGKILL, loss


def _save_forever(folder: Path, reader: Connection, writer: Connection) -> None:
    reader.close()  # so that the end of the other side ends this one
    updates = loaded(folder)[0] if (folder / "latest.json").exists() else 0
    while True:
        updates += 1
        save(folder, updates)
        writer.send_bytes(updates.to_bytes(8))


def _drain(reader: Connection) -> Iterator[int]:
    while True:
        try:
            yield int.from_bytes(reader.recv_bytes())
        except EOFError:
            return
