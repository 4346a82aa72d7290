"""`python run_a3c.py --workers 4` and what it leaves behind."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from a3c import Config, load_policy
from tests.process.command import COMMAND, ESCAPE, Program, run, run_here

SolvedRun = tuple[Path, str, dict[str, Any]]


def test_the_default_command_solves_cartpole_and_verifies_it_with_fresh_seeds(solved_run: SolvedRun) -> None:
    _, output, summary = solved_run
    assert summary["status"] == "solved"
    assert summary["evaluation"]["mean"] >= 475
    assert summary["evaluation"]["episodes"] == 100
    assert summary["evaluation"]["verification"]
    assert 0 < summary["solved_env_steps"] <= summary["env_steps"] <= Config().max_env_steps
    assert 0 < summary["solved_seconds"] <= summary["train_seconds"] < summary["wall_seconds"]
    assert "solved" in output.splitlines()[-1] or "solved" in output
    assert summary["checkpoint"] in output.replace("\n", "")


def test_the_run_directory_holds_the_promised_files(solved_run: SolvedRun) -> None:
    run_dir, _, summary = solved_run
    names = {path.name for path in run_dir.iterdir()}
    files = {"config.json", "metrics.csv", "evaluations.csv", "events.jsonl", "summary.json", "staleness.csv"}
    assert names == {*files, "checkpoints", "logs"}
    logs = {path.name for path in (run_dir / "logs").iterdir()}
    assert logs == {*(f"worker-{i}.log" for i in range(4)), "monitor.log", "checkpointer.log", "forkserver.log"}
    options = json.loads((run_dir / "config.json").read_text())["options"]
    assert Config.from_options(options) == Config.from_options({"workers": 4})
    evaluations = list(csv.DictReader((run_dir / "evaluations.csv").open()))
    verified = [row for row in evaluations if row["verification"] == "True"]
    assert float(verified[-1]["mean"]) == summary["evaluation"]["mean"]
    events = [json.loads(line)["kind"] for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert events[0] == "started"
    assert events[-1] == "stopped"
    metrics = list(csv.DictReader((run_dir / "metrics.csv").open()))
    assert int(metrics[-1]["env_steps"]) == summary["env_steps"]
    assert not list(run_dir.rglob("*.tmp"))


def test_best_is_the_verified_snapshot_and_weighs_what_its_manifest_says(solved_run: SolvedRun) -> None:
    run_dir, _, summary = solved_run
    manifest = json.loads((run_dir / summary["checkpoint"]).read_text())
    assert manifest["evaluation"]["mean"] == summary["evaluation"]["mean"]
    assert manifest["env_steps"] == summary["solved_env_steps"]
    assert manifest["consistent"]
    weights = safetensors.numpy.load_file(run_dir / "checkpoints" / manifest["weights"]["file"])
    assert sum(array.size for array in weights.values()) == 17_539


def test_piped_output_is_plain_lines(solved_run: SolvedRun) -> None:
    _, output, _ = solved_run
    with_codes, _ = ESCAPE.subn("", output)
    assert with_codes == output
    assert "\r" not in output
    assert "env steps" in output


def test_evaluate_repeats_the_verified_evaluation_exactly(solved_run: SolvedRun) -> None:
    run_dir, _, summary = solved_run
    seed = summary["evaluation"]["seed"]
    code, output = run_here("evaluate", run_dir, "--episodes", 100, "--seed", seed, "--json")
    assert code == 0, output
    result = json.loads(output)
    assert {name: result[name] for name in ("mean", "std", "min", "max", "episodes", "seed")} == {
        name: summary["evaluation"][name] for name in ("mean", "std", "min", "max", "episodes", "seed")
    }


def test_evaluate_takes_a_checkpoint_as_well_as_a_run(solved_run: SolvedRun) -> None:
    run_dir, _, _ = solved_run
    for path in (run_dir / "checkpoints" / "latest.json", run_dir / "checkpoints"):
        code, output = run_here("evaluate", path, "--episodes", 3)
        assert code == 0, output
        assert "over 3 greedy episodes" in output


def test_load_policy_acts_greedily_on_a_numpy_batch(solved_run: SolvedRun) -> None:
    policy = load_policy(solved_run[0])
    observations = np.random.default_rng(0).standard_normal((7, 4))
    actions = policy(observations)
    assert actions.shape == (7,)
    assert np.array_equal(actions, policy.probabilities(observations).argmax(-1))
    assert np.array_equal(actions, policy(observations))


@pytest.fixture(scope="module")
def colourless(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A run with the default settings that has ended, in a terminal whose user wants no colours."""
    run_dir = tmp_path_factory.mktemp("colourless") / "run"
    with Program("--run-dir", run_dir, size=(80, 24), environment={"NO_COLOR": "1"}) as program:
        assert program.wait() == 0
    return program


def test_in_a_terminal_the_console_is_live_and_leaves_the_cursor_visible(colourless: Program) -> None:
    output = colourless.output
    assert "\x1b[?25l" in output  # hidden while drawing
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "solved" in colourless.text
    assert "CartPole-v1" in colourless.text


def test_a_user_who_wants_no_colours_gets_none(colourless: Program) -> None:
    assert not [code for code in ESCAPE.findall(colourless.output) if code.endswith("m") and "3" in code]


def test_a_terminal_without_a_cursor_gets_plain_lines(tmp_path: Path) -> None:
    arguments = ("--run-dir", tmp_path / "run", "--max-env-steps", 2000, "--workers", 1)
    with Program(*arguments, size=(80, 24), environment={"TERM": "dumb"}) as program:
        assert program.wait() == 0
    assert "\x1b" not in program.output


def test_a_spent_budget_is_a_finished_run_with_a_last_evaluation(tmp_path: Path) -> None:
    budget = ("--max-env-steps", 3000, "--target-return", 501)  # 501 is more than an episode can give
    code, output = run_here(*budget, "--workers", 2, "--run-dir", tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert code == 0
    assert summary["status"] == "budget_exhausted"
    assert summary["env_steps"] >= 3000
    evaluations = list(csv.DictReader((tmp_path / "run" / "evaluations.csv").open()))
    assert int(evaluations[-1]["updates"]) == summary["updates"]
    assert (tmp_path / "run" / summary["checkpoint"]).exists()
    assert "not solved" in output


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 7, "optimizer": "rmsprop", "normalize_advantages": True, "max_episode_steps": 20},
        {"env": "Acrobot-v1", "envs_per_worker": 3, "gradients": "autograd", "hidden_sizes": [32], "anneal": False},
    ],
    ids=str,
)
def test_options_reach_the_workers(tmp_path: Path, options: dict[str, Any]) -> None:
    run_dir = tmp_path / "run"
    options = {"workers": 2, "max_env_steps": 2000, "eval_episodes": 5, "target_return": 501.0, **options}
    code, output = run_here(*flags(options), "--run-dir", run_dir)
    assert code == 0, output
    summary = json.loads((run_dir / "summary.json").read_text())
    used = json.loads((run_dir / "config.json").read_text())["options"]
    assert {name: used[name] for name in options} == options
    rollout = used["n_steps"] * used["envs_per_worker"]
    assert 2000 <= summary["env_steps"] <= 2000 + 2 * rollout
    each = used["passes"] * used["minibatches"] if used["objective"] == "ppo" else 1
    assert rollout * 0.8 < summary["env_steps"] / summary["updates"] * each <= rollout
    best = json.loads((run_dir / "checkpoints" / "best.json").read_text())
    assert best["network"]["hidden_sizes"] == used["hidden_sizes"]
    assert best["evaluation"]["max"] <= (used["max_episode_steps"] or 500)


def flags(options: dict[str, Any]) -> list[object]:
    """Options by name as a command line."""
    arguments: list[object] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            arguments += [flag, *(value if isinstance(value, list) else [value])]
    return arguments


def test_the_same_run_can_be_had_from_python_without_a_main_file(tmp_path: Path) -> None:
    script = (
        "import sys; from workers import train;"
        "summary = train(workers=2, max_env_steps=1000, target_return=501.0, run_dir=sys.argv[1], dashboard='off');"
        "print('status', summary.status)"
    )
    code, output = run("-c", script, tmp_path / "run", command=COMMAND[:1])
    assert code == 0, output
    assert "status budget_exhausted" in output


def test_the_output_can_be_cut_off_by_its_reader(tmp_path: Path) -> None:
    shell = f"{COMMAND[0]} run_a3c.py --workers 1 --max-env-steps 1000 --run-dir {tmp_path / 'run'} | head -1"
    code, output = run("-c", shell, command=["sh"])
    assert code == 0
    assert "Traceback" not in output
    assert "Broken pipe" not in output
