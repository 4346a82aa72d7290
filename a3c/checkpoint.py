"""Checkpoints: complete or absent, and damage is always found.

A checkpoint is a manifest (`a3c.manifest`) and its parts: the weights and, where training can resume from it, tensors
and facts. The parts are written first, under names of their own, and the manifest is renamed into place after them, so
that at every moment NAME.json is either the old checkpoint or the new one, whole. Nothing is unpickled on the way back.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from a3c.actors import Policy
from a3c.config import CONVOLUTIONS, CORES, CheckpointError
from a3c.environments import sizes
from a3c.files import json_object
from a3c.heads import Categorical, Head, head_for
from a3c.manifest import (
    FACTS,
    NUMBER_LIMIT,
    TENSORS,
    WEIGHTS,
    checkpoints_of,
    entry_of,
    malformed_is_damage,
    manifest_of,
    newest_whole,
    preferred,
    read_manifest,
    read_part,
    retried,
    save,
    whole_number,
)
from a3c.networks import ActorCritic, fewest_parameters, trunk_of
from a3c.spaces import ObservationSpec, from_json, observation_spec


@dataclass(frozen=True, slots=True)
class Training:
    """What resuming the training needs beyond the policy."""

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
        return self.manifest["max_episode_steps"]  # type: ignore[no-any-return]


def save_checkpoint(
    directory: Path,
    name: str,
    model: ActorCritic,
    entries: dict[str, Any],
    training: Training | None = None,
    keep: int = 1,
) -> Path:
    """Write the newest checkpoint `name` into `directory`; return its manifest's path.

    After an OSError the older checkpoints are still there.

    Args:
        entries: what else the manifest holds: at least env_id, max_episode_steps and updates; env_spec where known.
        training: what `load_training` gives back.
        keep: how many checkpoints of this name stay, this one included; those of more updates go, which a run that
            resumed from an older checkpoint has left behind.
    """
    contents = {WEIGHTS: _pack(model.state_dict())}
    if training is not None:
        contents[TENSORS] = _pack(training.tensors)
        contents[FACTS] = json.dumps(training.facts, allow_nan=False, separators=(",", ":")).encode()
    network = {**(model.spaces or sizes(model.observation, model.head)), **model.trunk.entries()}
    network |= {"value_scale": model.value_scale, "normalize_observations": model.normalizes}
    network |= {"separate_critic": True} if model.critic is not None else {}
    network |= {"action_values": True} if model.value_head is None else {}
    return save(directory, name, {**entries, "network": network}, contents, keep)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Load the better of a run directory's best and latest checkpoints (`preferred`), or that of a manifest or weights.

    Where one is damaged, the other takes its place, then older ones; `skipped` names them. A CheckpointError where
    there is none, or all are damaged.
    """
    path = Path(path)
    if path.is_dir():
        return newest_whole(path, preferred(checkpoints_of(path)), _load)
    if not os.path.lexists(path):
        raise CheckpointError(f"{path}: no such run directory or checkpoint")
    return retried(_load, manifest_of(path) if path.suffix == ".safetensors" else path)


def load_training(run_dir: str | os.PathLike[str]) -> tuple[Checkpoint, Training]:
    """Load a run directory's latest checkpoint with all that training needs; where it is damaged, the one before it."""
    if not os.path.isdir(run_dir):
        raise CheckpointError(f"{run_dir}: no such run directory")
    return newest_whole(Path(run_dir), ("latest",), _load_with_training)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy of a run directory or checkpoint, as a function of NumPy observations [B, O], greedy by default."""
    return Policy(load_checkpoint(path).model)


def _load(path: Path, skipped: tuple[str, ...]) -> Checkpoint:
    manifest = read_manifest(path)
    weights = read_part(path, manifest[WEIGHTS])
    with malformed_is_damage(path):
        return Checkpoint(path, _model(manifest["network"], weights), manifest, skipped)


def _load_with_training(path: Path, skipped: tuple[str, ...]) -> tuple[Checkpoint, Training]:
    checkpoint = _load(path, skipped)
    if not {TENSORS, FACTS} <= set(checkpoint.manifest):
        raise CheckpointError(f"{path}: holds a policy, but not what training needs to resume")
    tensors, facts = (read_part(path, checkpoint.manifest[kind]) for kind in (TENSORS, FACTS))
    with malformed_is_damage(path):
        return checkpoint, Training(_unpack(tensors), json_object(facts))


def _model(network: dict[str, Any], weights: bytes) -> ActorCritic:
    """The network that a manifest describes, built only where the weights are as many as that takes."""
    hidden, value_scale = entry_of(network, "hidden_sizes", list), network.get("value_scale")
    hidden = [whole_number({"hidden_sizes": size}, "hidden_sizes", 1) for size in hidden]
    observation, head = _sides(network)
    separate, action_values = (network.get(name, False) is True for name in ("separate_critic", "action_values"))
    if action_values:
        from a3c.action_values import action_values_of

        head = action_values_of(head)
    convolution, recurrent, units = _kinds(network)
    normalize = network.get("normalize_observations", False) is True
    if "value_scale" not in network:
        raise ValueError("'value_scale' is missing")
    if value_scale is not None and not (isinstance(value_scale, int | float) and 0 < value_scale <= sys.float_info.max):
        raise ValueError("'value_scale' is out of range")
    if 4 * fewest_parameters(observation, hidden, convolution, units, head.outputs) > len(weights):
        raise ValueError("its weights are fewer than its network's")
    kinds = observation, hidden, convolution, recurrent, units
    critic = trunk_of(*kinds) if separate else None
    spaces = _spaces(network)
    model = ActorCritic(trunk_of(*kinds), head, value_scale, normalize, spaces, critic, action_values)
    state, own = _unpack(weights), model.state_dict()
    if {name: (t.shape, t.dtype) for name, t in state.items()} != {name: (t.shape, t.dtype) for name, t in own.items()}:
        raise ValueError("its weights do not fit its network")
    model.load_state_dict(state)
    return model


def _kinds(network: dict[str, Any]) -> tuple[str, str | None, int | None]:
    """Which convolution and which recurrent core a manifest describes, and the units of that."""
    convolution, recurrent = network.get("convolution", "paper"), network.get("recurrent")
    if convolution not in CONVOLUTIONS or recurrent not in (None, *CORES):
        raise ValueError("'convolution' or 'recurrent' is unknown")
    return convolution, recurrent, None if recurrent is None else whole_number(network, "recurrent_size", 1)


def _spaces(network: dict[str, Any]) -> dict[str, Any] | None:
    """The spaces that a manifest describes; None in one that has only their sizes."""
    names = ("observation_space", "action_space", "info_mask")
    return {name: network[name] for name in names} if "action_space" in network else None


def _sides(network: dict[str, Any]) -> tuple[ObservationSpec, Head]:
    """What a manifest's network observes, and how it acts."""
    if (spaces := _spaces(network)) is not None:
        head = head_for(from_json(spaces["action_space"]))
        return observation_spec(from_json(spaces["observation_space"]), head.outputs, spaces["info_mask"] is True), head
    start = whole_number({"action_start": 0, **network}, "action_start", -NUMBER_LIMIT)
    size, count = (whole_number(network, name, 1) for name in ("observation_size", "action_count"))
    return ObservationSpec((size,)), Categorical(count, start)


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
