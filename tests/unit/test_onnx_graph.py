"""An exported policy: what goes into its graph, what comes out, what is in it and what is not."""

import itertools
import logging
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from a3c.actors import Policy
from a3c.heads import Categorical
from a3c.networks import ActorCritic, initialize
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP
from tests.process.command import ROOT
from tests.process.onnx_models import model_metadata
from tests.unit.networks import mlp
from tests.unit.scripted_environments import Walk, scripted
from workers.serving import verify
from workers.serving.graph import int8_graph, policy_graph, serialize
from workers.serving.metadata import Metadata
from workers.serving.model import Model, parse_model
from workers.serving.verify import TIE, Agreement, compare, real_observations

START = 5  # of the actions
SHAPES = {"deep": (6, 3, (16, 24, 8)), "wide": (4, 2, (96,))}  # observations, actions, hidden sizes
Graphs = Callable[..., ModelProto]


def trained(name: str) -> ActorCritic:
    """A network whose policy is far from uniform, as after training."""
    observations, actions, hidden_sizes = SHAPES[name]
    model = mlp(observations, actions, hidden_sizes, value_scale=20.0, action_start=START)
    initialize(model, 1)
    with torch.no_grad():
        model.policy_head.weight.mul_(300)
        for layer in (*model.trunk, model.policy_head, model.value_head):
            layer.bias.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(2))
    return model


@pytest.fixture(scope="module")
def graph() -> Graphs:
    """The graph of a network, made once: the deep one comes with the critic."""
    made: dict[tuple[str, bool], ModelProto] = {}

    def get(name: str, int8: bool = False) -> ModelProto:
        if (name, int8) not in made:
            made[name, int8] = int8_graph(get(name)) if int8 else policy_graph(trained(name), metadata(name))
        copy = ModelProto()
        copy.CopyFrom(made[name, int8])
        return copy

    return get


def metadata(name: str) -> Metadata:
    return model_metadata(*SHAPES[name][:2], critic=name == "deep", action_start=START)


def exported(name: str, graph: ModelProto) -> Model:
    return parse_model(serialize(graph, metadata(name)))


def observations(name: str, count: int = 100) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, SHAPES[name][0])).astype(np.float32)


def weights(graph: ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_inputs_and_outputs_are_those_of_the_contract(graph: Graphs, name: str, int8: bool) -> None:
    size, actions, _ = SHAPES[name]
    made = graph(name, int8).graph

    def told(values: object) -> list[tuple[str, int, list[int | str]]]:
        kinds = [(value.name, value.type.tensor_type) for value in values]  # type: ignore[attr-defined]
        return [(key, kind.elem_type, [d.dim_param or d.dim_value for d in kind.shape.dim]) for key, kind in kinds]

    critic = [("values", TensorProto.FLOAT, ["batch"])] * (name == "deep")
    assert told(made.input) == [("observations", TensorProto.FLOAT, ["batch", size])]
    assert told(made.output) == [
        ("probabilities", TensorProto.FLOAT, ["batch", actions]),
        ("actions", TensorProto.INT64, ["batch"]),
        *critic,
    ]


@pytest.mark.parametrize("batch", [1, 2, 33, 100])
@pytest.mark.parametrize("name", SHAPES)
def test_answers_are_the_policys_in_batches_of_any_size(graph: Graphs, name: str, batch: int) -> None:
    policy, asked = Policy(trained(name)), observations(name)
    answers = exported(name, graph(name)).answer(asked[:batch])
    np.testing.assert_allclose(answers["probabilities"], policy.probabilities(asked[:batch]), atol=1e-6)
    np.testing.assert_array_equal(answers["actions"], policy(asked[:batch]))
    assert batch < 100 or len(set(answers["actions"])) == SHAPES[name][1]
    assert ("values" in answers) == (name == "deep")
    if "values" in answers:
        np.testing.assert_allclose(answers["values"], policy.values(asked[:batch]), rtol=1e-4, atol=1e-5)


def test_the_critic_is_left_out_with_its_weights_unless_it_is_asked_for(graph: Graphs) -> None:
    """Sorted, for a matrix may be stored transposed."""
    for name in SHAPES:
        stored = np.concatenate([array.ravel() for array in weights(graph(name)) if array.dtype == np.float32])
        parameters = {key: value.detach().numpy().ravel() for key, value in trained(name).named_parameters()}
        head = np.concatenate([value for key, value in parameters.items() if key.startswith("value_head")])
        rest = np.concatenate([value for key, value in parameters.items() if not key.startswith("value_head")])
        if name == "deep":
            assert np.isin(head, stored).all()
        else:
            np.testing.assert_array_equal(np.sort(stored), np.sort(rest))


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_is_in_one_piece_and_of_plain_onnx(graph: Graphs, int8: bool) -> None:
    made = graph("deep", int8)
    onnx.checker.check_model(made, full_check=True)
    assert [(part.domain, part.version) for part in made.opset_import] == [("", 18)]
    assert {node.domain for node in made.graph.node} == {""}
    assert {tensor.data_location for tensor in made.graph.initializer} == {TensorProto.DEFAULT}


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_tells_nothing_of_the_machine_that_wrote_it(graph: Graphs, int8: bool) -> None:
    content = graph("deep", int8).SerializeToString()
    for path in (str(ROOT).encode(), b"site-packages", b".py"):
        assert path not in content


def test_with_8_bits_all_weight_matrices_but_the_first_are_stored_so(graph: Graphs) -> None:
    for name in SHAPES:
        sizes = [SHAPES[name][0], *SHAPES[name][2]]
        heads = [SHAPES[name][1], *([1] if name == "deep" else [])]
        small = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes[1:])] + [sizes[-1] * n for n in heads]
        arrays = weights(graph(name, int8=True))
        matrices = [array for array in arrays if array.ndim == 2]
        assert [array.size for array in matrices if array.dtype == np.float32] == [sizes[0] * sizes[1]]
        assert sorted(array.size for array in matrices if array.dtype == np.int8) == sorted(small)


def test_with_8_bits_the_first_matrix_is_not_stored_so_behind_a_normaliser_either() -> None:
    model = ActorCritic(MLP(ObservationSpec((6,)), (16, 8)), Categorical(3), normalize=True)
    initialize(model, 1)
    matrices = [
        array
        for array in weights(int8_graph(policy_graph(model, model_metadata(6, 3, critic=False))))
        if array.ndim == 2
    ]
    assert sorted((array.dtype.name, array.size) for array in matrices) == [
        ("float32", 96),
        ("int8", 24),
        ("int8", 128),
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_with_8_bits_the_answers_are_near_the_policys(graph: Graphs, name: str) -> None:
    policy, asked = Policy(trained(name)), observations(name)
    agreement = compare(exported(name, graph(name, int8=True)), policy, asked)
    assert 0 < agreement.difference < 0.2
    assert agreement.same > 90


def undecided(bias: tuple[float, float]) -> ActorCritic:
    """Logits that are `bias` whatever is observed."""
    model = mlp(2, 2, (1,), action_start=START)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.policy_head.bias.copy_(torch.tensor(bias))
    return model


def test_of_two_equal_probabilities_the_larger_logits_is_taken_and_another_choice_is_a_tie() -> None:
    asked, model = np.zeros((5, 2), np.float32), undecided((0.0, 1e-9))
    about = model_metadata(2, 2, critic=False, action_start=START)
    made = parse_model(serialize(policy_graph(model, about), about))
    answers = made.answer(asked)
    np.testing.assert_array_equal(answers["probabilities"], np.full((5, 2), 0.5))
    np.testing.assert_array_equal(answers["actions"], np.full(5, START + 1))
    for bias, counted in (((0.0, 1e-9), (5, 0, True)), ((TIE, 0.0), (0, 5, True)), ((5 * TIE, 0.0), (0, 0, False))):
        told = compare(made, Policy(undecided(bias)), asked)
        assert (told.same, told.ties, told.exact) == counted


def test_exporting_says_nothing_and_leaves_logging_as_it_was(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    int8_graph(policy_graph(trained("wide"), metadata("wide")))
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == []
    assert logging.root.isEnabledFor(logging.WARNING)


def test_another_policy_is_told_from_the_checkpoints(graph: Graphs) -> None:
    model, asked = trained("deep"), observations("deep")
    told = compare(exported("deep", graph("deep")), Policy(model), asked)
    assert told.exact
    assert (told.observations, told.same, told.ties) == (100, 100, 0)
    with torch.no_grad():
        model.value_head.bias += 1.0
    told = compare(exported("deep", graph("deep")), Policy(model), asked)
    assert told.same == 100 and told.difference < 1e-6
    assert not told.exact  # it has another value
    with torch.no_grad():
        model.policy_head.bias[1] += 1.0
    told = compare(exported("deep", graph("deep")), Policy(model), asked)
    assert told.same < 100 and told.ties == 0 and told.difference > 0.1


@pytest.mark.parametrize("difference", [2e-5, float("nan"), float("inf")])
def test_a_difference_that_is_too_large_or_no_number_is_no_agreement(difference: float) -> None:
    assert Agreement(10, 10, 0, 1e-7, 1e-7).exact
    assert not Agreement(10, 10, 0, difference, None).exact
    assert not Agreement(10, 10, 0, 1e-7, difference).exact
    assert not Agreement(10, 8, 1, 1e-7, None).exact


def test_the_observations_are_of_greedy_sampled_and_random_play_a_third_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk whose policy goes right and nearly always does so when sampled; random play goes both ways."""
    monkeypatch.setattr(verify, "OBSERVATIONS_CHECKED", 3000)
    model = mlp(1, 2, (1,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.policy_head.bias[1] = np.log(9.0)  # a tenth of the sampled steps goes left
    environment = scripted(Walk)
    seen, _ = real_observations(Policy(model), environment, seed=4)
    assert seen.shape == (3000, 1) and seen.dtype == np.float32
    greedy, sampled, uniform = seen.reshape(3, 1000)
    assert set(greedy) == {0.0, 1.0, 2.0, 3.0}
    assert 0.01 < np.mean(sampled < 0) < 0.15
    assert abs(np.mean(uniform < 0) - np.mean(uniform > 0)) < 0.15
    np.testing.assert_array_equal(seen, real_observations(Policy(model), environment, seed=4)[0])
    assert (seen != real_observations(Policy(model), environment, seed=5)[0]).any()
