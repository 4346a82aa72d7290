"""`python run_a3c.py compare`: a study from the command line, to its report, stopped half-way and gone on with."""

import csv
import json
import signal
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import workers
from a3c import Config
from tests.process.command import ESCAPE, Program, run
from workers.comparison.ledger import measure_lost_updates
from workers.launch import start_forkserver
from workers.session import describe_environment

# Nothing is learnt in so few steps; what is tested here is everything around it.
SHORT = ("--max-env-steps", "2000", "--eval-episodes", "5", "--workers", "2", "--n-steps", "16")
RESULTS = {"study.json", "runs", "runs.csv", "comparison.json", "lost_updates.json", "figures", "report.html"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory and the output of a small finished study."""
    path = tmp_path_factory.mktemp("compare") / "study"
    code, output = run("compare", "--modes", "async", "sync", "locked", "--seeds", "2", *SHORT, "--study-dir", path)
    assert code == 0, output
    return path, output


def test_a_study_leaves_its_results_and_ordinary_run_directories(study: tuple[Path, str]) -> None:
    path, _ = study
    assert {entry.name for entry in path.iterdir()} == RESULTS
    runs = sorted(entry.name for entry in (path / "runs").iterdir())
    assert runs == [f"{mode}-seed-{seed}" for mode in ("async", "locked", "sync") for seed in (0, 1)]
    for name in runs:
        mode, _, seed = name.partition("-seed-")
        options = json.loads((path / "runs" / name / "config.json").read_text())["options"]
        expected = Config.from_options({"mode": mode, "seed": int(seed), "max_env_steps": 2000, "eval_episodes": 5,
                                        "workers": 2, "n_steps": 16})  # fmt: skip
        assert Config.from_options(options) == expected
    code, output = run("evaluate", path / "runs" / "async-seed-0", "--episodes", "2")
    assert code == 0, output


def test_the_results_tell_every_run_and_every_arm(study: tuple[Path, str]) -> None:
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


def test_the_report_is_one_file_that_needs_no_network(study: tuple[Path, str]) -> None:
    page = (study[0] / "report.html").read_text()
    assert page.count("<svg") + page.count("data:image") >= 2
    for word in ('src="http', "url(http", "<script", "<link"):
        assert word not in page


def test_a_finished_study_is_told_again_without_a_run(study: tuple[Path, str]) -> None:
    path, first = study
    before = {entry: (entry / "summary.json").stat().st_mtime_ns for entry in (path / "runs").iterdir()}
    code, output = run("compare", "--modes", "async", "sync", "locked", "--seeds", "2", *SHORT, "--study-dir", path)
    assert code == 0
    assert before == {entry: (entry / "summary.json").stat().st_mtime_ns for entry in (path / "runs").iterdir()}
    assert output.strip().splitlines()[-8:] == first.strip().splitlines()[-8:]


def test_another_study_in_its_directory_is_refused_in_one_line(study: tuple[Path, str]) -> None:
    code, output = run("compare", "--modes", "async", "sync", "--study-dir", study[0])
    assert code == 2
    assert len(output.splitlines()) == 1
    assert "holds another study" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--modes", "async"), "nothing to compare"),
        (("--modes", "async", "sink"), "mode: must be one of async, locked, sync"),
        (("--workers", "2", "2"), "given twice"),
        (("--seeds", "0"), "--seeds: must be at least 1"),
        (("--hidden-sizes", "64,x", "8"), "--hidden-sizes: must be layer sizes joined by commas"),
        (("--anneal", "perhaps", "no"), "--anneal: must be yes or no"),
        (("--preset", "a2c-tutrial"), "--preset: invalid choice"),
    ],
)
def test_bad_input_is_answered_in_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    code, output = run("compare", *arguments, "--study-dir", tmp_path / "study")
    assert code == 2
    assert len(output.splitlines()) == 1
    assert words in output
    assert not (tmp_path / "study").exists()


def test_a_study_interrupted_by_ctrl_c_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "study"
    arguments = ("compare", "--modes", "async", "sync", "--seeds", "2", *SHORT, "--study-dir", path)
    with Program(*arguments) as program:
        program.until(lambda: (path / "runs" / "async-seed-0" / "summary.json").exists())
        program.until(lambda: bool(program.workers()))
        program.note_family()
        program.process.send_signal(signal.SIGINT)
        assert program.wait(30) == 130
        program.assert_nobody_left()
        assert "the same command goes on from here" in program.text
    kept = path / "runs" / "async-seed-0" / "summary.json"
    before = kept.stat().st_mtime_ns
    assert not (path / "comparison.json").exists()
    code, output = run(*arguments)
    assert code == 0, output
    assert kept.stat().st_mtime_ns == before
    assert len(list(csv.DictReader((path / "runs.csv").open()))) == 4


def test_a_run_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "study"
    arguments = ("compare", "--workers", "1", "2", "--seeds", "1", "--study-dir", path, *SHORT[:4])
    with Program(*arguments) as program:
        program.until_training(path / "runs" / "1-worker-seed-0")
        program.process.kill()
        program.wait(30)
        program.assert_nobody_left()
    code, output = run(*arguments)
    assert code == 0, output
    assert len(list(csv.DictReader((path / "runs.csv").open()))) == 2


def test_a_study_ends_where_the_environment_fails(tmp_path: Path) -> None:
    broken = tmp_path / "broken_environment.py"
    broken.write_text(
        "import gymnasium\n"
        "class Broken(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        raise RuntimeError('the arm fell off')\n"
        "gymnasium.register('Broken-v0', 'broken_environment:Broken', max_episode_steps=9)\n"
    )
    code, output = run("compare", "--modes", "async", "sync", "--seeds", "1", "--env", "broken_environment:Broken-v0",
                       "--study-dir", tmp_path / "study", environment={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert code == 3
    assert "the arm fell off" in output
    assert "async-seed-0 failed; 0 of 2 runs are kept" in output.replace("\n", " ")


def test_a_run_whose_numbers_diverge_counts_as_one_that_never_got_there(tmp_path: Path) -> None:
    path = tmp_path / "study"
    code, output = run("compare", "--learning-rate", "0.004", "1e30", "--seeds", "1", *SHORT, "--study-dir", path)
    assert code == 0, output
    rows = {row["arm"]: row for row in csv.DictReader((path / "runs.csv").open())}
    assert rows["learning_rate 1e+30"]["status"] == "failed"
    assert "gradients that are not finite" in rows["learning_rate 1e+30"]["reason"]
    arms = {arm["name"]: arm for arm in json.loads((path / "comparison.json").read_text())["arms"]}
    assert arms["learning_rate 1e+30"]["env_steps"]["censored"] == 1


def test_the_live_study_gives_the_terminal_back(tmp_path: Path) -> None:
    arguments = ("compare", "--modes", "async", "sync", "--seeds", "1", *SHORT, "--study-dir", tmp_path / "study")
    with Program(*arguments, size=(100, 40)) as program:
        assert program.wait(60) == 0
        assert "\x1b[?25l" in program.output
        assert program.output.rindex("\x1b[?25h") > program.output.rindex("\x1b[?25l")
    piped = run(*arguments)[1]
    assert ESCAPE.search(piped) is None


def test_without_the_report_extra_the_tables_are_there_and_a_line_says_what_is_missing(tmp_path: Path) -> None:
    hide = "import sys; sys.modules.update(matplotlib=None, scipy=None); sys.argv[0] = 'run_a3c.py'; "
    command = [sys.executable, "-c", hide + "import run_a3c; run_a3c.command_line()"]
    path = tmp_path / "study"
    code, output = run(
        "compare", "--workers", "1", "2", "--seeds", "1", *SHORT[:4], "--study-dir", path, command=command
    )
    assert code == 0, output
    assert '.[report]"' in output
    assert {entry.name for entry in path.iterdir()} == RESULTS - {"figures", "report.html"}


def test_a_comparison_is_one_import_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = workers.compare(gamma=[0.9, 0.99], workers=2, seeds=1, max_env_steps=1000, eval_episodes=5,
                                 study_dir=tmp_path / "study", dashboard="off")  # fmt: skip
    assert comparison is not None
    assert [arm.name for arm in comparison.arms] == ["gamma 0.9", "gamma 0.99"]
    assert "gamma 0.99" in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "workers_", "loses"), [("async", 4, True), ("locked", 4, False), ("sync", 3, False)])
def test_what_pushes_lose_is_counted_exactly(tmp_path: Path, mode: str, workers_: int, loses: bool) -> None:
    config = Config.from_options({"mode": mode, "workers": workers_, "n_steps": 1, "hidden_sizes": (256, 256)})
    start_forkserver()
    lost = measure_lost_updates(config, describe_environment(config), tmp_path, seconds=1.0)
    assert lost.updates > 20
    if loses:  # on one core as on many: a push is interrupted, too
        assert 0 < lost.lost < 0.5
        assert 0 < lost.overlapped <= 1
    else:
        assert lost.lost == lost.overlapped == 0
    assert (lost.torn == 0) == (mode == "sync")


def test_a_slow_environment_sleeps_and_its_evaluation_does_not(tmp_path: Path) -> None:
    summary = workers.train(run_dir=tmp_path / "run", dashboard="off", env_latency_ms=5.0, workers=8, n_steps=8,
                            max_env_steps=1600, eval_episodes=50)  # fmt: skip
    assert summary.train_seconds >= 1.0  # 200 steps each of 5 ms
    assert summary.steps_per_second > 800  # eight asleep at once: at most 1,600, one after the other 200
    assert summary.wall_seconds < 20


def test_training_is_logged_at_every_tenth_update(tmp_path: Path) -> None:
    code, output = run("--preset", "a2c-tutorial", "--envs-per-worker", "1", "--max-env-steps", "3000", "--run-dir",
                       tmp_path / "r", "--seed", "1", "--dashboard", "off")  # fmt: skip
    assert code == 0, output
    rows = list(csv.DictReader((tmp_path / "r" / "updates.csv").open()))
    assert [int(row["updates"]) for row in rows] == list(range(10, 10 * len(rows) + 1, 10))
    assert len(rows) >= 3000 // (2 * 5) // 10 - 1
    assert float(rows[-1]["mean_return"]) > 0
    assert json.loads((tmp_path / "r" / "config.json").read_text())["options"]["mode"] == "sync"
