"""Manifests: what a checkpoint consists of, sealed, so that a flipped bit anywhere in it is found.

A manifest is a JSON object that names each part of its checkpoint with its size and SHA-256, and that ends with a seal,
the SHA-256 of all its bytes before. `NAME.json` is a name's newest; `NAME-UPDATES.json` are copies of it and of those
before it. Here they are written, read, found and pruned; `a3c.checkpoint` says what the parts hold.
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from a3c.config import CheckpointError
from a3c.files import discard, discard_leftovers, json_bytes, json_object, read_file, write_durably

FORMAT = 2
WEIGHTS, TENSORS, FACTS = "weights", "training_tensors", "training_facts"
ENDINGS = {WEIGHTS: "safetensors", TENSORS: "training.safetensors", FACTS: "training.json"}
MANIFEST_LIMIT = 2**20  # bytes
PART_LIMIT = 2**31  # bytes
NUMBER_LIMIT = 2**62
T = TypeVar("T")


class DamageError(CheckpointError):
    """A checkpoint that cannot be trusted, so that an older one may take its place; not one of another format."""


@contextmanager
def malformed_is_damage(path: Path) -> Iterator[None]:
    """Turn what reading `path` raises into one line that names it."""
    try:
        yield
    except OSError as error:
        raise DamageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise DamageError(f"{path}: damaged: {error}") from error


def save(directory: Path, name: str, entries: dict[str, Any], contents: dict[str, bytes], keep: int) -> Path:
    """Write a name's newest manifest and its parts, and prune; the manifest's path.

    A part's file is named by its content, so that no save touches an older one's. Older ones are removed last.

    Args:
        entries: what the manifest holds besides the parts.
        contents: of the parts, by their kind.
        keep: as for `a3c.checkpoint.save_checkpoint`.
    Raises:
        OSError: something cannot be written, or is so large that it could not be read back.
    """
    manifest, updates = {"format": FORMAT, **entries}, entries["updates"]
    for kind, content in contents.items():
        digest = sha256(content).hexdigest()
        manifest[kind] = {"file": f"{name}-{digest[:12]}.{ENDINGS[kind]}", "bytes": len(content), "sha256": digest}
    body = json_bytes(manifest).removesuffix(b"\n}\n")
    path, copy = directory / f"{name}.json", directory / f"{name}-{updates:012d}.json"
    discard_leftovers(directory)
    _prune_parts(directory, name)  # of saves that failed: their room may be what this one needs
    for kind, content in contents.items():
        _write(directory / manifest[kind]["file"], content, PART_LIMIT)
    for place in (path, copy)[: min(keep, 2)]:  # in this order: NAME.json is to be the newest at every moment
        _write(place, body + _seal(body), MANIFEST_LIMIT)
    copies = _copies(directory, name)
    kept = [copy for copy in copies if _updates_of(copy) <= updates][: keep if keep > 1 else 0]
    for unneeded in set(copies).difference(kept):
        discard(unneeded)
    _prune_parts(directory, name)
    return path


def _write(path: Path, content: bytes, limit: int) -> None:
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    write_durably(path, content)


def _seal(body: bytes) -> bytes:
    return b',\n  "seal": "%s"\n}\n' % sha256(body).hexdigest().encode()


def _prune_parts(directory: Path, name: str) -> None:
    """Remove the parts that no manifest names; all stay while a manifest is damaged, for it may have named any."""
    with suppress(CheckpointError):
        found = [read_manifest(path) for path in manifests(directory, name)]
        needed = {manifest[kind]["file"] for manifest in found for kind in ENDINGS if kind in manifest}
        for path in _files(directory, name, rf"[0-9a-f]{{12}}\.({'|'.join(map(re.escape, ENDINGS.values()))})"):
            if path.name not in needed:
                discard(path)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest whose seal is whole and whose entries are of their types.

    Raises:
        DamageError: it is not that, or cannot be read.
        CheckpointError: it is of a format that is not read here.
    """
    with malformed_is_damage(path):
        raw = read_file(path, MANIFEST_LIMIT)
        body = raw[: -len(_seal(b""))]
        manifest = json_object(raw)
        is_first = manifest.get("format") == 1 and "seal" not in manifest
        if not is_first and raw != body + _seal(body):
            raise ValueError("its seal is broken")
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format {str(manifest.get('format'))[:20]!r}, but {FORMAT} is read here")
        entry_of(manifest, "env_id", str)
        entry_of(manifest, "network", dict)
        entry_of({"env_spec": {}, **manifest}, "env_spec", dict)
        whole_number(manifest, "updates", 0)
        if manifest.get("max_episode_steps", 0) is not None:  # null is a value, a missing key is none
            whole_number(manifest, "max_episode_steps", 1)
        for part in (entry_of(manifest, kind, dict) for kind in ENDINGS if kind in manifest or kind == WEIGHTS):
            entry_of(part, "sha256", str)
            whole_number(part, "bytes", 0)
            if not re.fullmatch(r"\w[\w.-]{0,99}", entry_of(part, "file", str), re.ASCII):
                raise ValueError("a part's 'file' is no plain file name")
    return manifest


def entry_of(entries: dict[str, Any], key: str, kind: type[T]) -> T:
    """An entry of exactly that type; ValueError where it is missing or of another."""
    value = entries.get(key)
    if type(value) is not kind:
        raise ValueError(f"'{key}' is missing or of another type")
    return value


def whole_number(entries: dict[str, Any], key: str, low: int) -> int:
    """An entry that is a whole number of at least `low`; ValueError where it is not."""
    value = entry_of(entries, key, int)
    if not low <= value <= NUMBER_LIMIT:
        raise ValueError(f"'{key}' is out of range")
    return value


def read_part(manifest_path: Path, entry: dict[str, Any]) -> bytes:
    """A part's content; a DamageError where it cannot be read or is not what the manifest names."""
    path = manifest_path.parent / entry["file"]
    if not os.path.lexists(path):  # the manifest may be a link to one elsewhere
        path = Path(os.path.realpath(manifest_path)).parent / entry["file"]
    with malformed_is_damage(path):
        content = read_file(path, min(entry["bytes"], PART_LIMIT))
        if sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError("its checksum is not the one in its manifest")
    return content


def checkpoints_of(run_dir: Path) -> Path:
    """Where a run directory's checkpoints are; it may be that folder itself."""
    folder = run_dir / "checkpoints"
    return folder if folder.is_dir() else run_dir


def preferred(directory: Path) -> tuple[str, str]:
    """The two names of a run's checkpoints, the one whose policy is to be used first.

    That is the best, unless the latest was found better when the run was interrupted, or the best has never learned.
    """
    with suppress(CheckpointError):  # which is reported where one is loaded
        best, latest = (read_manifest(directory / f"{name}.json") for name in ("best", "latest"))
        if _mean(latest) > _mean(best) or best["updates"] == 0 < latest["updates"]:
            return "latest", "best"
    return "best", "latest"


def _mean(manifest: dict[str, Any]) -> float:
    """Of a manifest's evaluation; minus infinity where there is none."""
    evaluation = manifest.get("evaluation")
    mean = evaluation.get("mean") if isinstance(evaluation, dict) else None
    return float(mean) if isinstance(mean, int | float) and abs(mean) <= sys.float_info.max else -sys.float_info.max


def manifests(directory: Path, name: str) -> list[Path]:
    """The manifests of a name, newest first."""
    newest = directory / f"{name}.json"
    return [newest] * os.path.lexists(newest) + _copies(directory, name)


def _copies(directory: Path, name: str) -> list[Path]:
    return sorted(_files(directory, name, r"[0-9]{12,19}\.json"), key=_updates_of, reverse=True)


def _updates_of(copy: Path) -> int:
    return int(copy.stem.rpartition("-")[2])


def _files(directory: Path, name: str, rest: str) -> list[Path]:
    """The files of a name whose own names end as the pattern `rest` says."""
    pattern = re.compile(f"{re.escape(name)}-{rest}")
    with suppress(OSError):
        return [directory / file for file in os.listdir(directory) if pattern.fullmatch(file)]
    return []


def newest_whole(run_dir: Path, names: Sequence[str], load: Callable[[Path, tuple[str, ...]], T]) -> T:
    """Load the first checkpoint that is not damaged, and pass it a line for each that was."""
    folder = checkpoints_of(run_dir)
    skipped: tuple[str, ...] = ()
    for path in (path for name in names for path in manifests(folder, name)):
        try:
            return retried(load, path, skipped)
        except DamageError as error:
            skipped += (str(error),) if str(error) not in skipped else ()  # a damaged part has two manifests
    if skipped:
        others = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise CheckpointError(f"{run_dir}: every checkpoint is damaged: {skipped[0]}{others}")
    wanted = " and ".join(f"{name}.json" for name in names)
    raise CheckpointError(f"{run_dir}: there is no checkpoint yet (expected {wanted} in {folder})")


def retried(load: Callable[[Path, tuple[str, ...]], T], path: Path, skipped: tuple[str, ...] = ()) -> T:
    """Load; again where a running run has meanwhile replaced the manifest, and removed what the old one named."""

    def version() -> tuple[int, int] | None:
        with suppress(OSError):
            status = os.stat(path)  # of what a link leads to: that is what a run replaces
            return status.st_ino, status.st_mtime_ns
        return None

    while True:
        before = version()
        try:
            return load(path, skipped)
        except DamageError:
            if version() == before:
                raise


def manifest_of(weights: Path) -> Path:
    """The manifest beside a weights file that names it."""
    for path in manifests(weights.parent, weights.name.rpartition("-")[0]):
        with suppress(DamageError):
            if read_manifest(path)[WEIGHTS]["file"] == weights.name:
                return path
    raise CheckpointError(f"{weights}: no whole manifest beside it names it as its weights")
