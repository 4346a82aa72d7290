"""The trial of an environment: what would stop every worker is one line that names the call; nothing else changes."""

import os
import re
import time
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Box, Discrete

from a3c.config import ConfigError
from a3c.environments import describe
from a3c.evaluation import evaluate
from a3c.serial import SerialEnvironments
from tests.unit.scripted_environments import Endless, register, scripted

CARTPOLE = "gymnasium.envs.classic_control:CartPoleEnv"


class Odd(gymnasium.Env[Any, Any]):
    """Two numbers and two actions; those below are odd in one way each."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2), 0.0, False, False, {}


class LeavesWhenMade(Odd):
    def __init__(self) -> None:
        raise SystemExit("no display")


class NeedsAnArgument(Odd):
    def __init__(self, size: int) -> None:
        pass


class OldReset(Odd):
    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(2), {}


class ResetsToAnObservation(Odd):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2)


class ResetsToNothing(Odd):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        pass


class OldStep(Odd):
    def step(self, action: Any) -> Any:
        return np.zeros(2), 0.0, False, {}


class StepsToNothing(Odd):
    def step(self, action: Any) -> Any:
        pass


class PaysAnArray(Odd):
    def step(self, action: Any) -> Any:
        return np.zeros(2), np.zeros(1), False, False, {}


class AsksForGradients(Odd):
    def step(self, action: Any) -> Any:
        return torch.zeros(2, requires_grad=True), 0.0, False, False, {}


class LosesItsLicence(Odd):
    def step(self, action: Any) -> Any:
        raise RuntimeError("no licence\n  found")


class Stops(Odd):
    def step(self, action: Any) -> Any:
        class Stop(BaseException):
            pass

        raise Stop("the simulator stops")


class Mute(Odd):
    def step(self, action: Any) -> Any:
        class UnspeakableError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise UnspeakableError


class TooLarge(Odd):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.array([1e300, 0.0]), {}


class NoSpaces(gymnasium.Env[Any, Any]):
    pass


class Blind(Odd):
    observation_space = Box(-1, 1, (0,))


FAULTS = {  # what is said of each
    LeavesWhenMade: "fails in its constructor: SystemExit: no display",
    NeedsAnArgument: "fails in its constructor: TypeError: NeedsAnArgument.__init__() missing 1 required",
    NoSpaces: "fails in its constructor: AttributeError",
    Blind: "observes Box(0,)",
    OldReset: "fails in reset: TypeError: OldReset.reset() got an unexpected keyword argument 'seed'; reset is called",
    ResetsToAnObservation: "fails in reset: reset must return the two values (observation, info)",
    ResetsToNothing: "fails in reset: reset must return the two values (observation, info)",
    TooLarge: "fails in reset: observation that is not finite in 32 bits: [inf, 0.0]",
    OldStep: "fails in step: .*step must return the five values",
    StepsToNothing: "fails in step: .*step must return the five values",
    PaysAnArray: "fails in step: reward of shape (1,), expected ()",
    AsksForGradients: "fails in step: RuntimeError: Can't call numpy() on Tensor that requires grad",
    LosesItsLicence: "fails in step: RuntimeError: no licence found",
    Stops: "fails in step: Stop: the simulator stops",
    Mute: "fails in step: UnspeakableError",
}


@pytest.mark.parametrize("limit", [None, 9], ids=["no limit", "limit"])  # Gymnasium's wrapper for it is another caller
def test_a_fault_is_one_line_that_names_environment_call_and_cause(limit: int | None) -> None:
    for fault, complaint in FAULTS.items():
        env_id = register(fault, max_episode_steps=limit)
        with pytest.raises(ConfigError) as refusal:
            describe(env_id)
        pattern = re.escape(f"env: '{env_id}' {complaint}").replace(r"\.\*", ".*")
        assert re.match(pattern, str(refusal.value))
        assert "\n" not in str(refusal.value)


def test_ctrl_c_is_no_fault() -> None:
    class Interrupted(Odd):
        def step(self, action: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(register(Interrupted))


class Tensors(Odd):
    """Returns what torch has, and no info."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return torch.zeros(2), None

    def step(self, action: Any) -> Any:
        return torch.zeros(2), torch.tensor(1.0), torch.tensor(False), torch.tensor(False), None


class EndsAtOnce(Odd):
    def step(self, action: Any) -> Any:
        return np.zeros(2), 0.0, True, True, {}


class CannotBeClosed(Odd):
    def close(self) -> None:
        raise RuntimeError("not connected")


@pytest.mark.parametrize("kind", [Tensors, EndsAtOnce, CannotBeClosed])
def test_what_training_takes_passes_the_trial(kind: type) -> None:
    assert scripted(kind).observation.shape == (2,)


class Meddler(Odd):
    """A simulator that takes the process for its own."""

    def __init__(self) -> None:
        os.chdir("/")
        np.seterr(all="raise")
        warnings.simplefilter("error")
        torch.set_default_dtype(torch.float64)


def test_the_process_is_as_it_was_after_a_trial() -> None:
    before = os.getcwd(), np.geterr(), list(warnings.filters), torch.get_default_dtype()
    try:
        describe(register(Meddler))
        assert (os.getcwd(), np.geterr(), list(warnings.filters), torch.get_default_dtype()) == before
    finally:
        os.chdir(before[0])
        torch.set_default_dtype(before[3])


def test_an_environments_arithmetic_is_its_own() -> None:
    """Elsewhere it may change the folder, which it may need; numbers are ours as well."""
    environment, before, folder = scripted(Meddler), (np.geterr(), list(warnings.filters)), os.getcwd()
    try:
        environment.make(2).reset(seed=0)
        assert (np.geterr(), list(warnings.filters)) == before
    finally:
        os.chdir(folder)
        torch.set_default_dtype(torch.float32)


class Slow(Odd):
    def __init__(self) -> None:
        time.sleep(0.03)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        time.sleep(0.02)
        return super().reset()

    def step(self, action: Any) -> Any:
        time.sleep(0.01)
        return super().step(action)


def test_the_pace_of_each_call_is_measured() -> None:
    pace = scripted(Slow).pace
    assert pace.make_seconds >= 0.03 and pace.reset_seconds >= 0.02 and pace.step_seconds >= 0.01


def test_nobody_has_measured_the_default_environment() -> None:
    assert describe("CartPole-v1").pace == describe(register(Slow), step=False).pace
    assert describe("CartPole-v1").pace.make_seconds == 0


def test_without_a_step_nothing_is_reset() -> None:
    assert describe(register(LosesItsLicence), step=False).head.outputs == 2


class AlteredVector(CartPoleVectorEnv):
    def step(self, action: Any) -> Any:
        observations, _, *rest = super().step(action)
        return observations, np.ones(1), *rest


class OtherVector(CartPoleVectorEnv):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.single_action_space = Discrete(3)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (AlteredVector, "fails in step of its vector version: rewards of shape (1,), expected (2,)"),
        ("no_such_module:Vector", "fails in the constructor of its vector version: ModuleNotFoundError"),
    ],
)
def test_a_vector_version_is_tried_too(vector: Any, words: str) -> None:
    with pytest.raises(ConfigError, match="vector version") as refusal:
        describe(register(CARTPOLE, max_episode_steps=9, vector_entry_point=vector))
    assert words in str(refusal.value)


def test_a_vector_version_with_other_spaces_is_not_used() -> None:
    assert not describe(register(CARTPOLE, max_episode_steps=9, vector_entry_point=OtherVector)).native


class Unchanged(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    def __init__(self, env: Any) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)


def test_a_vector_version_is_not_used_past_wrappers() -> None:
    env_id = register(CARTPOLE, max_episode_steps=9, vector_entry_point=CartPoleVectorEnv)
    spec = gymnasium.spec(env_id)
    spec.additional_wrappers = Unchanged(gymnasium.make(env_id)).spec.additional_wrappers[-1:]  # type: ignore[union-attr]
    environment = describe(env_id)
    assert not environment.native
    assert isinstance(environment.make(3), SerialEnvironments)
    result = evaluate(lambda observations: observations[:, :2].argmax(-1), environment, 12, seed=0)
    assert result is not None and len(result.returns) == 12


def test_every_environment_made_and_reset_is_a_sign_of_life() -> None:
    beats: list[None] = []
    environments = scripted(Endless).make(3, lambda: beats.append(None))
    assert len(beats) == 3
    environments.reset(seed=0)
    assert len(beats) == 6


def test_environments_are_closed_where_the_making_of_more_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, closed, beats = scripted(Endless), [], []
    monkeypatch.setattr(Endless, "close", lambda self: closed.append(self))

    def beat() -> None:
        beats.append(None)
        if len(beats) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        environment.make(5, beat)
    assert len(closed) == 2


def test_environments_that_cannot_be_closed_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    scripted(CannotBeClosed).make(3).close()
    assert capsys.readouterr().err == "close() of 3 environments failed: RuntimeError: not connected\n"
