"""What is sealed is doubted too: a seal says that nothing changed since, not who made it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from a3c.checkpoint import load_checkpoint
from a3c.config import CheckpointError
from tests.chaos.checkpoints import save
from tests.chaos.malformed import sealed


def write_sealed(path: Path, manifest: dict[str, Any]) -> None:
    del manifest["seal"]
    path.write_bytes(sealed(json.dumps(manifest).removesuffix("}").encode()))


def put_weights(path: Path, content: bytes) -> None:
    """Let a manifest name other weights, correctly."""
    manifest = json.loads(path.read_bytes())
    manifest["weights"] = {"file": "w", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path.parent / "w").write_bytes(content)
    write_sealed(path, manifest)


DOUBTFUL: dict[tuple[str, str], tuple[object, ...]] = {
    ("weights", "file"): ("../latest.json", "/etc/passwd", "..", ".hidden", "", "a\0b", "a" * 101, 1),
    ("weights", "bytes"): (-1, 2**63, 1.0, True, None),
    ("network", "hidden_sizes"): ([2**20, 2**20], [10**400], [0], [-4], [4.0], 4, None),
    ("network", "value_scale"): (0, -1.0, 10**400, "1", None),
    ("network", "action_count"): (2**62,),
    ("network", "action_start"): (0.5, "1", None, True, 10**30),
    ("network", "observation_size"): (True,),
}


def test_a_sealed_entry_is_doubted_before_it_is_used(tmp_path: Path) -> None:
    path = save(tmp_path, 1, name="best")
    content = path.read_bytes()
    for (section, key), values in DOUBTFUL.items():
        for value in values:
            manifest = json.loads(content)
            manifest[section][key] = value
            write_sealed(path, manifest)
            with pytest.raises(CheckpointError, match=f"'{key}'|weights (are fewer|do not fit)") as refusal:
                load_checkpoint(path)
            assert len(str(refusal.value)) < len(str(path)) + 100


def state(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(save(folder, 1, name="best")).model.state_dict()


def test_weights_that_are_not_the_networks_are_refused(tmp_path: Path) -> None:
    path, weights = tmp_path / "best.json", state(tmp_path)
    others = {
        "another shape": {**weights, "trunk.0.weight": weights["trunk.0.weight"].T.contiguous()},
        "another type": {name: tensor.double() for name, tensor in weights.items()},
        "one too many": {**weights, "more": torch.zeros(1)},
        "another name": {name.replace("policy", "other"): tensor for name, tensor in weights.items()},
    }
    for difference, tensors in others.items():
        put_weights(path, safetensors.torch.save(tensors))
        with pytest.raises(CheckpointError, match="its weights do not fit its network"):
            raise AssertionError(f"{difference}: {load_checkpoint(path)}")


def test_weights_that_torch_cannot_hold_are_refused_in_a_printable_line(tmp_path: Path) -> None:
    path, weights = tmp_path / "best.json", safetensors.torch.save(state(tmp_path))
    for difference in (b'"F4" ', b'"\x1b\n"', b"[[[[["):
        put_weights(path, weights.replace(b'"F32"', difference, 1))
        with pytest.raises(CheckpointError, match="no safetensors") as refusal:
            load_checkpoint(path)
        assert str(refusal.value).isprintable()
    header = b'{"a\\n\\u001b[31m": {"dtype": "F4", "shape": [65536], "data_offsets": [0, 32768]}}'
    put_weights(path, len(header).to_bytes(8, "little") + header + bytes(2**15))
    with pytest.raises(CheckpointError, match="no safetensors: \"'F4'\""):
        load_checkpoint(path)
