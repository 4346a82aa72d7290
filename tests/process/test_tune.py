"""`tune`: a search that ends with a setting, is resumed where it was, and leaves nothing behind."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from a3c import Config
from tests.process.command import COMMAND, FOREVER, Program, run_here
from workers.tuning.search import FIRST_SEED, Plan, made, open_study
from workers.tuning.space import SPACE, first, searched
from workers.tuning.trials import Outcome

TASK = ("--env", "CartPole-v1", "--target-return", 30, "--eval-episodes", 5, "--max-env-steps", 4000, "--workers", 1)
SMALL = ("tune", *TASK, "--seeds", 1, "--confirm", 1, "--jobs", 2, "--dashboard", "off")
TYPED = {"env": "CartPole-v1", "target_return": 30.0, "eval_episodes": 5, "max_env_steps": 4000, "workers": 1}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a small search, and what it said."""
    path = tmp_path_factory.mktemp("tuned") / "search"
    code, output = run_here(*SMALL, "--trials", 2, "--tune-dir", path)
    assert code == 0, output
    return path, output


def test_it_ends_with_a_setting_as_a_command_and_as_a_preset_confirmed_on_fresh_seeds(tuned: tuple[Path, str]) -> None:
    path, output = tuned
    ((name, preset),) = json.loads((path / "preset.json").read_text()).items()
    assert name == "CartPole-v1"
    options = {**preset["options"], "env": name, "preset": "none"}
    config = Config.from_options(options)
    assert f"--learning-rate {config.optimizer.learning_rate:g}" in output or config.optimizer.learning_rate == 1e-3
    assert preset["seeds"] == "tuned on 1000 to 1000, measured on 0 to 0"
    assert preset["figure"] in output and " of 1 solved" in preset["figure"]
    runs = {run.name for run in (path / "runs").iterdir() if run.is_dir()}
    assert runs == {*(f"{number}-seed-{FIRST_SEED}" for number in range(2)), "confirm-tuned-0", "confirm-untuned-0"}
    used = json.loads((path / "runs" / "confirm-tuned-0" / "config.json").read_text())["options"]
    assert Config.from_options(used) == Config.from_options({**options, "seed": 0, **TYPED})


def test_the_defaults_are_the_first_trial_and_what_is_typed_is_in_every_one(tuned: tuple[Path, str]) -> None:
    path, _ = tuned
    used = json.loads((path / "runs" / f"0-seed-{FIRST_SEED}" / "config.json").read_text())["options"]
    assert Config.from_options(used) == Config.from_options({"preset": "none", **TYPED, "seed": FIRST_SEED})


def test_the_same_command_makes_nothing_anew_and_more_trials_are_added(tuned: tuple[Path, str]) -> None:
    path, output = tuned
    code, again = run_here(*SMALL, "--trials", 2, "--tune-dir", path)
    assert code == 0 and "trial" not in again.partition("on fresh seeds")[0]
    assert again.partition("on fresh seeds")[2] == output.partition("on fresh seeds")[2]


def test_another_search_in_its_directory_is_refused_with_the_difference(tuned: tuple[Path, str]) -> None:
    path, _ = tuned
    code, output = run_here(*SMALL, "--gamma", 0.9, "--trials", 2, "--tune-dir", path)
    assert code == 2
    assert "is of another search: options were" in output and len(output.splitlines()) == 1


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "trials.sqlite").write_text("no database")
    code, output = run_here(*SMALL, "--tune-dir", tmp_path)
    assert code == 4
    assert output.startswith(f"run_a3c.py: error: {tmp_path / 'trials.sqlite'}") and len(output.splitlines()) == 1


def refused() -> Iterator[tuple[tuple[object, ...], str]]:
    yield ("tune", "--env", "CartPol-v1"), "did you mean CartPole-v1"
    yield ("tune", "--seed", 3), "seed: is the search's own"
    yield ("tune", "--eval-episodes", 0), "eval_episodes: a search needs evaluations"
    yield ("tune", "--trials", 0), "trials: must be at least 1"
    yield ("tune", "--gama", 0.9), "did you mean --gamma"


def test_bad_input_is_one_line() -> None:
    for arguments, said in refused():
        code, output = run_here(*arguments)
        assert code == 2 and said in output and len(output.splitlines()) == 1, output


def test_a_missing_extra_is_one_line_with_the_command_that_installs_it() -> None:
    hide = "import sys; sys.modules['optuna'] = None; import importlib.util as u; found = u.find_spec; "
    hide += "u.find_spec = lambda name, *more: None if name == 'optuna' else found(name, *more); "
    command = [sys.executable, "-c", hide + "sys.argv[0] = 'run_a3c.py'; import run_a3c; run_a3c.command_line()"]
    with Program("tune", command=command) as program:
        assert program.wait(30) == 2
        assert program.text.strip().endswith('pip install -c constraints.txt -e ".[tune]"')


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGTERM, signal.SIGKILL))]
)
def test_a_search_that_is_stopped_leaves_no_process_and_makes_its_trial_again(number: int, tmp_path: Path) -> None:
    words = ("tune", "--env", "CartPole-v1", *FOREVER, "--workers", 1, "--jobs", 1, "--trials", 2)
    with Program(*words, "--tune-dir", tmp_path, command=COMMAND) as program:
        program.until(lambda: (tmp_path / "runs" / f"0-seed-{FIRST_SEED}" / "evaluations.csv").exists())
        program.note_family()
        code, output = run_here(*words, "--tune-dir", tmp_path)
        assert code == 2 and f"tune_dir: '{tmp_path}'" in output  # one at a time
        program.process.send_signal(number)
        assert program.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
        assert number == signal.SIGKILL or "kept    0 of 2 trials" in program.text
        _, alive = psutil.wait_procs(program.family, timeout=20)
        assert not alive
    typed: dict[str, Any] = {"env": "CartPole-v1", "target_return": 1e9, "max_env_steps": 10**9, "workers": 1}
    study = open_study(tmp_path, Plan(typed, 1e9, 10**9, 2, 5, 2, 1))
    assert made(study) == []
    assert study.ask().params == {} and study.trials[-1].system_attrs["fixed_params"] == first(typed)


def test_a_score_rises_with_the_return_up_to_the_target_and_then_with_the_speed() -> None:
    failed, poor, good = (
        Outcome("failed", None, 0, 0.0),
        Outcome("budget", -400, 100, 1.0),
        Outcome("budget", -99, 100, 1),
    )
    late, soon = Outcome("solved", -90.0, 80, 1.0), Outcome("solved", -95.0, 20, 1.0)
    scores = [outcome.score(-100, 100) for outcome in (failed, poor, good, late, soon)]
    assert scores == sorted(scores)
    assert scores[1:] == pytest.approx([-400, -100, -80, -20])
    assert Outcome("budget", 7.0, 100, 1.0).score(None, 100) == 7.0


def test_the_defaults_are_within_the_space_and_ppos_options_belong_to_ppo() -> None:
    for name, value in first({}).items():
        values = SPACE[name]
        assert value in values if isinstance(values, tuple) else values.low <= value <= values.high, name
    assert set(SPACE) - set(searched({"objective": "a2c", "gamma": 0.9})) == {"clip", "passes", "minibatches", "gamma"}


@pytest.mark.long
def test_a_search_whose_first_trials_all_fail_ends_and_says_why(tmp_path: Path) -> None:
    words = ("tune", "--env", "tests.process.spaces_to_train:AllForbidden", "--target-return", 9, "--max-restarts", 0)
    code, output = run_here(*words, "--workers", 1, "--jobs", 2, "--tune-dir", tmp_path, "--dashboard", "off")
    assert code == 2
    assert "the first 3 trials failed" in output and "action_mask allows no action" in output.splitlines()[-1]
