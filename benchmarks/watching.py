"""A whole training watched in its steady state: its rate, its time by phase, what each of its processes takes."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.benchmark import BenchmarkError, Parameters, Values
from benchmarks.program import TERMINAL, TRAIN, Program, run_directory
from benchmarks.throughput import FOREVER, INTERRUPTED, STOP_SECONDS

START_SECONDS = 300.0  # until every worker is warm: 64 share the cores
WARM_SECONDS = 0.3  # of a worker's CPU time: its network and environments are made and its first updates done
POLL_SECONDS = 0.05
PARENT, MONITOR, WORKER, OTHER = "parent", "monitor", "worker", "other"
Family = dict[psutil.Process, str]  # the role of each process


def watch_training(options: Parameters, settle: float, seconds: float, dashboard: bool = False) -> Values:
    """Train until all workers are warm, for `settle` seconds more, then for the `seconds` that are watched; stop.

    Returns:
        steps_per_second: env steps per second of all workers.
        phases: shares of the workers' time by phase, which add up to 1.
        cpu_seconds: CPU time by role: the parent, with the console in it where it is on; the monitor; all workers; and
            the others, which served to start them.
        seconds: that were watched.
        worker_uss, worker_pss: bytes of each worker at the end: its own pages, and with its part of the shared ones.
        program_pss: bytes of all processes together, every page counted once.
    Raises:
        BenchmarkError: the training did not get there, or ended by itself.
    """
    with run_directory() as run_dir:
        shown = ("--dashboard", "on" if dashboard else "off", "--run-dir", str(run_dir))
        command = (*TRAIN, *FOREVER, *as_arguments(options), *shown)
        with Program(command, TERMINAL if dashboard else None) as program:
            members = warm_family(program, int(options["workers"]))
            program.let_run(settle)
            members = family(program.process.pid)  # without what was needed for the start alone
            try:
                before, since = cpu_seconds(members), time.time()
                program.let_run(seconds)
                after, until = cpu_seconds(members), time.time()
                taken = memory(members)
            except psutil.NoSuchProcess as error:
                raise program.failure(f"lost a process: {error}") from None
            program.process.terminate()
            program.wait(STOP_SECONDS)
            if program.process.returncode != INTERRUPTED:
                raise program.failure(f"ended with exit code {program.process.returncode}, not {INTERRUPTED}")
            started = program.started_ns / 1e9
        watched = metrics(run_dir / "metrics.csv", since - started, until - started)
    spent = {role: round(after[role] - before[role], 3) for role in after}
    return {**watched, "cpu_seconds": spent, "seconds": round(until - since, 3), **taken}


def as_arguments(options: Mapping[str, object]) -> list[str]:
    """A run's options as words of the command line."""
    words: list[str] = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def warm_family(program: Program, workers: int) -> Family:
    """The processes of a run, once all its workers are there and warm."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        members = family(program.process.pid)
        warm = [member for member in of_role(members, WORKER) if cpu_time(member) >= WARM_SECONDS]
        if len(warm) == workers and of_role(members, MONITOR):
            return members
        if time.monotonic() > deadline:
            raise program.failure(f"had {len(warm)} of {workers} workers at work after {START_SECONDS:g} s")
        program.let_run(POLL_SECONDS)


def family(pid: int) -> Family:
    """A program and all that it has started. Workers and monitor are known by their log, which they have open."""
    parent = psutil.Process(pid)
    return {parent: PARENT} | {child: role(child) for child in parent.children(recursive=True)}


def role(process: psutil.Process) -> str:
    """What a child of the program is."""
    try:
        logs = [Path(file.path) for file in process.open_files()]
    except psutil.Error:  # it has just ended
        return OTHER
    names = [log.stem.partition("-")[0] for log in logs if log.parent.name == "logs"]
    return names[0] if names and names[0] in (WORKER, MONITOR) else OTHER


def of_role(members: Family, wanted: str) -> list[psutil.Process]:
    return [member for member, role in members.items() if role == wanted]


def cpu_seconds(members: Family) -> dict[str, float]:
    """CPU time so far, by role."""
    return {role: sum(map(cpu_time, of_role(members, role))) for role in (PARENT, MONITOR, WORKER, OTHER)}


def cpu_time(process: psutil.Process) -> float:
    """CPU time of a process so far, s."""
    times = process.cpu_times()
    return float(times.user + times.system)


def memory(members: Family) -> Values:
    """Bytes of the workers and of the program, as `watch_training` tells them."""
    taken = {member: member.memory_full_info() for member in members}
    workers = [taken[worker] for worker in of_role(members, WORKER)]
    return {
        "worker_uss": [info.uss for info in workers],
        "worker_pss": [info.pss for info in workers],
        "program_pss": sum(info.pss for info in taken.values()),
    }


def metrics(path: Path, since: float, until: float) -> Values:
    """Rate and phases from the rows of metrics.csv between two times, in seconds since the start of the command.

    Raises:
        BenchmarkError: there are fewer than two rows.
    """
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if since <= float(row["elapsed_seconds"]) <= until]
    if len(rows) < 2:
        raise BenchmarkError(f"metrics.csv has {len(rows)} rows of the {until - since:.1f} s that were watched")
    first, last = rows[0], rows[-1]
    steps, seconds = (float(last[name]) - float(first[name]) for name in ("env_steps", "elapsed_seconds"))
    names = [name for name in first if name.endswith("_share")]
    shares = {name.removesuffix("_share"): sum(float(row[name]) for row in rows[1:]) for name in names}
    booked = sum(shares.values()) or 1.0  # an interval without an update has no shares
    phases = {phase: round(share / booked, 4) for phase, share in shares.items()}
    return {"steps_per_second": round(steps / seconds, 1), "phases": phases}
