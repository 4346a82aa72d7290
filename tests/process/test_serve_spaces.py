"""`export` and `serve` of policies of every kind of space: observations and actions as JSON, masks, the page's form."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a3c.actors import Policy
from a3c.checkpoint import load_policy, save_checkpoint
from a3c.config import Config, LossConfig
from a3c.environments import describe
from a3c.networks import build, initialize
from a3c.serial import SerialEnvironments
from tests.process.chromium import BROWSER, Chromium
from tests.process.command import run_here
from tests.process.http_client import ServerProgram
from tests.process.test_serve_openapi import ask_all
from workers.serving import verify

MODULE = "tests.process.spaces_to_train"
KINDS = {"Mixed": f"{MODULE}:Mixed", "Masked": f"{MODULE}:Masked", "InfoMasked": f"{MODULE}:InfoMasked"}


def exported(name: str, folder: Path) -> tuple[Path, Policy]:
    """The file of a policy that is far from uniform, and the policy."""
    environment = describe(KINDS[name])
    model = build(Config(loss=LossConfig(value_scale=1.0)), environment)
    initialize(model, 0)
    model.policy_head.weight.data *= 100
    (folder / "checkpoints").mkdir()
    about = {**environment.identity(), "updates": 7, "target_return": None}
    save_checkpoint(folder / "checkpoints", "best", model, about)
    code, output = run_here("export", folder, "--episodes", 2, "--int8", "--with-critic")
    assert code == 0, output
    assert "100.00 %" in output
    return folder / "policy.onnx", load_policy(folder)


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "OBSERVATIONS_CHECKED", 300)
        path, policy = exported(request.param, tmp_path_factory.mktemp(request.param))
    with ServerProgram(path) as server:
        yield request.param, server, policy


def as_json(value: Any) -> Any:
    """An observation or action as a client would send it."""
    if isinstance(value, dict):
        return {name: as_json(part) for name, part in value.items()}
    return [as_json(part) for part in value] if isinstance(value, tuple) else np.asarray(value).tolist()


def episode(name: str, policy: Policy) -> Iterator[tuple[Any, Any]]:
    """Observations of greedy play as JSON, and what the policy does; the environment refuses what is not allowed."""
    environment = describe(KINDS[name]).make_one()
    observation, info = environment.reset(seed=1)
    environments = SerialEnvironments([environment], observation=policy.observation)
    for _ in range(15):
        row = np.zeros((1, *policy.observation.shape), np.float32)
        environments._observe(0, observation, info)
        row[:] = environments._observations
        (action,) = policy(row)
        sent = as_json(observation)
        yield ({"observation": sent, "action_mask": as_json(info["action_mask"])} if info else sent), as_json(action)
        observation, _, terminated, truncated, info = environment.step(action)
        if terminated or truncated:
            observation, info = environment.reset()


def test_an_observation_in_its_own_form_gets_the_policys_action_in_its_own(served: Any) -> None:
    name, server, policy = served
    sent, wanted = zip(*episode(name, policy), strict=True)
    status, answer = server.act({"observations": sent})
    assert status == 200, answer
    for observation, action, given in zip(sent, wanted, answer["actions"], strict=True):
        assert json.dumps(given).count(",") == json.dumps(action).count(",")
        one = server.act({"observation": observation})[1]["action"]
        assert same(one, action) and same(given, action)


def same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(same(given[name], wanted[name]) for name in wanted)
    return bool(np.shape(given) == np.shape(wanted) and np.allclose(given, wanted, atol=1e-4))


def test_what_is_no_observation_is_refused_with_its_part(served: Any) -> None:
    name, server, _ = served
    refused = {
        "Mixed": {
            "[]": "expected a list of 3 parts",
            '[4, [0, 0], {"x": 0}]': "observation[0] 4 outside of its space",
            '[true, [0, 0], {"x": 0}]': "observation[0]: expected whole numbers alone",
            '[1, [0, 0.5], {"x": 0}]': "observation[1]: expected whole numbers alone",
            '[1, [0, 1e400], {"x": 0}]': "observation[1]: expected whole numbers of at most",
            '[1, [0], {"x": 0}]': "observation[1]: expected a list of 2",
            '[1, [0, 0], {"x": "0"}]': "observation[2]['x']: expected numbers alone",
            '[1, [0, 0], {"y": 0}]': "observation[2]: expected an object of x",
        },
        "Masked": {
            "[0, 0]": "expected an object of board, action_mask",
            '{"board": [0, 0], "action_mask": [0, 0, 0, 0]}': "action_mask allows no action",
            '{"board": [0, 0], "action_mask": [0, 2, 0, 0]}': "of numbers other than 0 and 1",
        },
        "InfoMasked": {
            "2": "expected an object of observation, action_mask",
            '{"observation": 2, "action_mask": [0, 0, 0, 0]}': "action_mask allows no action",
        },
    }[name]
    for sent, said in refused.items():
        status, answer = server.act(f'{{"observation": {sent}}}'.encode())
        assert status == (422 if "no action" in said else 400) and said in answer["error"], (sent, answer)
        assert answer["error"].isprintable()


def test_every_answer_is_as_its_description_says(served: Any, tmp_path: Path) -> None:
    ask_all(served[1], 25, tmp_path)


def test_the_description_is_of_these_spaces_and_its_example_is_answered(served: Any) -> None:
    name, server, _ = served
    schemas = server.ask("GET", "/openapi.json")[1]["components"]["schemas"]
    status, answer = server.act(schemas["One"]["example"])
    assert status == 200, answer
    action = schemas["Action"]
    if name == "Mixed":
        assert set(answer) == {"action", "distribution", "value"} == set(schemas["OneAnswer"]["properties"])
        assert list(action["properties"]) == ["switch", "level", "keys"]
        assert action["properties"]["switch"] == {"type": "integer", "minimum": -1, "maximum": 0}
    else:
        assert (action["minimum"], action["maximum"]) == (0, 3)
        assert len(answer["probabilities"]) == 4


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, so the page of `serve` IS NOT TESTED")
def test_the_page_has_a_control_for_each_number_and_shows_the_answer(served: Any, tmp_path: Path) -> None:
    name, server, _ = served
    with Chromium(tmp_path) as page:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.until("document.querySelectorAll('.chosen').length > 0")
        assert page.value("document.querySelectorAll('#form input').length") == {"Mixed": 4, "Masked": 6}.get(name, 5)
        rows = page.value("[...document.querySelectorAll('.choice')].map((row) => row.textContent)")
        assert len(rows) == (5 if name == "Mixed" else 4)
        if name == "Mixed":
            assert rows[2].startswith("level[0]") and "±" in rows[2]
        else:
            page.value(
                "document.querySelectorAll('#form input[type=checkbox]').forEach((box, i) => box.checked = i === 2)"
            )
            page.value("element('form').dispatchEvent(new Event('input'))")
            page.until("document.querySelector('.chosen span').textContent === 'action 2'")
            assert page.value("document.querySelectorAll('.choice output')[0].textContent") == "0.0 %"
        assert page.value("element('trouble').hidden")
        assert not page.complaints
