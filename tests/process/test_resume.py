"""Going on with a run: bit for bit where that can be, with all that can continue elsewhere, or refused, and why."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run_a3c
from a3c import Config
from a3c.checkpoint import load_training
from tests.chaos.resuming import group_kills, rows, sync_kill_points
from tests.process.command import Program, run_here
from tests.process.test_saving import assert_survived
from workers import resume, train
from workers.actor_learner import annealed_learning_rate
from workers.runs.directory import lock_directory

BUDGET = 40_000
SHORT = ("--max-env-steps", BUDGET, "--target-return", 501, "--eval-episodes", 10, "--checkpoint-interval", 0.1)
NOISY = """
import os, gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Noisy(CartPoleEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=int.from_bytes(os.urandom(3)))

gymnasium.register("Noisy-v0", entry_point=Noisy, max_episode_steps=500)
"""


def interrupt(*arguments: object, run_dir: Path, environment: dict[str, str] | None = None) -> None:
    """Train until several checkpoints have been made, and press Ctrl-C."""
    with Program(*arguments, "--run-dir", run_dir, environment=environment) as program:
        program.until(lambda: len(list((run_dir / "checkpoints").glob("latest-*[0-9].json"))) > 2)
        program.until(lambda: len(rows(run_dir / "evaluations.csv")) > 1)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130, program.text


def summary(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "summary.json").read_bytes())
    return content


def pushes(run_dir: Path) -> int:
    """Of all sittings, as the counts of staleness have them."""
    return sum(int(row["pushes"]) for row in rows(run_dir / "staleness.csv"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four asynchronous workers that was interrupted; tests work on copies."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    interrupt(*SHORT, "--workers", 4, run_dir=run_dir)
    return run_dir


@pytest.fixture(scope="module")
def resumed(interrupted: Path) -> Path:
    """The same run, gone on with to the end of its budget."""
    run_dir = Path(shutil.copytree(interrupted, interrupted.parent / "resumed"))
    code, output = run_here("resume", run_dir)
    assert code == 0, output
    return run_dir


@pytest.fixture
def copied(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


# -- bit for bit ------------------------------------------------------------------------------------------------------


PPO = {"env": "Pendulum-v1", "n_steps": 16, "envs_per_worker": 2, "passes": 2}  # with statistics of what it observes


CURED = {"critic": "separate", "critic_steps": 2, "critic_memory": 0.5, "slow_critic": 0.05}


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "sync", "workers": 2},
        {"workers": 1},
        {"mode": "sync", "workers": 2, **PPO},
        {"workers": 1, "objective": "reinforce", "envs_per_worker": 2},
        {"workers": 1, "objective": "v-trace", "forced_staleness": 8},
        {"mode": "sync", "workers": 2, "objective": "a2c", **CURED},
        {"workers": 1, "objective": "natural"},
        {"mode": "sync", "workers": 2, "objective": "q", "exploration_share": 0.0},
    ],
    ids=str,
)
def test_a_run_in_two_halves_is_the_run_in_one_piece(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"seed": 3, "anneal": False, "target_return": 501.0, "eval_interval": 1000, "eval_episodes": 5}
    whole, _ = (
        train(run_dir=tmp_path / str(budget), max_env_steps=budget, dashboard="off", **options)
        for budget in (4000, 2000)
    )
    resumed = resume(tmp_path / "2000", max_env_steps=4000, dashboard="off")
    assert resumed is not None
    for name in ("state_sha256", "env_steps", "updates", "episodes"):
        assert getattr(resumed, name) == getattr(whole, name), name


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_kills_of_runs_that_repeat_themselves(tmp_path: Path) -> None:
    assert_survived(sync_kill_points(50, tmp_path, seed=1), 45)


# -- everything else continues ----------------------------------------------------------------------------------------


def test_a_run_killed_as_a_whole_keeps_every_checkpoint_that_it_announced(tmp_path: Path) -> None:
    assert_survived(group_kills(2, tmp_path), 2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_kills_of_whole_runs(tmp_path: Path) -> None:
    assert_survived(group_kills(100, tmp_path, seed=1), 100)


@pytest.mark.parametrize("workers", [4, 2])
def test_what_an_interrupted_async_run_saved_is_all_it_had(interrupted: Path, copied: Path, workers: int) -> None:
    before = summary(interrupted)
    nothing = ("--max-env-steps", before["env_steps"])  # has been made already
    code, output = run_here("resume", copied, "--workers", workers, *nothing)
    assert code == 0, output
    after = summary(copied)
    for name in ("state_sha256", "env_steps", "updates", "episodes", "staleness", "races"):
        assert after[name] == before[name], name
    assert after["advantage_magnitude"] == pytest.approx(before["advantage_magnitude"])  # added up in another order


def test_counters_best_and_clocks_of_async_go_on(interrupted: Path, resumed: Path) -> None:
    before, after = summary(interrupted), summary(resumed)
    assert after["status"] == "budget_exhausted" and after["env_steps"] >= BUDGET > before["env_steps"]
    assert after["updates"] == pushes(resumed) > before["updates"]
    assert after["episodes"] > before["episodes"]
    assert after["train_seconds"] > before["train_seconds"]
    assert after["wall_seconds"] > before["wall_seconds"]
    assert after["evaluation"]["mean"] >= before["evaluation"]["mean"]
    events = [json.loads(line) for line in (resumed / "events.jsonl").read_text().splitlines()]
    (told,) = [event["message"] for event in events if event["kind"] == "resumed"]
    assert f"{before['env_steps']:,} env steps, {before['updates']:,} updates" in told


@pytest.mark.parametrize(
    ("table", "clock", "key"), [("evaluations.csv", "seconds", "seed"), ("metrics.csv", "elapsed_seconds", "env_steps")]
)
def test_curves_of_async_go_on(interrupted: Path, resumed: Path, table: str, clock: str, key: str) -> None:
    before, after = rows(interrupted / table), rows(resumed / table)
    assert after[: len(before)] == before and len(after) > len(before)
    for name in ("env_steps", "updates"):
        values = [int(row[name]) for row in after]
        assert values == sorted(values), name
    seconds = [float(row[clock]) for row in after]
    assert seconds == sorted(set(seconds))
    if key == "seed":
        assert len({row["seed"] for row in after}) == len(after)  # no evaluation was made again


def test_the_learning_rate_goes_on_by_env_steps(interrupted: Path, resumed: Path) -> None:
    config = Config.from_options({"max_env_steps": BUDGET})
    behind = 0.05 * config.optimizer.learning_rate  # rates are those of the workers' last pulls
    added = rows(resumed / "metrics.csv")[len(rows(interrupted / "metrics.csv")) :]
    rates = [(float(row["learning_rate"]), int(row["env_steps"])) for row in added if row["learning_rate"]]
    assert rates
    for rate, env_steps in rates:
        assert rate == pytest.approx(annealed_learning_rate(config, env_steps), abs=behind)


def test_async_resumes_with_more_workers(interrupted: Path, copied: Path) -> None:
    before, workers = summary(interrupted), 6
    budget = before["env_steps"] + 3000
    code, output = run_here("resume", copied, "--workers", workers, "--max-env-steps", budget)
    assert code == 0, output
    after = summary(copied)
    assert after["workers"] == workers
    assert budget <= after["env_steps"] <= budget + workers * 2 * 48
    assert after["updates"] == pushes(copied) >= before["updates"] + 3000 / 48
    assert after["episodes"] > before["episodes"]


def test_an_environment_that_does_not_repeat_itself_goes_on_with_new_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    run_dir, noisy = tmp_path / "run", ("--mode", "sync", "--workers", 2, "--env", "noisy:Noisy-v0")
    interrupt(*SHORT, *noisy, run_dir=run_dir, environment={"PYTHONPATH": str(tmp_path)})
    before = summary(run_dir)
    code, output = run_here("resume", run_dir, "--max-env-steps", before["env_steps"] + 3000)
    assert code == 0, output
    assert "warning: an environment does not repeat itself" in output
    assert summary(run_dir)["env_steps"] >= before["env_steps"] + 3000


def test_a_damaged_latest_and_another_version_do_not_keep_a_user_from_going_on(copied: Path) -> None:
    latest = json.loads((copied / "checkpoints" / "latest.json").read_bytes())
    flip_bit(copied / "checkpoints" / latest["training_tensors"]["file"])
    edit(copied, lambda content: content["versions"].update(torch="1.0"))
    earlier = load_training(copied)[0].manifest["env_steps"]
    assert earlier < latest["env_steps"]
    code, output = run_here("resume", copied, "--any-version", "--max-env-steps", latest["env_steps"])
    assert code == 0, output
    assert f"skipped a damaged checkpoint: {copied}" in output
    assert f"from {earlier:,} env steps" in output
    assert max(int(row["updates"]) for row in rows(copied / "evaluations.csv")) <= summary(copied)["updates"]


# -- nothing to do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed_before_its_summary", [False, True])
def test_a_solved_run_has_nothing_to_do(
    solved_run: tuple[Path, str, dict[str, Any]], tmp_path: Path, killed_before_its_summary: bool
) -> None:
    run_dir = Path(shutil.copytree(solved_run[0], tmp_path / "run"))
    if killed_before_its_summary:
        (run_dir / "summary.json").unlink()
    before = contents(run_dir)
    code, output = run_here("resume", run_dir)
    assert (code, output.count("\n")) == (0, 1) and "nothing to do" in output and "is solved" in output
    assert contents(run_dir) == before


def test_a_spent_budget_is_nothing_to_do_unless_there_is_more(resumed: Path) -> None:
    before = contents(resumed)
    code, output = run_here("resume", resumed)
    assert (code, output.count("\n")) == (0, 1) and "nothing to do" in output and "--max-env-steps" in output
    assert contents(resumed) == before
    code, output = run_here("resume", resumed, "--max-env-steps", BUDGET + 3000)
    assert code == 0 and summary(resumed)["env_steps"] >= BUDGET + 3000, output


# -- refused ----------------------------------------------------------------------------------------------------------


def contents(run_dir: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def edit(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit config.json as a user would."""
    content = json.loads((run_dir / "config.json").read_bytes())
    change(content)
    (run_dir / "config.json").write_text(json.dumps(content))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Resume inside this process, to be told in one line why not; no file may change."""
    run_dir = Path(str(arguments[0]))
    before = contents(run_dir)
    assert run_a3c.main(["resume", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith("\n")
    assert contents(run_dir) == before
    *_, line = lines = printed.err.splitlines()
    assert len(lines) == 1 or all("skipped a damaged checkpoint" in other for other in lines[:-1]), lines
    return line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda content: content["options"].update(env="Acrobot-v1"),
            [
                "env_id was 'CartPole-v1' and is 'Acrobot-v1'",
                "action_space was {'space': 'Discrete', 'n': 2, 'start': 0} and is {'space': 'Discrete', 'n': 3",
                "observation_space was",
            ],
        ),
        (lambda content: content["options"].update(max_episode_steps=99), ["max_episode_steps was 500 and is 99"]),
        (lambda content: content["options"].update(optimizer="rmsprop"), ["does not fit", "square_avg"]),
        (
            lambda content: content["options"].update(hidden_sizes=[64], value_scale=1.0),
            ["hidden_sizes was [128, 128] and is [64]", "value_scale was 20.0 and is 1.0"],
        ),
        (
            lambda content: content["versions"].update(torch="1.0", numpy="1.1"),
            ["torch was '1.0' and is", "numpy was '1.1' and is", "--any-version"],
        ),
    ],
    ids=["environment", "time limit", "optimizer", "network", "versions"],
)
def test_what_does_not_fit_is_refused_with_every_difference(
    copied: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    edit(copied, change)
    line = refused(capsys, 4, copied)
    for word in words:
        assert word in line


def test_a_sync_run_is_refused_another_number_of_workers(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(copied, lambda content: content["options"].update(mode="sync"))
    assert "workers: a sync run is resumed with as many as it had, 4" in refused(capsys, 2, copied, "--workers", 2)


def test_where_all_checkpoints_are_damaged_nothing_is_begun(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (copied / "checkpoints").glob("latest*"):
        flip_bit(path)
    assert "every checkpoint is damaged" in refused(capsys, 4, copied)


def test_without_a_checkpoint_nothing_is_begun(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (copied / "checkpoints").iterdir():
        path.unlink()
    assert "there is no checkpoint yet" in refused(capsys, 4, copied)


def test_a_run_in_use_is_refused_and_names_who_uses_it(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = lock_directory(copied, "run_dir")
    try:
        assert f"is in use by process {os.getpid()}" in refused(capsys, 2, copied)
    finally:
        lock.close()


NO_CONFIGURATIONS = [None, b"", b"{", b"[]", b'{"options": {"workers": "four"}}', b'{"options": 1}', b"\xff"]


@pytest.mark.parametrize("content", NO_CONFIGURATIONS)
def test_a_directory_without_a_whole_configuration_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is None:
        (copied / "config.json").unlink()
    else:
        (copied / "config.json").write_bytes(content)
    assert str(copied / "config.json") in refused(capsys, 4, copied)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such run directory" in refused(capsys, 4, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
