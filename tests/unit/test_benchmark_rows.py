"""From what the benchmarks' trials measured to rows: ratios, shares, and what counts as never."""

import csv
import json
import math
import os
import queue
import threading

import pytest

from benchmarks import bare, paper_shape, solve, stable_baselines3, vector_shape
from benchmarks.benchmark import Trial
from benchmarks.figures import Figure
from benchmarks.solve import solution_seconds, verified_seconds


def samples_of(rows):
    return {row.name: row.samples for row in rows if isinstance(row, Figure)}


def test_only_a_verified_checkpoint_counts(tmp_path):
    manifest = tmp_path / "best.json"
    assert verified_seconds(manifest, 0) is None
    for evaluation, seconds in ((None, False), ({"verification": False}, False), ({"verification": True}, True)):
        manifest.write_text(json.dumps({"evaluation": evaluation}))
        assert (verified_seconds(manifest, 0) is not None) is seconds
    assert verified_seconds(manifest, manifest.stat().st_ctime_ns - 1_500_000_000) == 1.5


def test_the_way_to_the_solution_is_counted_from_the_first_env_step_to_the_last_save_of_the_best(tmp_path):
    rows = [(0.9, 0.0), (1.5, 0.0), (1.998, 0.2), (2.3, 0.5)]  # the first step was taken at 1.8
    with open(tmp_path / "metrics.csv", "w", newline="") as file:
        csv.writer(file).writerows([("elapsed_seconds", "train_seconds"), *rows])
    events = [
        (1.9, "checkpoints/latest.json"),
        (2.0, "checkpoints/best.json"),
        (2.35, "checkpoints/best.json"),
        (2.4, "checkpoints/latest.json"),
    ]
    (tmp_path / "events.jsonl").write_text(
        "\n".join(
            json.dumps({"seconds": seconds, "kind": "checkpointed", "message": message}) for seconds, message in events
        )
    )
    assert solution_seconds(tmp_path) == 0.55


def test_a_peer_that_never_solved_counts_with_the_time_it_took_and_a_run_of_ours_as_one_that_never_got_there():
    ours = {"solved": True, "exit_seconds": 2.0, "solution_seconds": 0.5, "solved_env_steps": 10_000}
    peer = {
        "solved": True,
        "exit_seconds": 6.0,
        "solution_seconds": 3.0,
        "evaluation_seconds": 1.0,
        "env_steps": 15_000,
    }
    lost = {**peer, "solved": False, "exit_seconds": 30.0, "solution_seconds": 25.0, "env_steps": 100_000}
    never = {**ours, "solved": False, "solution_seconds": None, "solved_env_steps": None}
    trials = [Trial({}, {"ours": ours, "a2c": peer, "ppo": lost}), Trial({}, {"ours": never, "a2c": lost, "ppo": peer})]
    found = samples_of(stable_baselines3.rows(trials))
    assert found["whole process, A2C / ours"] == (3.0, 0.0)
    assert found["first env step to solution, A2C / ours"] == (6.0, 0.0)
    assert found["first env step to solution, PPO / ours"] == (50.0, 0.0)
    assert found["first env step to solution, A2C without the time of its evaluations / ours"] == (4.0, 0.0)
    assert found["A2C: env steps until solved"] == (15_000, math.inf)


def test_a_start_is_over_the_imports_that_ran_before_it_and_never_where_it_did_not_solve():
    run = {
        "solved": True,
        "best_seconds": 3.0,
        "exit_seconds": 3.5,
        "solution_seconds": 0.5,
        "solved_env_steps": 9_000,
        "import_seconds": 2.0,
    }
    rows = solve.rows([Trial({}, run), Trial({}, {**run, "solved": False, "import_seconds": 1.0})])
    found = samples_of(rows)
    assert found["prompt to verified `best` on disk / bare `import torch, gymnasium`"] == (1.5, math.inf)
    assert found["env steps until solved"] == (9_000, math.inf)
    assert rows[0].outcomes == (True, False)


def rate(steps_per_second):
    return {"steps_per_second": steps_per_second}


def test_a_share_is_of_the_bare_rate_of_the_faster_number_of_processes():
    trials = [
        Trial({}, {"async": rate(30_000), "sync": rate(15_000), "pfrl": rate(2_000), "bare": {"2": 90_000, "4": 1e5}})
    ]
    found = samples_of(paper_shape.rows(trials))
    assert found["env steps/s, paper's shape, as a share of the bare scalar environment's"] == (30.0,)
    assert found["env steps/s, paper's shape / PFRL 0.4's A3C"] == (15.0,)
    assert found["env steps/s, paper's shape, `sync` / `async`"] == (0.5,)
    assert found["env steps/s, bare scalar environment, 4 processes"] == (1e5,)


def test_ours_with_many_environments_is_the_number_of_workers_that_is_the_faster_over_all_trials():
    measured = [((1e5, 3e5), 1e6), ((3e5, 2e5), 1e6), ((1e5, 2e5), 1e6)]
    trials = [
        Trial({"workers": [2, 4]}, {"ours": {"2": rate(two), "4": rate(four)}, "bare": {"2": limit}})
        for (two, four), limit in measured
    ]
    found = samples_of(vector_shape.rows(trials))
    assert found["env steps/s, 64 envs a worker, as a share of the bare native vector environment's"] == (30, 20, 20)


class Clockwork:
    """A clock, and an environment in which a step takes a millisecond, a reset a tenth of a second."""

    def __init__(self):
        self.now, self.steps, self.resets = 0.0, 0, 0

    def perf_counter(self):
        return self.now

    def step(self, _action):
        self.now += 0.001
        self.steps += 1
        return None, 1.0, self.steps % 22 == 0, False, {}

    def reset(self, seed=None):
        self.now += 0.1
        self.resets += 1


@pytest.mark.parametrize("envs", [1, 64])
def test_the_bare_rate_is_that_of_steps_alone(envs, monkeypatch):
    clockwork = Clockwork()
    monkeypatch.setattr(bare, "time", clockwork)
    monkeypatch.setattr(bare.gymnasium, "make", lambda _: clockwork)
    monkeypatch.setattr(bare.gymnasium, "make_vec", lambda *_, vectorization_mode: clockwork)
    ready, rates = threading.Barrier(1), queue.SimpleQueue()
    bare.step_along(0, envs, 2.0, ready, rates)
    assert rates.get() == pytest.approx(1000 * envs)
    assert clockwork.steps >= 512
    assert clockwork.resets > 20 or envs > 1


def test_bare_processes_are_as_many_as_cores_and_as_workers():
    cores = len(os.sched_getaffinity(0))
    assert bare.process_counts(cores) == [cores]
    assert bare.process_counts(cores + 2) == [cores, cores + 2]
