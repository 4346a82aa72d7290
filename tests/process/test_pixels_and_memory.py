"""Policies that see images and policies that remember, as a user trains, resumes, watches, exports and serves them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a3c import load_policy
from a3c.actors import Policy
from a3c.environments import describe
from tests.process.command import run_here
from tests.process.http_client import ServerProgram
from workers import resume, train
from workers.playing.evaluating import evaluate_checkpoint
from workers.runs.records import Summary
from workers.serving import verify

NO_VELOCITY, SPOT = "a3c.masked:CartPoleNoVel", "tests.process.spaces_to_train:Spot"
REMEMBERS: dict[str, Any] = {"env": NO_VELOCITY, "recurrent": "lstm", "recurrent_size": 16, "hidden_sizes": [16]}


def trained(run_dir: Path, **options: Any) -> Summary:
    nothing: dict[str, Any] = {"dashboard": "off", "eval_episodes": 0, "seed": 2, "max_env_steps": 4000}
    return train(run_dir=run_dir, **{**nothing, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"recurrent": "gru", "objective": "a2c", "burn_in": 8, "preset": "none"},
        {"objective": "ppo", "minibatches": 2, "passes": 2, "preset": "none"},
    ],
)
def test_a_recurrent_run_in_sync_resumes_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    given = REMEMBERS | options | {"mode": "sync", "workers": 2, "anneal": False, "n_steps": 32, "envs_per_worker": 2}
    whole = trained(tmp_path / "whole", **given)
    trained(tmp_path / "parts", **given, max_env_steps=1500)
    resumed = resume(tmp_path / "parts", max_env_steps=4000, dashboard="off")
    assert resumed is not None
    assert resumed.env_steps == whole.env_steps
    assert resumed.state_sha256 == whole.state_sha256


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProgram, Policy, Path]]:
    folder = tmp_path_factory.mktemp("remembering") / "run"
    trained(folder, **REMEMBERS, workers=1, max_env_steps=12_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "OBSERVATIONS_CHECKED", 600)
        code, output = run_here("export", folder, "--episodes", 20, "--with-critic")
    assert code == 0, output
    assert "100.00 %" in output
    with ServerProgram(folder / "policy.onnx") as server:
        yield server, load_policy(folder), folder


def test_a_session_acts_as_the_policy_that_remembers_does(remembering: tuple[ServerProgram, Policy, Path]) -> None:
    server, policy, _ = remembering
    rng = np.random.default_rng(0)
    sessions: list[dict[str, Any]] = [{}, {}]  # two that take turns
    policies = [policy, load_policy(remembering[2])]
    probabilities = []
    for _ in range(6):
        for index, own in enumerate(policies):
            observation = rng.normal(0, 0.1, 2).astype(np.float32)
            status, answer = server.act({"observation": observation.tolist(), **sessions[index]})
            assert status == 200, answer
            sessions[index] = {"session": answer["session"]}
            wanted = own.probabilities(observation[None])[0]
            np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-5)
            probabilities.append(wanted)
    assert np.ptp(probabilities, 0).max() > 1e-4
    assert sessions[0] != sessions[1]
    assert server.metric("a3c_sessions") >= 2


def test_a_session_that_is_none_or_of_another_size_is_refused(remembering: tuple[ServerProgram, Policy, Path]) -> None:
    server = remembering[0]
    status, answer = server.act({"observations": [[0, 0], [0, 0]]})
    assert status == 200
    session = answer["session"]
    for body, code, words in (
        ({"observation": [0, 0], "session": "gone"}, 410, "session: unknown, or ended"),
        ({"observation": [0, 0], "session": session}, 422, "session: is of 2 observations, got 1"),
        ({"observation": [0, 0], "session": 3}, 400, "session: expected the text"),
    ):
        status, answer = server.act(body)
        assert (status, words in answer["error"]) == (code, True), answer
    schema = server.ask("GET", "/openapi.json")[1]["components"]["schemas"]
    assert "session" in schema["One"]["properties"]
    assert "session" in schema["ManyAnswers"]["required"]


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeing") / "run"
    options = {"env": SPOT, "convolution": "residual", "workers": 1, "target_return": 9.5, "eval_episodes": 20}
    summary = train(run_dir=folder, dashboard="off", seed=1, max_env_steps=60_000, learning_rate=2e-3, **options)
    assert summary.status == "solved", summary
    return folder


def test_images_beside_numbers_are_learned_from_and_exported(seeing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate_checkpoint(seeing, episodes=20, seed=5)["mean"] >= 9
    monkeypatch.setattr(verify, "IMAGES_CHECKED", 60)
    code, output = run_here("export", seeing, "--episodes", 5, "--int8")
    assert code == 0, output
    assert "100.00 %" in output
    with ServerProgram(seeing / "policy.onnx") as server:
        for place in (3, 15):
            eye = np.zeros((24, 20, 3), int)
            eye[:, place] = 255
            assert server.act({"observation": {"eye": eye.tolist(), "side": [0]}})[1]["action"] == (place >= 10)


def test_a_film_shows_what_the_network_sees(seeing: Path, tmp_path: Path) -> None:
    sizes = []
    for name, options in (("own", ()), ("seen", ("--observation",))):
        film = tmp_path / f"{name}.gif"
        code, output = run_here("play", seeing, "--episodes", 1, "--record", film, *options)
        assert code == 0, output
        with Image.open(film) as picture:
            sizes.append(picture.size)
    assert sizes == [(20, 24), (160, 192)]
    code, output = run_here("play", seeing, "--episodes", 1, "--render", "text")
    assert code == 0, output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--recurrent-size", 8), "recurrent_size: needs a core that remembers"),
        (("--env", SPOT, "--convolution", "nature"), "images of 24 x 20, too small for the convolution 'nature'"),
        (("--device", "cuda"), "device: torch finds no GPU here"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[Any, ...], line: str) -> None:
    code, error = run_here(*words)
    assert (code, error.count("\n")) == (2, 1), error
    assert line in error


def test_a_game_is_trained_and_evaluated_for_its_true_score(tmp_path: Path) -> None:
    given = {"env": "ALE/Breakout-v5", "preset": "none", "workers": 1, "envs_per_worker": 4, "n_steps": 16}
    summary = trained(tmp_path, **given, minibatches=2, max_env_steps=400, max_episode_steps=50)
    assert summary.updates > 4
    found = evaluate_checkpoint(tmp_path, episodes=2, seed=0)
    assert found["mean"] == int(found["mean"] * 2) / 2
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["environment"]["env_id"] == "ALE/Breakout-v5"
    assert describe("ALE/Breakout-v5").target(None) is None
