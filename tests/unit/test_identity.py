"""How another process finds a run's environment: its module, or what a checkpoint keeps of it."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from a3c.config import ConfigError
from a3c.environments import describe
from tests.unit.scripted_environments import Endless, Script, register

ISLAND = """
import gymnasium
from tests.unit.scripted_environments import Endless
gymnasium.register("{id}", Endless, max_episode_steps=9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is not on sys.path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return tmp_path


def test_a_module_is_found_in_the_current_folder_and_stays_with_the_id(folder: Path) -> None:
    (folder / "near_island.py").write_text(ISLAND.format(id="NearIsland-v0"))
    environment = describe("near_island:NearIsland-v0")
    assert environment.env_id == environment.identity()["env_id"] == "near_island:NearIsland-v0"
    assert sys.path[-1] == str(folder)
    assert "env_spec" not in environment.identity()


def test_a_folder_without_the_module_does_not_stay_on_the_path(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be imported: ModuleNotFoundError: No module named 'far_island'"):
        describe("far_island:Island-v0")
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import a_simulator",
            "'broken_island' cannot be imported: ModuleNotFoundError: No module named 'a_simulator'",
        ),
        ("raise SystemExit(3)", "'broken_island' cannot be imported: SystemExit: 3"),
        ("1 +", "'broken_island' cannot be imported: SyntaxError"),
    ],
)
def test_a_module_that_fails_is_named_with_the_cause(code: str, words: str, folder: Path) -> None:
    (folder / "broken_island.py").write_text(code)
    with pytest.raises(ConfigError) as refusal:
        describe("broken_island:Island-v0")
    assert words in str(refusal.value)


def forgotten(env_id: str) -> Any:
    """What is kept of an environment that this process knows, as a file has it; it is not known any more."""
    identity = json.loads(json.dumps(describe(env_id).identity()))
    del gymnasium.registry[env_id]
    return identity.get("env_spec")


def test_an_environment_registered_by_a_program_is_found_by_what_is_kept_of_it() -> None:
    env_id = register(Script, max_episode_steps=7, rewards=[[1.0, 2.0]])
    environment = describe(env_id, kept=forgotten(env_id))
    assert (environment.env_id, environment.max_episode_steps) == (env_id, 7)
    assert environment.make_one().unwrapped.rewards == [[1.0, 2.0]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("argument", [(1, 2), float("inf"), {1}, "x" * 10**6], ids=["tuple", "inf", "set", "long"])
def test_what_would_come_back_as_something_else_is_not_kept(argument: Any) -> None:
    class Anything(Endless):
        def __init__(self, argument: Any) -> None:
            super().__init__()

    globals()["Anything"] = Anything
    Anything.__qualname__ = "Anything"
    assert forgotten(register(Anything, argument=argument)) is None


def test_nothing_is_kept_of_what_every_process_knows() -> None:
    assert set(describe("Acrobot-v1").identity()) == {"env_id", "max_episode_steps"}


@pytest.mark.parametrize("entry_point", ["os:system", "builtins:dict", "tests.unit.processes:__name__", "nowhere:Env"])
def test_only_classes_of_environments_are_made_from_what_a_file_says(entry_point: str) -> None:
    env_id = register(Endless)
    kept = forgotten(env_id) | {"entry_point": entry_point, "kwargs": {"command": "exit 1"}}
    with pytest.raises(ConfigError, match=env_id):
        describe(env_id, kept=kept)


@pytest.mark.parametrize("kept", [{}, {"id": 3}, {"additional_wrappers": [7]}])
def test_what_is_no_spec_is_refused_in_one_line(kept: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="what is kept of it") as refusal:
        describe("Forgotten-v0", kept=kept)
    assert "\n" not in str(refusal.value)


def test_differences_are_those_of_the_environment_not_of_how_it_is_found() -> None:
    environment = describe("gymnasium:Acrobot-v1")
    now = describe("Acrobot-v1").description()
    assert environment.differences(now) == []
    discrete = {"space": "Discrete", "n": 3, "start": 0}
    assert environment.differences({**now, "action_space": {**discrete, "n": 4}}) == [
        f"action_space was { ({**discrete, 'n': 4})!r} and is {discrete!r}"
    ]
    old = {name: value for name, value in now.items() if not name.endswith("_space") and name != "info_mask"}
    old |= {"observation_size": 6, "action_count": 3}  # as before spaces were kept
    assert environment.differences(old) == []
    assert environment.differences({**old, "action_count": 4}) == ["action_count was 4 and is 3"]
    assert len(environment.differences(None)) == 6


def test_only_what_a_script_itself_defines_needs_that_script(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Endless):
        pass

    assert not describe(register(Endless)).needs_main
    Own.__module__, Own.__qualname__ = "__main__", "Own"
    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    assert describe(register(Own)).needs_main
    assert describe(register("__main__:Own")).needs_main
