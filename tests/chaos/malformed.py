"""Checkpoints that are well sealed and yet not what they should be: read within bounds, and refused in one line."""

import copy
import hashlib
import json
import math
import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from a3c.checkpoint import load_checkpoint, load_training
from a3c.config import CheckpointError
from a3c.networks import ActorCritic
from tests.chaos.checkpoints import Trial, put_back, save
from tests.chaos.outcome import Outcome

CPU_SECONDS = 10.0  # for one load; reading the largest input takes a tenth of a second
MEMORY_KIB = 2**18  # of growth, over all loads
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    2**62,
    2**63,
    10**400,
    1.5,
    1e308,
    math.nan,
    math.inf,
    "",
    "x" * 10**5,
    "..",
    "a\0b",
    "../latest.json",
    "/etc/passwd",
    "latest.json",
    "\x1b[31m\n",
    [],
    {},
    [[]],
    ["a"],
    [-1],
    [10**9, 10**9],
    [1] * 10**4,
    {"file": "latest.json", "bytes": 1, "sha256": ""},
    {"a": {"a": [None]}},
]
DOCUMENTS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 10**5,
    b'{"a":' * 10**5,
    b'{"updates": ' + b"9" * 10**5 + b"}",
    b'{"a": 1e999}',
    b'{"a": 1, "a": 1}',
    b"{" + b" " * 2**20 + b"}",
    b'{"format": 1}',
    b'{"format": 1, "network": {}, "weights": {}}',
]
TYPES = ["F32", "F64", "F16", "F4", "F8_E8M0", "C64", "BOOL", "U64", "I8", "XX", None, 3]
SHAPES = [[], [0], [0, 2**62], [2**62, 0, 2**62], [4, 2], [1, 8], [2**63], [2**64], [-1], None, "a", [2.5], [1] * 100]
OFFSETS = [[0, 0], [0, 4], [0, 8], [0, 32], [8, 0], [4, 8], [0, 2**63], [2**64, 0], None, [0], [-1, 3]]


def malformed(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Load checkpoints with wrong values, missing entries, hostile JSON and lying safetensors headers."""
    rng, path = random.Random(seed), save(folder, 1, keep=1)
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    kinds = (_wrong_value, _missing_entry, _document, _lying_header)
    refused = 0
    trials: list[Trial] = []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        put_back(folder, whole)
        damage = rng.choice(kinds)(path, rng)
        refusals = [_refused(lambda: _training(folder)), _refused(lambda: _policy(path))]
        refused += "refused" in refusals
        losses = [refusal for refusal in refusals if refusal not in ("", "refused")]
        trials.append((path.read_bytes() != whole[path], f"{damage}: {losses[0]}" if losses else ""))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < MEMORY_KIB, f"{grown} KiB more than before"
    return Outcome.of(trials, f"{refused} of {count} refused, the others as good as whole")


def _refused(load: Callable[[], object]) -> str:
    """'refused' where it is in one line, '' where it is loaded, else what happened instead."""
    began = time.process_time()
    try:
        load()
        outcome = ""
    except CheckpointError as error:
        outcome = "refused" if str(error).isprintable() and len(str(error)) < 2000 else f"told {str(error)[:2000]!r}"
    except BaseException as error:  # a panic of the safetensors library is no Exception
        outcome = repr(error)
    return outcome if time.process_time() - began < CPU_SECONDS else "took too long"


def _policy(path: Path) -> None:
    """Load the manifest's policy alone, and use what the commands use of it."""
    checkpoint = load_checkpoint(path)
    assert isinstance(checkpoint.model, ActorCritic) and isinstance(checkpoint.env_id, str)
    assert checkpoint.max_episode_steps is None or checkpoint.max_episode_steps > 0


def _training(folder: Path) -> None:
    """Load what training goes on from: of the right types, though perhaps not what was saved."""
    _, training = load_training(folder)
    assert all(isinstance(tensor, Tensor) for tensor in training.tensors.values()) and training.facts == {"updates": 1}


def _wrong_value(path: Path, rng: random.Random) -> str:
    manifest = json.loads(path.read_bytes())
    entries, key = _pick(manifest, rng)
    entries[key] = copy.deepcopy(rng.choice(VALUES))
    _seal(path, manifest, rng)
    return f"{key} = {str(entries[key])[:80]!r}"


def _missing_entry(path: Path, rng: random.Random) -> str:
    manifest = json.loads(path.read_bytes())
    entries, key = _pick(manifest, rng)
    del entries[key]
    _seal(path, manifest, rng)
    return f"no {key}"


def _document(path: Path, rng: random.Random) -> str:
    content = rng.choice([*DOCUMENTS, rng.randbytes(100)])
    path.write_bytes(rng.choice([content, sealed(content.removesuffix(b"}"))]))
    return str(content[:80])


def _lying_header(path: Path, rng: random.Random) -> str:
    manifest = json.loads(path.read_bytes())
    kind = rng.choice(["weights", "training_tensors"])
    part = (path.parent / manifest[kind]["file"]).read_bytes()
    size = struct.unpack("<Q", part[:8])[0]
    header, data = json.loads(part[8 : 8 + size]), part[8 + size :]
    tensor = header[rng.choice(sorted(header))]
    change = rng.choice(
        [("dtype", rng.choice(TYPES)), ("shape", rng.choice(SHAPES)), ("data_offsets", rng.choice(OFFSETS))]
    )
    tensor[change[0]] = change[1]
    text = json.dumps(header).encode()
    length = rng.choice([len(text)] * 5 + [0, 7, 2**32, 2**63, 2**64 - 1])
    content = struct.pack("<Q", length) + text + data
    digest = hashlib.sha256(content).hexdigest()
    manifest[kind] = {"file": f"lying.{kind}", "bytes": len(content), "sha256": digest}
    (path.parent / manifest[kind]["file"]).write_bytes(content)
    _seal(path, manifest, rng)
    return f"{kind}: {change}, header of {length}"


def _pick(manifest: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """An entry anywhere in the manifest."""
    del manifest["seal"]
    places = [manifest, *(value for value in manifest.values() if isinstance(value, dict))]
    return rng.choice([(entries, key) for entries in places for key in entries])


def _seal(path: Path, manifest: dict[str, Any], rng: random.Random) -> None:
    """Write a manifest, well sealed; now and then as one of the first format, which had no seal."""
    manifest.pop("seal", None)
    if rng.random() < 0.2:
        path.write_bytes(json.dumps({**manifest, "format": 1}).encode())
    else:
        path.write_bytes(sealed(json.dumps(manifest, indent=2).removesuffix("\n}").encode()))


def sealed(body: bytes) -> bytes:
    """A manifest's bytes up to its last entry, and the seal that belongs to them."""
    return body + b',\n  "seal": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'
