"""What the dashboard and the monitor take together, of the throughput and of the CPU time."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from a3c.config import Config
from benchmarks.benchmark import Benchmark, BenchmarkError, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.watching import MONITOR, PARENT, watch_training
from workers.processes.start import context, inherited, start_forkserver

if TYPE_CHECKING:
    from shared.scoreboard import Scoreboard

OPTIONS: Parameters = {"workers": 4}
SETTLE_SECONDS = 4.0  # by then the monitor has spent the second of CPU time that its evaluations have for free
START_SECONDS, STOP_SECONDS = 60.0, 30.0
POLL_SECONDS = 0.01
SIDES = ("on", "off", "bare")  # the console on; off, the monitor still there; workers and nothing else


def plan(size: Size) -> list[Parameters]:
    """Six times three neighbours."""
    repetitions, settle, seconds = (1, 0.0, 1.5) if size.quick else (6, SETTLE_SECONDS, 8.0)
    return [
        {"options": OPTIONS, "settle": settle, "seconds": seconds, "repetition": repetition}
        for repetition in range(repetitions)
    ]


def measure(parameters: Parameters) -> Values:
    """All sides right after one another, beginning with another one in every repetition."""
    options = {**parameters["options"], "seed": parameters["repetition"]}
    first = parameters["repetition"] % len(SIDES)
    times = parameters["settle"], parameters["seconds"]
    return {
        side: bare_training(options, *times)
        if side == "bare"
        else watch_training(options, *times, dashboard=side == "on")
        for side in (*SIDES[first:], *SIDES[:first])
    }


def bare_training(options: Parameters, settle: float, seconds: float) -> Values:
    """The same workers with the same shared state and nobody beside them: steps_per_second, of all workers.

    Raises:
        BenchmarkError: a worker ended early.
    """
    config = Config.from_options({**options, "max_env_steps": 10**9})
    with tempfile.TemporaryDirectory() as folder, bare_workers(config, Path(folder)) as scoreboard:
        time.sleep(settle)
        before, since = scoreboard.read()["env_steps"].sum(), time.perf_counter()
        time.sleep(seconds)
        gained, passed = scoreboard.read()["env_steps"].sum() - before, time.perf_counter() - since
    return {"steps_per_second": round(float(gained) / passed, 1)}


@contextmanager
def bare_workers(config: Config, folder: Path) -> Iterator["Scoreboard"]:
    """Processes that run the workers' own target, from their first updates until the context is left; their board."""
    start_forkserver()
    from shared.scoreboard import STOP, Scoreboard  # imports torch
    from workers import actor_learner
    from workers.processes.preflight import describe_environment
    from workers.training import build_store

    (folder / "logs").mkdir()
    scoreboard, environment = Scoreboard(config.workers), describe_environment(config)
    store = build_store(config, environment, scoreboard)
    workers = [
        context().Process(target=actor_learner.main, args=(index, 0, config, environment, store, scoreboard, folder))
        for index in range(config.workers)
    ]
    try:
        with inherited():
            for worker in workers:
                worker.start()
        deadline = time.monotonic() + START_SECONDS
        while not (scoreboard.read()["updates"] > 0).all():
            check(all(worker.is_alive() for worker in workers) and time.monotonic() < deadline, folder / "logs")
            time.sleep(POLL_SECONDS)
        yield scoreboard
        check(all(worker.is_alive() for worker in workers), folder / "logs")
        scoreboard.request(STOP)
        for worker in workers:
            worker.join(STOP_SECONDS)
    finally:
        for worker in (worker for worker in workers if worker.pid is not None):
            worker.kill()
            worker.join()


def check(at_work: bool, logs: Path) -> None:
    """Raise BenchmarkError with what the workers have said where they are not at work."""
    if not at_work:
        said = "\n".join(log.read_text() for log in sorted(logs.iterdir()))
        raise BenchmarkError(f"a worker ended early, or never began\n{said}")


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The share of the CPU time first: it tells a cost that the noise of the throughput hides."""
    values = [trial.values for trial in trials]

    def rates(side: str) -> tuple[float, ...]:
        return tuple(float(value[side]["steps_per_second"]) for value in values)

    def lost(side: str) -> tuple[float, ...]:
        return tuple(100 * (1 - rate / bare) for rate, bare in zip(rates(side), rates("bare"), strict=True))

    def shares(side: str, *roles: str) -> tuple[float, ...]:
        return tuple(cpu_share(value[side]["cpu_seconds"], *roles) for value in values)

    share = f"{100 * Config.from_options({}).evaluation.eval_share:g} % of a core"
    return [
        Figure(
            "dashboard and monitor together, share of the CPU time that the run takes",
            shares("on", PARENT, MONITOR),
            "%",
            Limit(5),
            Limit(2),
        ),
        Figure("throughput lost to dashboard and monitor, beside the same workers alone", lost("on"), "%"),
        Figure("throughput lost to the monitor, beside the same workers alone", lost("off"), "%"),
        Figure("monitor, share of the run's CPU time", shares("on", MONITOR), "%"),
        Figure(
            f"monitor's CPU time, of one core (`--eval-share` gives its evaluations {share})",
            tuple(100 * float(value["on"]["cpu_seconds"][MONITOR]) / float(value["on"]["seconds"]) for value in values),
            "%",
        ),
        Figure("process that draws the dashboard, share of the run's CPU time", shares("on", PARENT), "%"),
        Figure("the same process with `--dashboard off`", shares("off", PARENT), "%"),
        Figure("env steps/s with dashboard and monitor", rates("on")),
        Figure("env steps/s with the monitor", rates("off")),
        Figure("env steps/s of the same workers alone", rates("bare")),
    ]


def cpu_share(spent: Values, *roles: str) -> float:
    """Per cent of a run's CPU time that went to these of its processes."""
    return 100 * sum(float(spent[role]) for role in roles) / sum(map(float, spent.values()))


BENCHMARK = Benchmark(
    "overhead",
    "Training in the default shape with the live console in a terminal of 120 x 40, with `--dashboard off`, and with "
    "neither console nor monitor nor supervisor: the workers' own processes on the same shared state, started by the "
    "benchmark. The three are neighbours, in changing order, each watched for 8 s after its first 4 s. The figure is a "
    "share of CPU time: on cores that are all busy it is the share of throughput that is lost, and it is steady where "
    "two runs of the same thing differ by more than the cost. By default evaluations may take a second of CPU time and "
    "then 5 % of one core (`--eval-share`).",
    plan,
    measure,
    rows,
)
