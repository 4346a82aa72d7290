"""Every command and every Python snippet of the documentation does what a reader who types it expects: it works.

Commands run as they stand, in an empty folder, but for what `RULES` says: a run directory's name stands for a real one,
trainings are short, and what takes hours is only taken by its own parser.
"""

import configparser
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import benchmarks.__main__
import tests.chaos.__main__
from a3c import Config
from benchmarks.studies import STUDIES
from tests.process.command import ROOT, Program, run_here
from tests.process.http_client import ServerProgram
from workers.commands import parse
from workers.processes.start import start_forkserver

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("python", "python3", "make", "pip", "run-a3c", "curl", "sh", "bash", "docker", "git")
RUN_DIR = re.compile(r"RUN_DIR|runs/[\w-]+")  # what a reader puts his own in for
EXPORT = ("export", "--int8", "--with-critic")
SHORT = ("--max-env-steps", 2000, "--target-return", 501, "--eval-episodes", 5)  # nothing is learned in so few steps


def code_lines(page: str) -> Iterator[str]:
    """The lines of a page's code blocks, fenced or indented; a line that ends in a backslash with what follows it."""
    fenced = False
    for line in re.sub(r"\\\n\s*", "", page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(page: str) -> Iterator[str]:
    """What a reader can type: lines of code blocks, and code within a sentence, that begin with a program's name."""
    spans = re.findall(r"`([^`\n]+ [^`\n]+)`", page)
    for text in (*code_lines(page), *spans):
        command = re.sub(r" +# .*", "", text.removeprefix("$ "))
        if command.split(" ")[0] in PROGRAMS:
            yield command


def snippets() -> list[Any]:
    """All but those of CONTRIBUTING, which tests/unit/test_contributing.py puts to use."""
    pages = [path for path in PAGES if path.name != "CONTRIBUTING.md"]
    found = [
        (path, code) for path in pages for code in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
    ]
    return [
        pytest.param(code, id=f"{path.name}-{number}")
        for number, (path, code) in enumerate(found)
        if not repeated(code, found)
    ]


def repeated(code: str, found: list[tuple[Path, str]]) -> bool:
    """Whether a longer snippet has all that is done in this one."""
    lines = [line for line in code.splitlines() if not line.startswith("from ")]
    return any(len(code) < len(other) and all(line in other for line in lines) for _, other in found)


COMMANDS = list(dict.fromkeys(RUN_DIR.sub("RUN_DIR", one) for path in PAGES for one in commands(path.read_text())))


@dataclass(frozen=True)
class Place:
    """Where a command is run: an empty folder beside a run that is solved and exported, and one that is not done."""

    solved: Path
    unfinished: Path
    monkeypatch: pytest.MonkeyPatch


@pytest.fixture(scope="module")
def unfinished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("unfinished") / "run"
    code, output = run_here("--workers", 2, *SHORT, "--run-dir", run_dir)
    assert code == 0, output
    return run_dir


@pytest.fixture(scope="module")
def exported_run(solved_run: tuple[Path, str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(solved_run[0], run_dir)
    here(*EXPORT, run_dir, "--episodes", 5)
    return run_dir


@pytest.fixture
def place(exported_run: Path, unfinished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    start_forkserver()  # which would keep the folder of a test as its own
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):  # nobody is there to close a window
        monkeypatch.delenv(name, raising=False)
    return Place(exported_run, unfinished_run, monkeypatch)


def words(command: str, run_dir: Path) -> list[str]:
    """A command's words without the name of the program."""
    return shlex.split(RUN_DIR.sub(str(run_dir), command))[1:]


def here(*arguments: object) -> str:
    code, output = run_here(*arguments)
    assert code == 0, output
    return output


# -- the rules --------------------------------------------------------------------------------------------------------


def train(command: str, place: Place) -> None:
    """Runs, for 2,000 env steps."""
    here(*words(command, place.solved)[1:], *SHORT)
    assert list(Path("runs").glob("*/summary.json"))


def pooled(command: str, place: Place) -> None:
    """Is parsed; test_pool.py trains with EnvPool where that is installed."""
    assert parse(words(command, place.solved)[1:]).training["vector"] == "envpool"


def minigrid(command: str, place: Place) -> None:
    """Is parsed; it trains where minigrid is installed."""
    assert parse(words(command, place.solved)[1:]).training["env"].startswith("minigrid:")
    if importlib.util.find_spec("minigrid"):
        train(command, place)


def clustered(command: str, place: Place) -> None:
    """Is parsed; test_cluster.py trains on a cluster's nodes."""
    assert parse(words(command, place.solved)[1:]).cluster


def show_help(command: str, place: Place) -> None:
    """Runs."""
    process = subprocess.run(
        [sys.executable, ROOT / "run_a3c.py", *words(command, place.solved)[1:]], capture_output=True
    )
    assert process.returncode == 0 and b"usage:" in process.stdout, process


def resume(command: str, place: Place) -> None:
    """Runs, on a run with a few env steps to go; all of what stands in brackets is given."""
    command = re.sub(r"[\[\]]", "", command).replace("--workers N", "--workers 1").replace("--max-env-steps N", "")
    run_dir = Path("unfinished")
    shutil.copytree(place.unfinished, run_dir)
    assert "resumed" in here(*words(command, run_dir)[1:], "--max-env-steps", 3000)


def compare(command: str, place: Place) -> None:
    """Is parsed and planned; the snippet of README makes the runs of a study."""
    studies: list[Any] = []
    place.monkeypatch.setattr("workers.comparison.run_study.run", lambda study, *_, **__: (studies.append(study), 0))
    here(*words(command, place.solved)[1:])
    assert len(studies[0].arms) > 1


def tune(command: str, place: Place) -> None:
    """Is parsed, its environment made; test_tune.py makes searches."""
    asked: list[Any] = []
    place.monkeypatch.setattr("workers.tuning.tune.tune", lambda typed, *_: (asked.append(typed), 0)[1])
    here(*words(command, place.solved)[1:])
    assert Config.from_options(asked[0]).env == asked[0].get("env", "CartPole-v1")


def evaluate(command: str, place: Place) -> None:
    """Runs."""
    assert here(*words(command, place.solved)[1:]).strip()


def play(command: str, place: Place) -> None:
    """Runs, for one episode, as fast as it goes."""
    arguments = words(command, place.unfinished)[1:]
    assert "return" in here(*arguments, "--episodes", 1, "--speed", 0)
    if "--record" in arguments:
        assert Path(arguments[arguments.index("--record") + 1]).stat().st_size


def export(command: str, place: Place) -> None:
    """Runs, with a check of five episodes; the first of README's once for all that use what it writes."""
    arguments = words(command, place.solved)[1:]
    if set(arguments) != {*EXPORT, str(place.solved)}:
        assert "written" in here(*arguments, "--episodes", 5)
    assert (place.solved / "policy-int8.onnx").exists()


def serve(command: str, place: Place) -> None:
    """Runs, on a free port, and answers; Ctrl-C ends it. Of a run directory, test_serve.py does so."""
    _, _, path, *options = words(command, place.solved)
    if Path(path).is_dir():
        place.monkeypatch.setattr("workers.serving.server.serve", lambda *_: 0)
        here("serve", path, *options)
        return
    with ServerProgram(Path(path), *options) as server:
        assert server.act({"observation": [0.0] * 4})[0] == 200
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.wait(20) == 0


def curl(command: str, place: Place) -> None:
    """Its request is sent, to a server on a free port."""
    with ServerProgram(place.solved / "policy-int8.onnx") as server:
        assert server.curl(command)[0] == 200


def make(command: str, place: Place) -> None:
    """Its target exists: make says what it would do."""
    subprocess.run(["make", "-n", "-C", ROOT, *words(command, place.solved)], check=True, capture_output=True)


def pip(command: str, place: Place) -> None:
    """The extras and the constraints that it names exist, and a version is the one that the Makefile installs."""
    arguments = words(command, place.solved)
    assert arguments[:3] == ["install", "-c", "constraints.txt"] and (ROOT / "constraints.txt").exists()
    package = arguments[-1]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", package)
    if extras:
        assert set(filter(None, (extras[1] or "").split(","))) <= set(setup["options.extras_require"])
    else:
        assert f"install -q -c constraints.txt {package}\n" in (ROOT / "Makefile").read_text()


def shell(command: str, place: Place) -> None:
    """Is what a shell can read."""
    subprocess.run(["sh", "-n", "-c", command], check=True)


def studies(command: str, place: Place) -> None:
    """Is taken by its parser; its own option to only list says what it would do."""
    arguments = words(command.replace("NAME", next(iter(STUDIES))), place.solved)[2:]
    module = importlib.import_module("benchmarks.studies")
    place.monkeypatch.setattr(sys, "argv", ["studies", *arguments, "--list"])
    assert module.main() == 0


def benchmark(command: str, place: Place) -> None:
    """Is taken by its parser."""
    benchmarks.__main__.parse(words(command, place.solved)[2:], benchmarks.__main__.CATALOGUE)


def chaos(command: str, place: Place) -> None:
    """Is taken by its parser."""
    tests.chaos.__main__.parse(words(command, place.solved)[2:])


def module(command: str, place: Place) -> None:
    """Can be imported, and has what `python -m` runs."""
    assert callable(importlib.import_module(words(command, place.solved)[1]).main)


PROGRAM = r"(python run_a3c\.py|run-a3c)"
RULES: list[tuple[str, Callable[[str, Place], None]]] = [  # the first whose pattern a command begins with
    (rf"{PROGRAM} .*--help", show_help),
    (rf"{PROGRAM} .*--vector envpool", pooled),
    (rf"{PROGRAM} .*--env minigrid:", minigrid),
    (rf"{PROGRAM} .*--cluster", clustered),
    (rf"{PROGRAM} resume ", resume),
    (rf"{PROGRAM} compare ", compare),
    (rf"{PROGRAM} tune ", tune),
    (rf"{PROGRAM} evaluate ", evaluate),
    (rf"{PROGRAM} play ", play),
    (rf"{PROGRAM} export ", export),
    (rf"{PROGRAM} serve ", serve),
    (rf"{PROGRAM} (train |-)", train),
    (r"python -m benchmarks\.studies ", studies),
    (r"python -m benchmarks ", benchmark),
    (r"python -m tests\.chaos ", chaos),
    (r"python -m benchmarks\.", module),
    (r"python3 -m venv ", shell),
    (r"make \w", make),
    (r"pip install ", pip),
    (r"curl ", curl),
]


def no_rule(command: str, place: Place) -> None:
    pytest.fail(f"no rule says how to try `{command}`")


def rule_of(command: str) -> Callable[[str, Place], None]:
    return next((rule for pattern, rule in RULES if re.match(pattern, command)), no_rule)


GROUPS = sorted({rule_of(command).__name__ for command in COMMANDS})


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.timeout(600)
def test_the_commands_of_the_documentation_work(group: str, place: Place, tmp_path: Path) -> None:
    for number, command in enumerate(one for one in COMMANDS if rule_of(one).__name__ == group):
        folder = tmp_path / str(number)
        folder.mkdir()
        with place.monkeypatch.context() as monkeypatch:
            monkeypatch.chdir(folder)
            rule_of(command)(command, Place(place.solved, place.unfinished, monkeypatch))


def test_the_documentation_has_commands_for_all_that_the_program_does() -> None:
    assert {"train", "resume", "compare", "tune", "evaluate", "play", "export", "serve"} <= set(GROUPS)


@pytest.mark.parametrize("code", snippets())
def test_a_python_snippet_of_the_documentation_works(code: str, place: Place, tmp_path: Path) -> None:
    """Saved as a script as it stands, beside an exported policy; a study has one seed and 2,000 env steps."""
    if "import" not in code:  # an excerpt: it says what the source says
        source = (ROOT / "workers" / "actor_learner.py").read_text()
        calls = re.findall(r"[\w.]+(?=\()", code)
        assert compile(code, "excerpt", "exec") and [call for call in calls if call not in source] == []
        return
    for file in place.solved.glob("*.onnx"):
        shutil.copy(file, tmp_path)
    (tmp_path / "script.py").write_text(code.replace("seeds=10", "seeds=1, max_env_steps=2000, eval_episodes=5"))
    command = [sys.executable, "script.py"]
    with Program(command=command, cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)}) as program:
        code_of_exit = program.wait(60)
        assert code_of_exit == 0 and "Traceback" not in program.text, program.text
