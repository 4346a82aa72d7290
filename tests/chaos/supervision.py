"""Processes and environments that fail while a run goes on: killed, stopped, starved, fed with spoilt numbers."""

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from safetensors.numpy import load_file

from tests.chaos.environments import MODULE, STEP, order_file
from tests.chaos.outcome import Outcome
from tests.process.command import FOREVER, Program

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

KILLS_PER_LATENCY = 10  # that fit into a run whose steps take a millisecond
NOTICED_SECONDS = 10.0  # in which a worker that hangs has to be replaced
LOAD = 4  # busy processes per core


class Start(NamedTuple):
    """A process that has made its first environment step."""

    name: str  # worker-0, ..., monitor
    pid: int
    moment: float  # a time.time()


class WatchedRun(Program):
    """A run of one of `tests.chaos.environments`, whose processes tell when they work."""

    def __init__(self, folder: Path, environment: str, *arguments: object, variables: dict[str, str] | None = None):
        self.folder, self.run_dir = folder, folder / "run"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            "--preset",
            "CartPole-v1",
            "--env",
            f"{MODULE}:{environment}-v0",
            "--run-dir",
            self.run_dir,
            *arguments,
            environment={"FAULTS": str(folder), **(variables or {})},
        )

    def __enter__(self) -> "WatchedRun":
        return self

    def starts(self) -> list[Start]:
        """All processes that have made a step so far, in this order."""
        lines = [line.split() for line in self.told("steps")]
        return [Start(name, int(pid), float(moment)) for name, pid, moment in lines if name != "MainProcess"]

    def working(self) -> dict[str, int]:
        """The process id of whoever fills a place now, by the place's name."""
        return {start.name: start.pid for start in self.starts()}

    def workers_now(self) -> list[int]:
        """The process ids of the workers that fill a place now."""
        return [pid for name, pid in self.working().items() if name != "monitor"]

    def until_all_work(self, workers: int = 4) -> None:
        """Wait for the first step of every worker and of the monitor."""
        self.until(lambda: len(self.working()) == workers + 1)
        self.note_family()

    def successor(self, pid: int) -> Start | None:
        """Who has made a step in the place that a process had, if somebody has."""
        starts = self.starts()
        name = next(start.name for start in starts if start.pid == pid)
        last = [start for start in starts if start.name == name][-1]
        return last if last.pid != pid else None

    def until_replaced(self, pid: int, seconds: float = 60) -> Start:
        """Wait until a successor of the process has made a step."""
        self.until(lambda: self.successor(pid) is not None, seconds)
        successor = self.successor(pid)
        assert successor is not None
        return successor

    def order(self, fault: str, place: str = STEP, role: str = "worker") -> int:
        """Have a fault of `Ordered-v0` happen in one process; the process id of the one that it happened in."""
        before = len(self.told("fired"))
        draft = self.folder / "draft"
        draft.write_text(fault)
        draft.rename(order_file(self.folder, role, place))
        self.until(lambda: len(self.told("fired")) > before)
        kind, pid = self.told("fired")[-1].split()
        assert kind == fault
        return int(pid)

    def told(self, file: str) -> list[str]:
        """The lines that environments have written to a file so far."""
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    def events(self, kind: str) -> list[str]:
        """What events.jsonl says of one kind."""
        return [event["message"] for event in self._events(kind)]

    def moments(self, kind: str) -> list[float]:
        """When events of one kind happened, in seconds since the run was asked for."""
        return [event["seconds"] for event in self._events(kind)]

    def _events(self, kind: str) -> list[dict[str, Any]]:
        path = self.run_dir / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if event["kind"] == kind]

    def death(self, pid: int) -> str:
        """What events.jsonl says that a process has died of; '' where it says nothing."""
        told = [*self.events("crashed"), *self.events("hung")]
        return next((message for message in told if f"(pid {pid}," in message), "")

    def summary(self) -> dict[str, Any]:
        """How the run ended."""
        return dict(json.loads((self.run_dir / "summary.json").read_text()))

    def not_solved(self) -> str:
        """Wait for the end: why it is not that of a solved run, '' where it is."""
        code = self.wait(600)
        return "" if code == 0 and self.summary()["status"] == "solved" else f"exit code {code}:\n{self.text}"


# -- killed and stopped -----------------------------------------------------------------------------------------------


def worker_kills(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill random workers at random moments of a run: each is replaced, and CartPole is still solved.

    Where it is solved before all kills were done, the rest are done in another run. The detail tells the env steps that
    each took, and how long replacing took.
    """
    rng, losses = random.Random(seed), list[str]()
    seconds, steps = list[float](), list[int]()
    while len(seconds) < count and not any(losses):
        arguments = (*_stretched(count), "--max-restarts", count, "--seed", seed + len(steps))
        with WatchedRun(folder / f"run-{len(steps)}", "Watched", *arguments) as run:
            run.until_all_work()
            losses.extend(_kill(run, rng, seconds, count))
            losses.append(run.not_solved())
        steps.append(int(run.summary()["solved_env_steps"] or 0))
    median, largest = statistics.median(seconds or [0]), max(seconds, default=0)
    detail = f"solved in {steps} env steps; a replacement acts after {median:.2f} s (median), {largest:.2f} s (largest)"
    return _outcome(count, len(seconds), losses, detail)


def _kill(run: WatchedRun, rng: random.Random, seconds: list[float], count: int) -> Iterator[str]:
    """Kill until there are so many `seconds`, or the run is solved; what was lost."""
    while len(seconds) < count:
        time.sleep(rng.uniform(0, 0.3))  # until the moment drawn
        victim, killed = rng.choice(run.workers_now()), time.time()
        try:
            os.kill(victim, signal.SIGKILL)
            successor = run.until_replaced(victim)
        except (ProcessLookupError, AssertionError) as error:
            if not run.events("verified"):
                yield f"{victim} was not replaced: {error}"
            return  # it was solved meanwhile
        seconds.append(successor.moment - killed)
        if "SIGKILL" not in run.death(victim):
            yield f"the death of {victim} was told as {run.death(victim)!r}"


def undisturbed_env_steps(runs: int, folder: Path, kills: int) -> list[int]:
    """The env steps to the solution of runs like that of `worker_kills`, without kills; sorted.

    They are spread over an order of magnitude: what kills cost is to be seen in the medians of many runs alone.
    """
    steps = []
    for seed in range(runs):
        with WatchedRun(folder / f"run-{seed}", "Watched", *_stretched(kills), "--seed", seed) as run:
            assert not (loss := run.not_solved()), loss
            steps.append(int(run.summary()["solved_env_steps"]))
    return sorted(steps)


def _stretched(kills: int) -> tuple[object, ...]:
    return ("--env-latency-ms", max(0.3, kills / KILLS_PER_LATENCY))


def worker_stops(count: int, folder: Path, timeout: float = 7.0, seed: int = 0) -> Outcome:
    """Stop random workers, one after the other: each is noticed and replaced in time; going on later is harmless."""
    rng, trials = random.Random(seed), list[Trial]()
    arguments = (*FOREVER, "--heartbeat-timeout", timeout, "--max-restarts", 10 * count, "--env-latency-ms", 1)
    with WatchedRun(folder, "Watched", *arguments) as run:
        run.until_all_work()
        for _ in range(count):
            trials.append(_stop(run, rng))
        os.killpg(run.process.pid, signal.SIGINT)
        loss = "" if run.wait(10) == 130 else f"exit code {run.wait(10)}:\n{run.text}"
    return Outcome.of([*trials[:-1], (trials[-1][0], trials[-1][1] or loss)], f"{len(run.events('hung'))} seen to hang")


def _stop(run: WatchedRun, rng: random.Random) -> Trial:
    process = psutil.Process(rng.choice(run.workers_now()))
    process.suspend()
    stopped = time.time()
    run.until(lambda: process.status() == psutil.STATUS_STOPPED)
    try:
        seconds = run.until_replaced(process.pid).moment - stopped
    except AssertionError as error:
        return True, f"not replaced: {error}"
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()
    if "hung" not in run.death(process.pid) or seconds > NOTICED_SECONDS:
        return True, f"replaced after {seconds:.1f} s, told as {run.death(process.pid)!r}"
    alive = [psutil.Process(pid).is_running() for pid in run.workers_now()]
    return True, "" if all(alive) and not process.is_running() else "the one that had been stopped came back"


def false_alarms(seconds: float, folder: Path, timeout: float = 7.0) -> Outcome:
    """Keep all cores busy with other work, which comes before the workers: none of them is taken to hang."""
    arguments = (*FOREVER, "--heartbeat-timeout", timeout)
    with WatchedRun(folder, "Watched", *arguments) as run:
        run.until_all_work()
        with busy(LOAD * (os.cpu_count() or 1)) as others:
            time.sleep(seconds)  # of a run that is starved
            used = [sum(other.cpu_times()[:2]) for other in others]
        hung = run.events("hung")
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.wait(20)
    loss = "\n".join(hung) or ("" if code == 130 else f"exit code {code}:\n{run.text}")
    return Outcome.of(
        [(min(used) > 0, loss)], f"{run.summary()['env_steps']} env steps beside {sum(used):.0f} s of others"
    )


@contextlib.contextmanager
def busy(count: int) -> Iterator[list[psutil.Process]]:
    """So many processes that take whatever time of the cores they get."""
    processes = [multiprocessing.get_context("fork").Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield [psutil.Process(process.pid) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    os.setsid()  # a kernel that shares the cores among sessions gives this one as much as the whole run
    while True:
        pass


# -- spoilt numbers ---------------------------------------------------------------------------------------------------


def nan_rewards(count: int, folder: Path) -> Outcome:
    """Spoil observations, rewards and gradients, `count` of them, in as many runs as that takes.

    Each run counts what it was fed with, no more and no less; shares and saves finite numbers alone; solves CartPole.
    """
    losses, fired, kinds, checkpoints = list[str](), 0, Counter[str](), 0
    while fired < count:
        run_folder = folder / f"run-{fired}"
        variables = {"SPOILT": str(count - fired)}
        arguments = ("--checkpoint-interval", 0.5, "--keep-checkpoints", 10_000, "--seed", fired)
        with WatchedRun(run_folder, "Spoilt", *arguments, variables=variables) as run:
            losses.append(run.not_solved())
            spoilt = Counter(run.told("spoilt"))
        if losses[-1] or not spoilt:
            break
        losses.append(_miscounted(spoilt, run.summary()["faults"]))
        losses.extend(_not_finite(run.run_dir / "checkpoints"))
        fired, kinds = fired + spoilt.total(), kinds + spoilt
        checkpoints += len(run.events("checkpointed"))
    return _outcome(count, fired, losses, f"{dict(kinds)}, {checkpoints} checkpoints")


def _miscounted(spoilt: Counter[str], faults: dict[str, int]) -> str:
    counted = {name: faults[name] for name in ("observations", "rewards", "gradients", "rollbacks")}
    return "" if Counter(counted) == spoilt else f"spoilt {dict(spoilt)}, counted {counted}"


def _not_finite(checkpoints: Path) -> Iterator[str]:
    files = list(checkpoints.glob("*.safetensors"))
    if not files:
        yield f"{checkpoints}: no checkpoint"
    for file in files:
        for name, values in load_file(file).items():
            if not (np.isfinite(values).all() or name == "board.rows"):  # there is no mean return at first
                yield f"{file}: {name} is not finite"


def _outcome(tried: int, fired: int, losses: list[str], detail: str) -> Outcome:
    """Of faults in one run, whose losses cannot be told apart."""
    real = [loss for loss in losses if loss]
    return Outcome(tried, fired, max(fired - len(real), 0), len(real), real[0] if real else detail)


def never_decreases(values: list[int]) -> bool:
    """Whether a counter has only gone up."""
    return all(before <= after for before, after in itertools.pairwise(values))
