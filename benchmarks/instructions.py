"""Machine instructions of the loop's parts: a regression shows in them without a quiet machine."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from a3c.config import Config
from benchmarks.benchmark import Benchmark, BenchmarkError, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from benchmarks.program import Program

MARKS = Path(__file__).parent / "drivers" / "callgrind_marks.c"
TOOLS = ("valgrind", "cc")
SHAPES: dict[str, Parameters] = {
    "paper's shape": {"envs_per_worker": 1, "n_steps": 5},
    "default shape": {},
    "64 envs a worker": {"envs_per_worker": 64, "n_steps": 16},
}
PARTS = {
    "rollout": "one rollout",
    "gradient": "one rollout's gradient, clipped",
    "pull": "one pull",
    "push": "one push",
    "publish": "one publish",
}
NOTHING = "nothing"  # the part that does nothing: what the counting itself takes
# Which kernel a library chooses depends on the processor, and with it the count: these choose alike on every x86-64
# with AVX2, which is the most that valgrind knows.
VARIABLES = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824",  # else a large copy is an instruction per byte
    "PYTHONHASHSEED": "0",
}
LIMIT_SECONDS = 900.0  # importing torch takes half a minute under valgrind, and more where others are at work


def plan(size: Size) -> list[Parameters]:
    """A process per shape."""
    updates, shapes = (2, ["paper's shape"]) if size.quick else (30, list(SHAPES))
    return [{"shape": shape, "options": SHAPES[shape], "updates": updates} for shape in shapes]


def measure(parameters: Parameters) -> Values:
    """Instructions of every counted call, by part; or the tools that are missing."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return {"missing": missing}
    with tempfile.TemporaryDirectory() as folder:
        marks, dumps = Path(folder) / "marks.so", Path(folder) / "counts"
        compile_marks(marks)
        driver = [
            sys.executable,
            "-m",
            "benchmarks.drivers.counted_loop",
            "--marks",
            str(marks),
            "--options",
            json.dumps(parameters["options"]),
            "--updates",
            str(parameters["updates"]),
        ]
        with Program(
            [
                "env",
                *(f"{name}={value}" for name, value in VARIABLES.items()),
                "valgrind",
                "--tool=callgrind",
                "--instr-atstart=no",
                "--dump-line=no",
                f"--callgrind-out-file={dumps}",
                *driver,
            ]
        ) as program:
            program.succeed(LIMIT_SECONDS)
        counts = read_counts(sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:])))
    if set(counts) != {*PARTS, NOTHING}:
        raise BenchmarkError(f"callgrind counted {', '.join(counts) or 'nothing'} instead of {', '.join(PARTS)}")
    return counts


def compile_marks(library: Path) -> None:
    """Make the library by which a program tells callgrind where to count.

    Raises:
        BenchmarkError: the compiler's message.
    """
    result = subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, MARKS], capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(f"{MARKS.name} does not compile: {result.stderr.strip()}")


def read_counts(dumps: Sequence[Path]) -> dict[str, list[int]]:
    """Instructions by the name that each of callgrind's dumps was asked for with, in the order of the dumps."""
    counts: dict[str, list[int]] = {}
    for dump in dumps:
        text = dump.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
        summary = re.search(r"^summary: (\d+)$", text, re.MULTILINE)
        if name and summary:
            counts.setdefault(name[1], []).append(int(summary[1]))
    return counts


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Thousands of instructions of each part in each shape, and of all parts per env step."""
    if missing := sorted({tool for trial in trials for tool in trial.values.get("missing", [])}):
        return [Figure(f"instructions: {' and '.join(missing)} missing; once installed, measure with --fresh", ())]
    found: list[Row] = []
    for trial in trials:
        nothing = median(trial.values[NOTHING])
        counts = {part: tuple((count - nothing) / 1000 for count in trial.values[part]) for part in PARTS}
        shape, config = trial.parameters["shape"], Config.from_options(trial.parameters["options"])
        found += [Figure(f"instructions, {words}, {shape}", counts[part], "k") for part, words in PARTS.items()]
        steps = config.envs_per_worker * config.n_steps
        together = tuple(sum(parts) / steps for parts in zip(*counts.values(), strict=True))
        found.append(Figure(f"instructions, all of these per env step, {shape}", together, "k"))
    return found


BENCHMARK = Benchmark(
    "instructions",
    "Instructions that `valgrind --tool=callgrind` counts in the real loop of one worker of four, on the shared state "
    "of all four, in calls 21 to 50 of each part; what counting itself takes is taken off, and Python's garbage "
    "collector is off. One thread, the kernels for AVX2. The same calls come out the same to one in a hundred, "
    "however busy the machine is. Parts: `Collector.collect`, `clipped_gradient`, the store's `pull` and `push`, "
    "`Place.publish`.",
    plan,
    measure,
    rows,
)
