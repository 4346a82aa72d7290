"""An exported policy: an ONNX file, loaded without trusting it, checked, and asked for actions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from a3c.config import CheckpointError
from a3c.files import read_file
from workers.serving.metadata import OBSERVATIONS, STATE, Metadata, read_metadata

SIZE_LIMIT = 2**29  # bytes
DOMAINS = {"", "ai.onnx", "com.microsoft"}  # of ONNX itself and of what onnxruntime brings along
PROBES = (1, 2, 7)  # observations of the batches that a model must answer before it is used


class Model:
    """A loaded model; any number of threads may ask it at once."""

    def __init__(self, session: onnxruntime.InferenceSession, metadata: Metadata):
        self.metadata = metadata
        self._run = session.run
        self._names = metadata.outputs

    def answer(
        self, observations: NDArray[np.float32], state: NDArray[np.float32] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Distributions [B, K], actions in the environment's numbers and, with a critic, values [B], by name.

        A recurrent policy takes its state [B, S], none where an episode begins, and gives the next one.
        """
        given = {OBSERVATIONS: observations}
        if self.metadata.is_recurrent:
            given[STATE] = self.no_state(len(observations)) if state is None else state
        return dict(zip(self._names, self._run(self._names, given), strict=True))

    def no_state(self, batch: int) -> NDArray[np.float32]:
        """The state [B, S] in which an episode begins."""
        return np.zeros((batch, self.metadata.state_size), np.float32)


def load_model(path: Path) -> Model:
    """Load a model; a CheckpointError where it cannot be read, or is not what `export` writes."""
    try:
        return parse_model(read_file(path, SIZE_LIMIT))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {getattr(error, 'strerror', error)}") from error


def parse_model(content: bytes) -> Model:
    """Open a model and check that it is what `export` writes; a ValueError says why it is not."""
    metadata = read_metadata(_inspect(content))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would remember one plan for each size of batch that ever came
    options.log_severity_level = 4  # our own line says what is wrong with a model
    try:  # from the bytes: without a path, nothing beside the file can be reached
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common type of their own
        raise ValueError(f"onnxruntime refuses it: {_one_line(error)}") from error
    model = Model(session, metadata)
    for batch in PROBES:
        _check_answers(model, batch)
    return model


def _inspect(content: bytes) -> dict[str, str]:
    """The metadata of a model that is whole and plain, before onnxruntime acts on what it says."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ValueError("no ONNX model") from None
    parts = list(_messages(model))
    if any(isinstance(part, onnx.TensorProto) and uses_external_data(part) for part in parts):
        raise ValueError("keeps weights in other files (external data), which are not read; export it as one file")
    if sum(isinstance(part, onnx.GraphProto) for part in parts) > 1:
        raise ValueError("has branches or loops, which no exported policy has")
    unknown = {part.domain for part in parts if isinstance(part, onnx.NodeProto)} - DOMAINS
    unknown |= {part.domain for part in parts if isinstance(part, onnx.FunctionProto)}
    if unknown:
        raise ValueError(f"has operators of the unknown domain {min(unknown)[:40]!r}; only ONNX's own are run")
    return {entry.key: entry.value for entry in model.metadata_props}


def _messages(message: Message) -> Iterator[Message]:
    """A protobuf message and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)


def _check_answers(model: Model, batch: int) -> None:
    metadata, interface = model.metadata, model.metadata.interface
    rng, size = np.random.default_rng(0), (batch, len(metadata.lowest))
    observations = rng.uniform(metadata.lowest, metadata.highest, size).astype(np.float32)
    observations[:, size[1] - interface.observation.mask :] = 1  # whatever was seen: something must be allowed
    try:
        answers = model.answer(interface.fill(observations, rng))
    except Exception as error:  # onnxruntime's own, of no common type
        raise ValueError(f"does not answer: {_one_line(error)}") from error
    found = [(array.dtype.name, array.shape) for array in answers.values()]
    kind, shape = "int64" if interface.is_whole else "float32", (batch, *interface.action_shape)
    wanted = [("float32", (batch, sum(interface.widths))), (kind, shape), *[("float32", (batch,))] * metadata.critic]
    wanted += [("float32", (batch, metadata.state_size))] * metadata.is_recurrent
    if found != wanted:
        raise ValueError(f"its answers to {batch} observations are {found}, not {wanted}")
    distributions, actions, *others = answers.values()
    if not all(np.isfinite(numbers).all() for numbers in others):
        raise ValueError("its answers are not finite")
    interface.check(distributions, actions)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
