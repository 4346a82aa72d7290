"""ONNX models made by hand: policies of one matrix, as `export` would write them, and what differs from that."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.serving.metadata import FORMAT, KEY, Metadata

# Leaning right, or moving so, asks for a push to the right; so does being right of the middle, to lean back first.
BALANCE = np.array([[-1.0, -1.7, -20.0, -3.5], [1.0, 1.7, 20.0, 3.5]], np.float32)
DIGEST = "5e" * 32


def linear_model(
    weights: NDArray[np.float32] = BALANCE,
    *,
    critic: bool = True,
    action_start: int = 0,
    metadata: dict[str, Any] | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """A policy whose logits are weights [A, O] times the observation, and whose value is 10 less its squares' sum.

    Args:
        metadata: fields in the place of the usual ones.
        domain: of the softmax operator.
    """
    actions, size = weights.shape
    nodes = [
        helper.make_node("Gemm", ["observations", "weights"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1, domain=domain),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=-1, keepdims=0),
        helper.make_node("Add", ["best", "start"], ["actions"]),
    ]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", actions]),
        helper.make_tensor_value_info("actions", TensorProto.INT64, ["batch"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.int64(action_start), "start")]
    if critic:
        nodes += [
            helper.make_node("Mul", ["observations", "observations"], ["squares"]),
            helper.make_node("ReduceSum", ["squares", "axis"], ["sum"], keepdims=0),
            helper.make_node("Sub", ["ten", "sum"], ["values"]),
        ]
        outputs.append(helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch"]))
        constants += [numpy_helper.from_array(np.array([1], np.int64), "axis")]
        constants += [numpy_helper.from_array(np.array([10], np.float32), "ten")]
    inputs = [helper.make_tensor_value_info("observations", TensorProto.FLOAT, ["batch", size])]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, constants)
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    fields = {"format": FORMAT, **asdict(model_metadata(size, actions, critic, action_start)), **(metadata or {})}
    helper.set_model_props(model, {KEY: json.dumps(fields)})
    return model


def write_model(path: Path, **changes: Any) -> Path:
    """Write a `linear_model` and return where."""
    path.write_bytes(linear_model(**changes).SerializeToString())
    return path


def vector_space(size: Any) -> dict[str, Any]:
    """So many real numbers, as JSON."""
    return {"space": "Box", "low": "-inf", "high": "inf", "shape": [size], "dtype": "float32"}


def choice_space(count: Any, start: Any = 0) -> dict[str, Any]:
    """One of so many actions, as JSON."""
    return {"space": "Discrete", "n": count, "start": start}


def model_metadata(size: int, actions: int, critic: bool = True, action_start: int = 0) -> Metadata:
    """Those of a model that is made by hand."""
    return Metadata(
        env_id="CartPole-v1",
        observation_space=vector_space(size),
        action_space=choice_space(actions, action_start),
        precision="fp32",
        critic=critic,
        checkpoint_sha256=DIGEST,
        updates=1234,
        env_steps=56789,
        max_episode_steps=500,
        target_return=475.0,
        seed=0,
        lowest=(-1.0,) * size,
        highest=(1.0,) * size,
    )
