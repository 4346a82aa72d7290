"""A policy as an ONNX graph, and the same graph with weights of 8 bits. Needs the packages of the extra `export`."""

import itertools
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from a3c.networks import ActorCritic
from workers.serving.metadata import Metadata

OPSET = 18  # the one that torch's exporter is written in, so that nothing has to be converted


class ServedPolicy(nn.Module):
    """An actor-critic as its consumers see it: distributions [B, K], their best actions and, if wanted, values [B]; of
    a recurrent one the next state [B, S] too.
    """

    def __init__(self, model: ActorCritic, critic: bool):
        super().__init__()
        self.model, self.critic = model, critic

    def forward(self, observations: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        answer = self.model(observations) if state is None else self.model.step(observations, state)
        parameters, values, *following = answer
        return (*self.model.head.answer(parameters), *([values] * self.critic), *following)


def policy_graph(model: ActorCritic, metadata: Metadata) -> ModelProto:
    """The graph in 32 bits, for batches of any size."""
    # Two rows: one would be taken for a constant. Ones: a mask allows something.
    examples = [torch.ones(2, *model.observation.shape, dtype=torch.float32, device="cpu")]
    if metadata.is_recurrent:
        examples.append(torch.zeros(2, metadata.state_size, dtype=torch.float32, device="cpu"))
    with _quiet():
        program = torch.onnx.export(
            ServedPolicy(model, metadata.critic).eval(),
            tuple(examples),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(metadata.inputs),
            output_names=list(metadata.outputs),
            dynamic_shapes=({0: "batch"},) * len(examples),
        )
    assert program is not None  # it is with dynamo=False
    return _bare(program.model_proto)


def int8_graph(graph: ModelProto) -> ModelProto:
    """The same graph with weights and activations of 8 bits, but for the first layer (docs/decisions/0016)."""
    # By the name that its product has once the quantiser has split it into a MatMul and an Add.
    layers = (node for node in graph.graph.node if node.op_type == "Gemm")
    first = [f"{node.name}_MatMul" for node in itertools.islice(layers, 1)]
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            graph,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # weights up to 64: two products then fit into 16 bits, in which older x86 adds them
            nodes_to_exclude=first,
        )
        return _bare(onnx.load(path))


def serialize(graph: ModelProto, metadata: Metadata) -> bytes:
    """The finished file's content: the graph with its metadata, in one piece."""
    onnx.helper.set_model_props(graph, metadata.entries())
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _bare(model: ModelProto) -> ModelProto:
    """Without what the tools note down: stack traces with this machine's paths, shapes from before a transposition."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks that torch's exporter and the quantiser make to their developers."""
    silent, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(silent)  # without one, `logging.warning` would give the root one for good
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(silent)
