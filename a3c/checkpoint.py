"""Checkpoints: complete or absent, and damage is always found.

A checkpoint is a manifest (`a3c.manifest`) and its parts: the weights and, where training is to go on from it, tensors
and facts. The parts are written first, under names of their own, and the manifest is renamed into place after them, so
that at every moment NAME.json is either the old checkpoint or the new one, whole. Nothing is unpickled on the way back.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from a3c.actors import Policy
from a3c.config import CheckpointError
from a3c.files import discard_leftovers, json_object
from a3c.heads import Categorical
from a3c.manifest import (
    FACTS,
    NUMBER_LIMIT,
    TENSORS,
    WEIGHTS,
    DamageError,
    Part,
    checkpoints_of,
    copy_path,
    field,
    malformed_is_damage,
    manifests,
    preferred,
    prune_copies,
    prune_parts,
    read_manifest,
    read_part,
    whole_number,
    write_manifest,
)
from a3c.networks import ActorCritic, mlp_actor_critic
from a3c.spaces import ObservationSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Training:
    """What going on with training needs beyond the policy."""

    tensors: dict[str, Tensor]  # of any shape and dtype
    facts: dict[str, Any]  # plain JSON


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path  # of the manifest
    model: ActorCritic
    manifest: dict[str, Any]
    skipped: tuple[str, ...] = ()  # a line for each damaged checkpoint that was passed over on the way to this one

    @property
    def env_id(self) -> str:
        return str(self.manifest["env_id"])

    @property
    def env_spec(self) -> dict[str, Any] | None:
        """The environment's own spec, where its id alone does not find it."""
        return self.manifest.get("env_spec")

    @property
    def max_episode_steps(self) -> int | None:
        limit = self.manifest["max_episode_steps"]
        return None if limit is None else int(limit)


def save_checkpoint(
    directory: Path,
    name: str,
    model: ActorCritic,
    facts: dict[str, Any],
    training: Training | None = None,
    keep: int = 1,
) -> Path:
    """Write the newest checkpoint `name` into `directory`; return its manifest's path.

    Args:
        facts: what else the manifest tells: at least env_id, max_episode_steps and updates; env_spec where it is known.
        training: what `load_training` gives back.
        keep: how many checkpoints of this name stay, this one included; those of more updates go, for a run that was
            taken up from an older checkpoint has left them behind.
    Raises:
        OSError: it cannot be written; the older checkpoints are then still there.
    """
    parts = {WEIGHTS: Part.of(name, WEIGHTS, _pack(model.state_dict()))}
    if training is not None:
        text = json.dumps(training.facts, allow_nan=False, separators=(",", ":"))
        parts[TENSORS] = Part.of(name, TENSORS, _pack(training.tensors))
        parts[FACTS] = Part.of(name, FACTS, text.encode())
    trunk: Any = model.trunk
    head: Any = model.head
    network = {
        "observation_size": model.observation.size,
        "action_count": head.outputs,
        "hidden_sizes": trunk.hidden_sizes,
        "value_scale": model.value_scale,
        "action_start": head.start,
    }
    manifest = {**facts, "network": network, **{kind: part.entry() for kind, part in parts.items()}}
    discard_leftovers(directory)
    prune_parts(directory, name)  # of saves that failed: their room may be what this one needs
    for part in parts.values():
        part.write(directory)
    path = directory / f"{name}.json"
    write_manifest(path, manifest)
    if keep > 1:  # only now: NAME.json is to be the newest at every moment
        write_manifest(copy_path(directory, name, facts["updates"]), manifest)
    prune_copies(directory, name, facts["updates"], keep if keep > 1 else 0)
    prune_parts(directory, name)
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Load the better of a run directory's best and latest checkpoints, or that of a manifest or weights.

    The best is the one; the latest where there is none yet, where its own evaluation has a greater mean, or where the
    best is untrained. Where one is damaged, the other takes its place, then older ones; `skipped` tells so.

    Raises:
        CheckpointError: there is none, or it is damaged, or all are.
    """
    path = Path(path)
    if path.is_dir():
        return _newest_whole(path, preferred(checkpoints_of(path)), _load)
    if not os.path.lexists(path):
        raise CheckpointError(f"{path}: no such run directory or checkpoint")
    return _settled(_load, _naming(path) if path.suffix == ".safetensors" else path)


def load_training(run_dir: str | os.PathLike[str]) -> tuple[Checkpoint, Training]:
    """Load a run directory's latest checkpoint with all that training needs; where it is damaged, the one before it.

    Raises:
        CheckpointError: there is none, all are damaged, or it holds a policy alone.
    """
    if not os.path.isdir(run_dir):
        raise CheckpointError(f"{run_dir}: no such run directory")
    return _newest_whole(Path(run_dir), ("latest",), _load_with_training)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy of a run directory or checkpoint, as a function of NumPy observations [B, O], greedy by default.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return Policy(load_checkpoint(path).model)


def _newest_whole(run_dir: Path, names: Sequence[str], load: Callable[[Path, tuple[str, ...]], T]) -> T:
    """Load the first checkpoint that is not damaged, telling it which ones were."""
    folder = checkpoints_of(run_dir)
    skipped: tuple[str, ...] = ()
    for path in (path for name in names for path in manifests(folder, name)):
        try:
            return _settled(load, path, skipped)
        except DamageError as error:
            skipped += (str(error),) if str(error) not in skipped else ()  # a damaged part has two manifests
    if skipped:
        others = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise CheckpointError(f"{run_dir}: every checkpoint is damaged: {skipped[0]}{others}")
    wanted = " and ".join(f"{name}.json" for name in names)
    raise CheckpointError(f"{run_dir}: there is no checkpoint yet (looked for {wanted} in {folder})")


def _settled(load: Callable[[Path, tuple[str, ...]], T], path: Path, skipped: tuple[str, ...] = ()) -> T:
    """Load; again where a run that goes on has meanwhile replaced the manifest, and removed what the old one named."""
    while True:
        before = _identity(path)
        try:
            return load(path, skipped)
        except DamageError:
            if _identity(path) == before:
                raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # of what a link leads to: that is what a run replaces
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _naming(weights: Path) -> Path:
    """The manifest beside a weights file that names it."""
    for path in manifests(weights.parent, weights.name.rpartition("-")[0]):
        with suppress(DamageError):
            if read_manifest(path)[WEIGHTS]["file"] == weights.name:
                return path
    raise CheckpointError(f"{weights}: no whole manifest beside it names it as its weights")


def _load(path: Path, skipped: tuple[str, ...]) -> Checkpoint:
    manifest = read_manifest(path)
    weights = read_part(path, manifest[WEIGHTS])
    with malformed_is_damage(path):
        return Checkpoint(path, _model(manifest["network"], weights), manifest, skipped)


def _load_with_training(path: Path, skipped: tuple[str, ...]) -> tuple[Checkpoint, Training]:
    checkpoint = _load(path, skipped)
    if not {TENSORS, FACTS} <= set(checkpoint.manifest):
        raise CheckpointError(f"{path}: holds a policy, but not what training needs to go on")
    tensors, facts = (read_part(path, checkpoint.manifest[kind]) for kind in (TENSORS, FACTS))
    with malformed_is_damage(path):
        return checkpoint, Training(_unpack(tensors), json_object(facts))


def _model(network: dict[str, Any], weights: bytes) -> ActorCritic:
    """The network that a manifest describes, built only where the weights are as many as that takes."""
    hidden, value_scale = field(network, "hidden_sizes", list), network.get("value_scale")
    layers = [whole_number(network, "observation_size", 1)]
    layers += [whole_number({"hidden_sizes": size}, "hidden_sizes", 1) for size in hidden]
    actions = whole_number(network, "action_count", 1)
    start = whole_number({"action_start": 0, **network}, "action_start", -NUMBER_LIMIT)
    count = sum((fan_in + 1) * fan_out for fan_in, fan_out in [*pairwise(layers), (layers[-1], actions + 1)])
    if 4 * count > len(weights):
        raise ValueError("its weights are fewer than its network's")
    if not isinstance(value_scale, int | float) or not 0 < value_scale <= sys.float_info.max:
        raise ValueError("'value_scale' is missing or out of range")
    observation, head = ObservationSpec((layers[0],)), Categorical(actions, start)
    model, state = mlp_actor_critic(observation, head, hidden, value_scale), _unpack(weights)
    if _shapes(state) != _shapes(model.state_dict()):
        raise ValueError("its weights do not fit its network")
    model.load_state_dict(state)
    return model


def _shapes(tensors: dict[str, Tensor]) -> dict[str, object]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _pack(tensors: dict[str, Tensor]) -> bytes:
    apart = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    packed: bytes = safetensors.torch.save(apart)  # which refuses tensors that share their memory
    return packed


def _unpack(content: bytes) -> dict[str, Tensor]:
    try:
        with torch.device("cpu"):  # else those without elements would be on whatever is torch's default
            tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except (SafetensorError, KeyError) as error:  # a KeyError is a type of numbers that torch has not
        raise ValueError(f"no safetensors: {str(error)[:100]!r}") from error
    return tensors
