"""Checkpoints: weights as safetensors, a JSON manifest beside them, complete or absent.

`NAME.json` is the checkpoint: it names its weights file and that file's SHA-256. The weights are written first, under a
name of their own, and the manifest is renamed into place last, so that at every moment NAME.json is either the old
checkpoint or the new one, whole. Nothing is unpickled on the way back.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from a3c.config import CheckpointError
from a3c.files import json_bytes, write_durably
from a3c.networks import ActorCritic
from a3c.policy import Policy

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path  # of the manifest
    model: ActorCritic
    manifest: dict[str, Any]

    @property
    def env_id(self) -> str:
        return str(self.manifest["env_id"])

    @property
    def max_episode_steps(self) -> int | None:
        limit = self.manifest["max_episode_steps"]
        return None if limit is None else int(limit)


def save_checkpoint(directory: Path, name: str, model: ActorCritic, facts: dict[str, Any]) -> Path:
    """Write the checkpoint `name` into `directory`, replacing an older one of that name; return its manifest's path.

    Args:
        facts: what else the manifest tells: at least env_id, max_episode_steps and updates.
    Raises:
        OSError: it cannot be written; the older checkpoint is then still there.
    """
    weights = safetensors.torch.save(model.state_dict())
    digest = hashlib.sha256(weights).hexdigest()
    weights_name = f"{name}-{digest[:12]}.safetensors"  # by content, so that no save touches an older one's file
    manifest = {
        "format": FORMAT,
        **facts,
        "network": {
            "observation_size": model.observation_size,
            "action_count": model.action_count,
            "hidden_sizes": model.hidden_sizes,
            "value_scale": model.value_scale,
        },
        "weights": {"file": weights_name, "sha256": digest},
    }
    write_durably(directory / weights_name, weights)
    path = directory / f"{name}.json"
    write_durably(path, json_bytes(manifest))
    for other in directory.glob(f"{name}-*.safetensors"):
        if other.name != weights_name:
            other.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Load a run directory's best checkpoint (the latest where there is none yet), or the checkpoint of a manifest.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    manifest_path = _find_manifest(Path(path))
    try:
        manifest = json.loads(manifest_path.read_bytes())
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{manifest_path}: format {manifest['format']!r}, but {FORMAT} is read here")
        network, weights_entry = manifest["network"], manifest["weights"]
        weights_path = manifest_path.parent / Path(weights_entry["file"]).name
        weights = weights_path.read_bytes()
        if hashlib.sha256(weights).hexdigest() != weights_entry["sha256"]:
            raise CheckpointError(f"{weights_path}: damaged, its checksum is not the one in {manifest_path.name}")
        model = ActorCritic(**network)
        model.load_state_dict(safetensors.torch.load(weights))
        checkpoint = Checkpoint(manifest_path, model, manifest)
        _ = checkpoint.env_id, checkpoint.max_episode_steps
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CheckpointError(f"{manifest_path}: not a checkpoint of this program: {reason}") from error
    return checkpoint


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy of a run directory or checkpoint, as a function of NumPy observations [B, O], greedy by default.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return Policy(load_checkpoint(path).model)


def _find_manifest(path: Path) -> Path:
    if path.is_file():
        if path.suffix == ".safetensors":
            path = path.with_name(path.name.rsplit("-", 1)[0] + ".json")
        return path
    candidates = [folder / f"{name}.json" for folder in (path / "checkpoints", path) for name in ("best", "latest")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not path.exists():
        raise CheckpointError(f"{path}: no such run directory or checkpoint")
    raise CheckpointError(f"{path}: holds no checkpoint (looked for checkpoints/best.json and latest.json)")
