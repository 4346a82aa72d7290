"""A served model: an ONNX file of our own export, loaded without trusting it, checked, and asked for actions."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from a3c.config import CheckpointError
from a3c.files import read_file
from a3c.onnx_names import ACTIONS, OBSERVATIONS, PROBABILITIES, VALUES
from workers.serving.metadata import Facts, read_facts
from workers.serving.onnx_session import open_session

SIZE_LIMIT = 2**29  # bytes
DOMAINS = ("", "ai.onnx", "com.microsoft")  # of ONNX itself and of what onnxruntime brings along
TYPES = {PROBABILITIES: "tensor(float)", ACTIONS: "tensor(int64)", VALUES: "tensor(float)"}
PROBES = (1, 2, 7)  # observations of the batches that a model must answer before it is served
TOLERANCE = 1e-3  # of a sum of probabilities: 8 bits are rough, nonsense is rougher


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says to observations [B, O]."""

    actions: NDArray[np.int64]  # [B], as the environment counts them
    probabilities: NDArray[np.float32]  # [B, A]
    values: NDArray[np.float32] | None  # [B], in units of return; None without critic


class Model:
    """A loaded model; any number of threads may ask it at once."""

    def __init__(self, session: onnxruntime.InferenceSession, facts: Facts):
        self.facts = facts
        self._run = session.run
        self._names = [ACTIONS, PROBABILITIES, *([VALUES] * facts.critic)]

    def answer(self, observations: NDArray[np.float32]) -> Answers:
        """Greedy actions, probabilities and values of observations [B, O]; not finite where these are too large."""
        actions, probabilities, *values = self._run(self._names, {OBSERVATIONS: observations})
        return Answers(actions, probabilities, values[0] if values else None)


def load_model(path: Path) -> Model:
    """Load a model and check that it is what `export` writes.

    Raises:
        CheckpointError: it cannot be read, is of unknown origin, keeps weights elsewhere, or does not pass its check.
    """
    try:
        content = read_file(
            Path(os.path.realpath(path)), SIZE_LIMIT
        )  # a link such as current.onnx is the user's choice
        facts = read_facts(_inspected(content))
        session = _session(content)
        _check_signature(session, facts)
        model = Model(session, facts)
        _check_answers(model)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model


def _inspected(content: bytes) -> dict[str, str]:
    """The metadata of a model that is whole and plain, seen before onnxruntime acts on what it says.

    Raises:
        ValueError: it is no ONNX model, names files of its own, or has operators that nobody here knows.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ValueError("no ONNX model") from None
    if any(map(uses_external_data, _tensors(model))):
        raise ValueError("keeps weights in other files (external data), which are not read; export it as one file")
    strange = {node.domain for node in model.graph.node} - set(DOMAINS) | {part.domain for part in model.functions}
    if strange:
        raise ValueError(f"has operators of the unknown domain {min(strange)[:40]!r}; only ONNX's own are run")
    return {entry.key: entry.value for entry in model.metadata_props}


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors that a model without functions holds, those of sparse ones and of attributes too.

    Raises:
        ValueError: it has branches or loops, which no policy of ours has.
    """
    graph = model.graph
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        if attribute.HasField("g") or attribute.graphs:
            raise ValueError("has branches or loops, which no exported policy has")
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _session(content: bytes) -> onnxruntime.InferenceSession:
    try:
        return open_session(content)
    except Exception as error:  # its exceptions have no common type of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"onnxruntime refuses it: {reason[:200]}") from error


def _check_signature(session: onnxruntime.InferenceSession, facts: Facts) -> None:
    """Refuse inputs and outputs that are not what the metadata promise, by a ValueError."""
    names = [PROBABILITIES, ACTIONS, *([VALUES] * facts.critic)]
    wanted = {name: TYPES[name] for name in names}
    if (found := {output.name: output.type for output in session.get_outputs()}) != wanted:
        raise ValueError(f"its outputs are {_listed(found)}, but an exported policy has {_listed(wanted)}")
    inputs = [(value.name, value.type, list(value.shape)) for value in session.get_inputs()]
    if len(inputs) != 1 or inputs[0][:2] != (OBSERVATIONS, "tensor(float)"):
        raise ValueError(f"its inputs are {_listed({name: kind for name, kind, _ in inputs})}, not {OBSERVATIONS}")
    batch, *size = inputs[0][2] or [None]
    if isinstance(batch, int) or size != [facts.observation_size]:
        raise ValueError(f"{OBSERVATIONS} have the shape {inputs[0][2]}, not [batch, {facts.observation_size}]")


def _check_answers(model: Model) -> None:
    """Refuse a model that does not answer as a policy does, by a ValueError."""
    facts, rng = model.facts, np.random.default_rng(0)
    for batch in PROBES:
        observations = rng.uniform(facts.lowest, facts.highest, (batch, facts.observation_size)).astype(np.float32)
        try:
            answers = model.answer(observations)
        except Exception as error:  # onnxruntime's own, of no common type
            raise ValueError(f"does not answer: {' '.join(str(error).split())[:200]}") from error
        _check_one_answer(answers, batch, facts)


def _check_one_answer(answers: Answers, batch: int, facts: Facts) -> None:
    probabilities, values = answers.probabilities, answers.values
    if probabilities.shape != (batch, facts.action_count) or answers.actions.shape != (batch,):
        raise ValueError(
            f"its answers to {batch} observations have the shapes {_shape(probabilities)} and "
            f"{_shape(answers.actions)}, not [{batch}, {facts.action_count}] and [{batch}]"
        )
    if values is not None and values.shape != (batch,):
        raise ValueError(f"its values of {batch} observations have the shape {_shape(values)}, not [{batch}]")
    if not all(np.isfinite(numbers).all() for numbers in (probabilities, *([] if values is None else [values]))):
        raise ValueError("its answers are not finite")
    if (probabilities < 0).any() or (abs(probabilities.sum(-1) - 1) > TOLERANCE).any():
        raise ValueError("its probabilities do not sum to 1")
    chosen = answers.actions - facts.action_start
    if (chosen < 0).any() or (chosen >= facts.action_count).any():
        raise ValueError(f"its actions are not among the {facts.action_count} of {facts.env_id}")
    if (probabilities[np.arange(batch), chosen] < probabilities.max(-1) - TOLERANCE).any():
        raise ValueError("its actions are not the most probable ones")


def _shape(array: NDArray[Any]) -> list[int]:
    return list(array.shape)


def _listed(types: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(types.items()))[:200] or "none"
