"""`python run_a3c.py compare`: a study from the command line, to its report, stopped half-way and resumed."""

import contextlib
import csv
import io
import json
import re
import shlex
import signal
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

import workers
from a3c import Config
from tests.process.command import ESCAPE, ROOT, Program, run_here
from workers.comparison.lost_updates import measure_lost_updates
from workers.comparison.results import Comparison
from workers.processes.preflight import describe_environment
from workers.processes.start import start_forkserver

# Nothing is learnt in so few steps; what is tested here is everything around it.
SHORT = ("--max-env-steps", "2000", "--eval-episodes", "5", "--workers", "2", "--n-steps", "16")
RESULTS = {
    "study.json",
    "forkserver.log",
    "runs",
    "runs.csv",
    "comparison.json",
    "lost_updates.json",
    "figures",
    "report.html",
}
HIDE = "import sys; sys.modules.update(matplotlib=None, scipy=None); sys.argv[0] = 'run_a3c.py'; "
WITHOUT_EXTRA = [sys.executable, "-c", HIDE + "import run_a3c; run_a3c.command_line()"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory and the output of a small finished study."""
    path = tmp_path_factory.mktemp("compare") / "study"
    code, output = run_here(
        "compare", "--modes", "async", "sync", "locked", "--seeds", "2", *SHORT, "--study-dir", path
    )
    assert code == 0, output
    return path, output


def test_a_study_leaves_its_results_and_ordinary_run_directories(study: tuple[Path, str]) -> None:
    path, _ = study
    assert {entry.name for entry in path.iterdir()} | {"forkserver.log"} == RESULTS  # this process may have had one
    runs = sorted(entry.name for entry in (path / "runs").iterdir())
    assert runs == [f"{mode}-seed-{seed}" for mode in ("async", "locked", "sync") for seed in (0, 1)]
    for name in runs:
        mode, _, seed = name.partition("-seed-")
        options = json.loads((path / "runs" / name / "config.json").read_text())["options"]
        expected = Config.from_options(
            {"mode": mode, "seed": int(seed), "max_env_steps": 2000, "eval_episodes": 5, "workers": 2, "n_steps": 16}
        )
        assert Config.from_options(options) == expected
    code, output = run_here("evaluate", path / "runs" / "async-seed-0", "--episodes", "2")
    assert code == 0, output


def test_the_results_hold_every_run_and_every_arm(study: tuple[Path, str]) -> None:
    path, output = study
    rows = list(csv.DictReader((path / "runs.csv").open()))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (mode, str(seed)) for mode in ("async", "sync", "locked") for seed in (0, 1)
    ]
    for row in rows:
        summary = json.loads((path / row["run"] / "summary.json").read_text())
        assert row["state_sha256"] == summary["state_sha256"]
    comparison = json.loads((path / "comparison.json").read_text())
    arms = {arm["name"]: arm for arm in comparison["arms"]}
    assert list(arms) == ["async", "sync", "locked"]
    assert all(arm["runs"] == 2 for arm in arms.values())
    assert arms["sync"]["staleness_max"] == 0 < arms["async"]["staleness_max"]
    assert arms["sync"]["lost_updates"]["lost"] == arms["locked"]["lost_updates"]["lost"] == 0
    assert [contrast["arm"] for contrast in comparison["contrasts"]] == ["sync", "locked"]
    for name in arms:
        assert name in output
    assert comparison["findings"]


def test_runs_are_made_one_at_a_time_and_interleaved(study: tuple[Path, str]) -> None:
    path, output = study
    order = [line.split("] ")[1].split(":")[0] for line in output.splitlines() if line.startswith("[")]
    assert order == ["async seed 0", "sync seed 0", "locked seed 0", "sync seed 1", "locked seed 1", "async seed 1"]
    spans = []
    for name in (entry for entry in (path / "runs").iterdir()):
        written = [file.stat().st_mtime for file in name.iterdir()]
        spans.append((min(written), max(written)))
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_piped_output_is_plain(study: tuple[Path, str]) -> None:
    assert ESCAPE.search(study[1]) is None


def test_the_report_is_one_file_that_needs_no_network(study: tuple[Path, str]) -> None:
    page = (study[0] / "report.html").read_text()
    assert page.count("<svg") + page.count("data:image") >= 2
    for word in ('src="http', "url(http", "<script", "<link"):
        assert word not in page


def test_a_finished_study_is_reported_again_without_a_run(study: tuple[Path, str]) -> None:
    path, first = study
    before = {entry: (entry / "summary.json").stat().st_mtime_ns for entry in (path / "runs").iterdir()}
    arguments = ("--modes", "async", "sync", "locked", "--seeds", "2", *SHORT, "--study-dir", path)
    code, output = run_here("compare", *arguments)
    assert code == 0
    assert before == {entry: (entry / "summary.json").stat().st_mtime_ns for entry in (path / "runs").iterdir()}
    assert output.strip().splitlines()[-8:] == first.strip().splitlines()[-8:]


def test_another_study_in_its_directory_is_refused_in_one_line(study: tuple[Path, str]) -> None:
    code, output = run_here("compare", "--modes", "async", "sync", "--study-dir", study[0])
    assert code == 2
    assert len(output.splitlines()) == 1
    assert "holds another study" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--modes", "async"), "nothing to compare"),
        (("--modes", "async", "sink"), "mode: must be one of async, locked, sync"),
        (("--workers", "2", "2"), "given twice"),
        (("--seeds", "0"), "seeds: must be at least 1"),
        (("--hidden-sizes", "64,x", "8"), "argument --hidden-sizes: must be values joined by commas"),
        (("--anneal", "perhaps", "no"), "argument --anneal: must be yes or no"),
        (("--preset", "a2c-tutrial"), "preset: unknown preset 'a2c-tutrial'; did you mean a2c-tutorial?"),
    ],
)
def test_bad_input_is_answered_in_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    code, output = run_here("compare", *arguments, "--study-dir", tmp_path / "study")
    assert code == 2
    assert len(output.splitlines()) == 1
    assert words in output
    assert not (tmp_path / "study").exists()


@dataclass(frozen=True, slots=True)
class Resumed:
    """A study whose command was killed in the first run, interrupted in a later one, and let finish in a terminal."""

    path: Path
    was_unfinished: bool  # the first run, when the first command had been killed
    kept: tuple[int, int]  # when the first run ended, as of the second and of the third command
    interrupted: Program
    was_compared: bool  # when the second command had been interrupted
    finished: Program


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    path = tmp_path_factory.mktemp("resumed") / "study"
    arguments = ("compare", "--modes", "async", "sync", "--seeds", "2", *SHORT, "--study-dir", path)
    first = path / "runs" / "async-seed-0" / "summary.json"
    with Program(*arguments) as killed:
        killed.until_training(first.parent)
        killed.process.kill()
        killed.wait()
        killed.assert_nobody_left()
    was_unfinished = not first.exists()
    with Program(*arguments) as interrupted:
        interrupted.until(first.exists)
        interrupted.until(lambda: bool(interrupted.workers()))
        interrupted.note_family()
        interrupted.process.send_signal(signal.SIGINT)
        assert interrupted.wait() == 130, interrupted.text
        interrupted.assert_nobody_left()
    ended, was_compared = first.stat().st_mtime_ns, (path / "comparison.json").exists()
    with Program(*arguments, size=(200, 50), command=WITHOUT_EXTRA) as finished:
        assert finished.wait() == 0, finished.text
    return Resumed(path, was_unfinished, (ended, first.stat().st_mtime_ns), interrupted, was_compared, finished)


def test_a_run_that_was_killed_is_made_again(resumed: Resumed) -> None:
    assert resumed.was_unfinished
    assert len(list(csv.DictReader((resumed.path / "runs.csv").open()))) == 4


def test_a_study_interrupted_by_ctrl_c_resumes_where_it_stopped(resumed: Resumed) -> None:
    text, typed = resumed.interrupted.text, resumed.interrupted.process.args
    assert f"  kept    1 of 4 runs, in {resumed.path}" in text
    assert isinstance(typed, list)
    assert shlex.split(text.rpartition("  resume  ")[2].splitlines()[0])[-len(typed) + 2 :] == typed[2:]
    assert not resumed.was_compared
    assert len(set(resumed.kept)) == 1
    assert (resumed.path / "comparison.json").exists()


def test_the_live_study_gives_the_terminal_back(resumed: Resumed) -> None:
    output = resumed.finished.output
    assert "\x1b[?25l" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")


def test_without_the_report_extra_the_tables_are_there_and_a_line_says_what_is_missing(resumed: Resumed) -> None:
    assert '.[report]"' in resumed.finished.text
    assert {entry.name for entry in resumed.path.iterdir()} == RESULTS - {"figures", "report.html"}


def test_a_study_ends_where_the_environment_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken_environment.py"
    broken.write_text(
        "import gymnasium\n"
        "class Broken(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    steps = 0\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        self.steps += 1\n"
        "        if self.steps > 3:  # later than anybody looks before the start\n"
        "            raise RuntimeError('the arm fell off')\n"
        "        return self.observation_space.sample(), 1.0, False, False, {}\n"
        "gymnasium.register('Broken-v0', 'broken_environment:Broken', max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ("--modes", "async", "sync", "--seeds", "1", "--max-restarts", "0", "--study-dir", tmp_path / "study")
    code, output = run_here("compare", *arguments, "--env", "broken_environment:Broken-v0")
    assert code == 3
    assert "the arm fell off" in output
    *_, why, logs, kept, resume = output.splitlines()
    told = r"async seed 0 failed: \S+ died: RuntimeError: the arm fell off, in step of .*, line \d+; .*--max-restarts\)"
    assert re.fullmatch(told, why)
    assert logs == f"  logs    {tmp_path}/study/runs/async-seed-0/logs"
    assert kept == f"  kept    0 of 2 runs, in {tmp_path}/study"
    assert resume.startswith("  resume  ")


def compare_diverging(path: Path) -> tuple[Comparison | None, str]:
    """Make a study one of whose arms diverges, from Python; what it returned, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        comparison = workers.compare(
            learning_rate=[0.004, 1e30],
            workers=2,
            seeds=1,
            max_env_steps=1000,
            eval_episodes=5,
            study_dir=path,
            dashboard="off",
        )
    return comparison, output.getvalue()


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison | None, str]:
    """The study with an arm that diverges, when it has been made: its directory, and what `compare_diverging` says."""
    path = tmp_path_factory.mktemp("diverged") / "study"
    return path, *compare_diverging(path)


def test_a_comparison_is_one_import_away(diverged: tuple[Path, Comparison | None, str]) -> None:
    _, comparison, output = diverged
    assert comparison is not None
    assert [arm.name for arm in comparison.arms] == ["learning_rate 0.004", "learning_rate 1e+30"]
    assert "learning_rate 0.004" in output


def test_a_run_whose_numbers_diverge_counts_as_one_that_never_got_there(
    diverged: tuple[Path, Comparison | None, str],
) -> None:
    path, _, _ = diverged
    rows = {row["arm"]: row for row in csv.DictReader((path / "runs.csv").open())}
    assert rows["learning_rate 1e+30"]["status"] == "failed"
    assert "gradients that are not finite" in rows["learning_rate 1e+30"]["reason"]
    arms = {arm["name"]: arm for arm in json.loads((path / "comparison.json").read_text())["arms"]}
    assert arms["learning_rate 1e+30"]["env_steps"]["censored"] == 1


def test_a_run_that_diverged_is_an_outcome_and_is_not_made_again(diverged: tuple[Path, Comparison | None, str]) -> None:
    path, comparison, _ = diverged
    summary = path / "runs" / "learning_rate-1e+30-seed-0" / "summary.json"
    assert json.loads(summary.read_text())["exit_code"] == 5
    before = summary.stat().st_mtime_ns
    again, output = compare_diverging(path)
    assert again == comparison or repr(again) == repr(comparison)
    assert summary.stat().st_mtime_ns == before
    assert "1 of 1 run of learning_rate 1e+30 diverged" in " ".join(output.split())


def test_a_study_from_python_says_how_to_call_it_again(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import workers\n"
        "if __name__ == '__main__':\n"
        "    workers.compare(mode=['async', 'sync'], workers=1, seeds=1, env_latency_ms=2.0,\n"
        "                    study_dir='my study', dashboard='off')\n"
    )
    command, variables = [sys.executable, str(tmp_path / "slow.py")], {"PYTHONPATH": str(ROOT)}
    with Program(command=command, cwd=tmp_path, environment=variables) as program:
        program.until(lambda: bool(program.workers()))
        program.process.send_signal(signal.SIGINT)
        program.wait()
    call = "workers.compare(mode=['async', 'sync'], workers=1, env_latency_ms=2.0, seeds=1, study_dir='my study')"
    assert f"  resume  {call}\n" in program.text


@pytest.mark.parametrize(("mode", "workers_", "loses"), [("async", 4, True), ("locked", 4, False), ("sync", 3, False)])
def test_what_pushes_lose_is_counted_exactly(tmp_path: Path, mode: str, workers_: int, loses: bool) -> None:
    config = Config.from_options({"mode": mode, "workers": workers_, "n_steps": 1, "hidden_sizes": (256, 256)})
    start_forkserver()
    lost = measure_lost_updates(config, describe_environment(config), tmp_path, seconds=0.4)
    assert lost.updates > 20
    if loses:  # on one core as on many: a push is interrupted, too
        assert 0 < lost.lost < 0.5
        assert 0 < lost.overlapped <= 1
    else:
        assert lost.lost == lost.overlapped == 0
    assert (lost.torn == 0) == (mode == "sync")


def test_a_slow_environment_sleeps_and_its_evaluation_does_not(tmp_path: Path) -> None:
    summary = workers.train(
        run_dir=tmp_path / "run",
        dashboard="off",
        env_latency_ms=400.0,
        workers=8,
        n_steps=1,
        max_env_steps=8,
        eval_episodes=5,
    )
    assert 0.4 <= summary.train_seconds < 0.4 * summary.env_steps  # asleep side by side, not one after the other
    assert summary.evaluation is not None and summary.evaluation.mean >= 8
    assert summary.wall_seconds < 0.4 * 5 * 8  # five episodes of no fewer than eight steps


def test_training_is_logged_at_every_tenth_update(tmp_path: Path) -> None:
    code, output = run_here(
        "--preset",
        "a2c-tutorial",
        "--envs-per-worker",
        "1",
        "--max-env-steps",
        "3000",
        "--run-dir",
        tmp_path / "r",
        "--seed",
        "1",
        "--dashboard",
        "off",
    )
    assert code == 0, output
    rows = list(csv.DictReader((tmp_path / "r" / "updates.csv").open()))
    assert [int(row["updates"]) for row in rows] == list(range(10, 10 * len(rows) + 1, 10))
    assert len(rows) >= 3000 // (2 * 5) // 10 - 1
    assert float(rows[-1]["mean_return"]) > 0
    assert json.loads((tmp_path / "r" / "config.json").read_text())["options"]["mode"] == "sync"


@pytest.mark.long
def test_several_environments_are_a_study_of_each_and_are_not_held_against_each_other(tmp_path: Path) -> None:
    words = ("compare", "--env", "CartPole-v1", "Acrobot-v1", "--seeds", "1", *SHORT, "--study-dir", tmp_path / "both")
    code, output = run_here(*words)
    assert code == 0, output
    with (tmp_path / "both" / "environments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    arms = [("CartPole-v1", "async"), ("CartPole-v1", "sync"), ("Acrobot-v1", "async"), ("Acrobot-v1", "sync")]
    assert [(row["environment"], row["arm"]) for row in rows] == arms
    assert [row["target"] for row in rows] == ["475", "475", "-100", "-100"]
    assert [bool(row["sooner"]) for row in rows] == [False, True, False, True]
    for env in ("CartPole-v1", "Acrobot-v1"):
        results = json.loads((tmp_path / "both" / env / "comparison.json").read_text())
        assert {contrast["reference"] for contrast in results["contrasts"]} == {"async"}
        config = json.loads((tmp_path / "both" / env / "runs" / "sync-seed-0" / "config.json").read_text())
        assert config["options"]["preset"] == env
    again, said = run_here(*words)
    assert again == 0 and "seed 0" not in said  # every run was there


def test_an_unknown_one_of_several_environments_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    code, output = run_here("compare", "--env", "CartPole-v1", "Acrobo-v1", *SHORT, "--study-dir", tmp_path / "both")
    assert code == 2
    assert "did you mean Acrobot-v1" in output and len(output.splitlines()) == 1
    assert not (tmp_path / "both").exists()
