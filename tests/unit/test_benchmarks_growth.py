"""What the benchmarks of growth, memory, overhead and instructions watch, and what they make of it."""

import csv
import dataclasses
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

from a3c.config import Config
from a3c.environments import describe
from benchmarks import growth, instructions, memory, overhead, watching
from benchmarks.benchmark import BenchmarkError, Size, Trial
from benchmarks.drivers import counted_loop
from benchmarks.growth_figures import draw, largest_phases
from benchmarks.wide_cartpole import SIZES
from tests.unit.processes import wait_until
from tests.unit.scripted_environments import Endless, register
from workers.commands import parse

PHASES = {"env": 0.5, "forward": 0.3, "other": 0.2}


def growth_trials(axis, rates, phases=None, cpu_use=0.97):
    """Two repetitions of an axis; phases of single values instead of PHASES."""
    return [
        Trial(
            {"axis": axis, "value": value},
            {
                "steps_per_second": rate * (1 + repetition),
                "phases": (phases or {}).get(value, PHASES),
                "worker_uss": [10e6, 14e6],
                "program_pss": 400e6,
                "cpu_use": cpu_use,
            },
        )
        for repetition in range(2)
        for value, rate in rates.items()
    ]


@pytest.mark.parametrize(
    ("axis", "rates", "words", "ratio"),
    [
        (
            "workers",
            {1: 10, 2: 19, 4: 20, 8: 20},
            "workers: the curve bends after 2, the cores 97 % busy; env",
            20 / 19,
        ),
        ("workers", {1: 10, 2: 15, 4: 22}, "workers: no bend up to 4", 2.2),
        (
            "width",
            {32: 10, 64: 9, 128: 6, 256: 1},
            "the curve bends after 64, the cores 97 % busy, and forward growing from 30 to 80 %; env",
            6 / 9,
        ),
        ("width", {32: 10, 64: 9, 128: 8}, "no bend up to 128", 0.8),
    ],
)
def test_a_curve_bends_where_growth_stops_paying_or_begins_to_cost(axis, rates, words, ratio):
    phases = {128: {"env": 0.1, "forward": 0.8, "other": 0.1}} if axis == "width" else None
    found = [row for row in growth.rows(growth_trials(axis, rates, phases)) if "bend" in row.name]
    assert len(found) == 1 and words in found[0].name
    assert found[0].samples == pytest.approx((ratio, ratio))


def test_growth_tells_at_every_point_where_the_time_goes():
    rows = growth.rows(growth_trials("envs", {4: 10, 1: 5}, {4: {"env": 0.04, "push": 0.6, "forward": 0.36}}, 0.5))
    assert [row.name for row in rows] == [
        "env steps/s, environments per worker: 1 (env 50 %, forward 30 %, other 20 %, cores 50 % busy)",
        "env steps/s, environments per worker: 4 (push 60 %, forward 36 %, cores 50 % busy)",
        "environments per worker: no bend up to 4; env steps/s there / at 1",
        "resident memory of the whole program, environments per worker: 1",
        "resident memory of the whole program, environments per worker: 4",
    ]
    assert rows[0].samples == (5, 10) and rows[3].samples == (400, 400)
    assert growth.measured(growth_trials("envs", {1: 5}), "envs")[0].worker_mb == (12, 12)


def test_figures_of_growth_are_the_same_bytes_for_the_same_trials_and_name_everything(tmp_path):
    phases = {f"phase {number}": 0.1 for number in range(9)} | {"idle": 0.0}
    trials = []
    for name, axis in growth.AXES.items():
        trials += growth_trials(name, dict.fromkeys(axis.points, 10), dict.fromkeys(axis.points, phases))
    first, second = draw(trials, tmp_path / "first"), draw(trials, tmp_path / "second")
    assert [path.name for path in first] == ["growth-rates.svg", "growth-phases.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    texts = [path.read_text() for path in first]
    for axis in growth.AXES.values():
        assert all(f">{axis.words}<" in text and f">{axis.points[-1]}<" in text for text in texts)
    assert ">phase 0<" in texts[1] and ">all else<" in texts[1] and ">idle<" not in texts[1]


def test_the_phases_that_have_a_colour_are_the_largest_in_the_order_of_the_loop():
    names = "abcdefghi"
    points = growth.measured(
        growth_trials("envs", {1: 5}, {1: {name: index / 36 for index, name in enumerate(names)}}), "envs"
    )
    assert largest_phases(points) == list("cdefghi")


@pytest.mark.parametrize("benchmark", [growth.BENCHMARK, memory.BENCHMARK, overhead.BENCHMARK])
def test_every_planned_run_is_one_that_the_program_can_make(benchmark):
    for options in (parameters["options"] for parameters in benchmark.plan(Size())):
        typed = parse(["train", *watching.as_arguments(options)]).training
        assert Config.from_options(typed) == Config.from_options(options)


def test_wide_cartpole_is_cartpole_with_zeros_behind_its_observation():
    sizes = {size: describe(growth.observing(size)["env"]).observation.size for size in (4, *SIZES)}
    assert all(size == found for size, found in sizes.items())
    assert set(SIZES) | {4} == set(growth.AXES["observation"].points)
    plain, wide = gymnasium.make("CartPole-v1"), gymnasium.make(growth.observing(64)["env"].partition(":")[2])
    seen = [environment.reset(seed=3)[0] for environment in (plain, wide)]
    for action in (0, 1, 1):
        assert seen[1].tolist() == [*seen[0].tolist(), *[0.0] * 60]
        seen = [environment.step(action)[0] for environment in (plain, wide)]


def test_only_the_watched_time_is_told_and_shares_add_up_although_an_interval_has_none(tmp_path):
    path = tmp_path / "metrics.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["elapsed_seconds", "env_steps", "env_share", "other_share"])
        rows.writerows(
            [
                [0.9, 5, 1, 0],
                [1.0, 100, 1, 0],
                [1.5, 100, 0, 0],
                [2.0, 300, 0, 1],
                [3.0, 500, 0.5, 0.5],
                [3.1, 900, 1, 0],
            ]
        )
    assert watching.metrics(path, 1.0, 3.0) == {"steps_per_second": 200.0, "phases": {"env": 0.25, "other": 0.75}}
    with pytest.raises(BenchmarkError, match=r"1 rows of the 0\.1 s"):
        watching.metrics(path, 2.95, 3.05)


def test_processes_of_a_run_are_told_apart_by_the_logs_that_they_write(tmp_path):
    (tmp_path / "logs").mkdir()
    child = "import sys, time; file = open(sys.argv[1], 'a'); print(1, flush=True); time.sleep(600)"
    names = ["worker-0", "worker-11", "monitor", "else"]
    parent = (
        "import subprocess, sys, time\n"
        f"family = [subprocess.Popen([sys.executable, '-c', {child!r}, path], stdout=subprocess.PIPE) "
        "for path in sys.argv[1:]]\n"
        "for process in family: process.stdout.readline()\n"
        "print(1, flush=True); time.sleep(600)"
    )
    paths = [str(tmp_path / "logs" / f"{name}.log") for name in names] + [str(tmp_path / "worker-2.log")]
    process = subprocess.Popen([sys.executable, "-c", parent, *paths], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        members = watching.family(process.pid)
        assert Counter(members.values()) == {"parent": 1, "worker": 2, "monitor": 1, "other": 2}
        assert next(member.pid for member, role in members.items() if role == "parent") == process.pid
        taken = watching.memory(members)
        assert len(taken["worker_uss"]) == len(taken["worker_pss"]) == 2
        assert 0 < sum(taken["worker_uss"]) < sum(taken["worker_pss"])
        everything = sum(member.memory_full_info().pss for member in members)
        assert taken["program_pss"] == pytest.approx(everything, rel=0.05)
    finally:
        for member in [*psutil.Process(process.pid).children(), process]:
            member.kill()
        process.wait()


def test_overhead_is_the_share_of_parent_and_monitor_in_all_cpu_time_and_the_throughput_that_is_missing():
    spent = {"parent": 1.0, "monitor": 2.0, "worker": 16.0, "other": 1.0}
    side = {"cpu_seconds": spent, "seconds": 10.0}
    values = {
        "on": side | {"steps_per_second": 90.0},
        "off": side | {"steps_per_second": 95.0},
        "bare": {"steps_per_second": 100.0},
    }
    samples = [row.samples[0] for row in overhead.rows([Trial({}, values)])]
    assert samples == pytest.approx([15, 10, 5, 10, 20, 5, 5, 90, 95, 100])


def test_bare_workers_train_with_nobody_beside_them_and_are_gone_afterwards(tmp_path):
    config = Config(workers=2, n_steps=5, max_env_steps=10**9)
    before = set(psutil.Process().children(recursive=True))
    with overhead.bare_workers(config, tmp_path) as scoreboard:
        reached = scoreboard.read()["env_steps"].copy()
        assert (reached > 0).all()
        wait_until(lambda: bool((scoreboard.read()["env_steps"] > reached).all()))
        logs = {
            Path(file.path).stem for child in psutil.Process().children(recursive=True) for file in child.open_files()
        }
        assert {"worker-0", "worker-1"} <= logs
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [child for child in left if watching.role(child) == watching.WORKER]


class Broken(Endless):
    """Fails at its fifth step, which no look at it makes."""

    def step(self, action):
        if len(self.received) == 4:
            raise OSError("no such joint")
        return super().step(action)


def test_a_bare_worker_that_dies_is_told_with_its_log(tmp_path):
    env_id = register(Broken, max_episode_steps=10)
    config = dataclasses.replace(Config(workers=1), env=env_id)
    with pytest.raises(BenchmarkError, match="no such joint"), overhead.bare_workers(config, tmp_path):
        pytest.fail("it never began")


def test_memory_asks_of_the_default_shape_with_four_workers_and_means_over_the_workers():
    values = {"worker_uss": [10e6, 20e6], "worker_pss": [40e6, 50e6], "program_pss": 300e6}
    trials = [
        Trial({"shape": shape, "options": {"workers": workers}}, values)
        for shape, workers in (("paper's shape", 1), memory.ASKED)
    ]
    rows = memory.rows(trials)
    assert [row.samples for row in rows] == [(15,), (45,), (300,)] * 2
    assert [bool(row.bar) for row in rows] == [True] + [False] * 5
    assert memory.rows([])[0].name == rows[0].name and memory.rows([])[0].samples == ()


def dump(number, trigger, count, folder):
    """A file like callgrind's."""
    path = folder / f"counts.{number}"
    path.write_text(f"part: {number}\n\ndesc: Trigger: {trigger}\n\nevents: Ir\nsummary: {count}\n\nfn=(1)\n16 7\n")
    return path


def test_counts_are_read_by_the_name_that_each_dump_was_asked_for_with(tmp_path):
    told = [
        ("Client Request: pull", 100),
        ("Client Request: one push", 7),
        ("Client Request: pull", 90),
        ("Program termination", 10**9),
    ]
    dumps = [dump(number, *one, tmp_path) for number, one in enumerate(told)]
    assert instructions.read_counts(dumps) == {"pull": [100, 90], "one push": [7]}


def test_what_counting_takes_is_taken_off_every_part_and_the_sum_is_told_per_env_step():
    counts = {part: [number * 1000 + 200] for number, part in enumerate(instructions.PARTS, 1)}
    options = {"envs_per_worker": 2, "n_steps": 5}
    trial = Trial({"shape": "small", "options": options}, {**counts, instructions.NOTHING: [900, 200, 100]})
    assert [row.samples for row in instructions.rows([trial])] == [(1,), (2,), (3,), (4,), (5,), (1.5,)]


def test_without_valgrind_the_row_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (parameters, *_) = instructions.plan(Size(quick=True))
    (row,) = instructions.rows([Trial(parameters, instructions.measure(parameters))])
    assert "cc and valgrind missing" in row.name and row.row()[-2:] == ("not measured", "-")


class Notes:
    """Instead of callgrind: which calls it was to count, and the names."""

    def __init__(self):
        self.names, self.calls = [], Counter()

    def begin(self):
        self.calls["begin"] += 1

    def end(self):
        self.calls["end"] += 1

    def zero(self):
        self.calls["zero"] += 1

    def dump(self, name):
        self.names.append(name.decode())


def test_every_part_of_the_real_loop_is_counted_as_often_as_asked(monkeypatch):
    for owner, attribute in counted_loop.PARTS.values():
        monkeypatch.setattr(owner, attribute, getattr(owner, attribute))  # put back when the test ends
    assert set(counted_loop.PARTS) == set(instructions.PARTS)
    notes, config = Notes(), Config.from_options(instructions.SHAPES["paper's shape"])
    with np.errstate():  # a worker's own is set for its whole process
        counted_loop.count(config, counted_loop.Callgrind(notes), updates=3)
    assert Counter(notes.names) == dict.fromkeys([*instructions.PARTS, instructions.NOTHING], 3)
    assert notes.calls == {"begin": 1, "end": 1, "zero": len(notes.names)}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not all(map(shutil.which, instructions.TOOLS)), reason="needs valgrind and a C compiler")
def test_callgrind_counts_the_same_twice_to_one_in_a_hundred():
    (parameters, *_) = instructions.plan(Size(quick=True))
    first, second = instructions.measure(parameters), instructions.measure(parameters)
    for part in instructions.PARTS:
        assert second[part] == pytest.approx(first[part], rel=0.01)
        assert min(first[part]) > 10_000
