"""The commands that are proposed are those that work where they are read."""

import subprocess
import sys
from pathlib import Path

import pytest

from a3c.config import Config
from workers.runs.program import changed_options

ROOT = Path(__file__).resolve().parents[2]
ASK = "import sys; sys.path.insert(0, {root!r}); from workers.runs.program import command; print(command({words}))"
AS_SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import run_a3c
from workers.runs import program
run_a3c.main = lambda: print(program.command('play', 'my run')) or 0
run_a3c.command_line()
"""


def proposed(*command: object, cwd: Path, python: str = sys.executable, path: str = "") -> str:
    """What a program that prints a command prints."""
    variables = {"PATH": f"{path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([python, *map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True)
    return result.stdout.removesuffix("\n") or result.stderr


def already(cwd: Path, *command: object) -> str:
    """What the program proposes about a directory that holds a run, here `my run` in the folder."""
    (cwd / "my run").mkdir(exist_ok=True)
    (cwd / "my run" / "config.json").write_text("{}")
    return proposed(*command, "--run-dir", "my run", cwd=cwd).rpartition("resume it: ")[2].strip()


def test_a_script_is_proposed_as_it_was_typed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT)
    for typed in (str(ROOT / "run_a3c.py"), "link/run_a3c.py"):
        assert already(tmp_path, typed) == f"{sys.executable} {typed} resume 'my run'"


def test_a_module_is_proposed_as_one(tmp_path: Path) -> None:
    assert already(tmp_path, "-m", "run_a3c") == f"{sys.executable} -m run_a3c resume 'my run'"


@pytest.mark.parametrize("on_the_path", [True, False])
def test_the_console_script_is_proposed_by_its_name_where_that_finds_it(tmp_path: Path, on_the_path: bool) -> None:
    script = tmp_path / "run-a3c"
    script.write_text(f"#!{sys.executable}\n{AS_SCRIPT.format(root=str(ROOT))}")
    script.chmod(0o755)
    said = proposed(script, cwd=tmp_path, path=str(tmp_path if on_the_path else ROOT))
    assert said == f"{'run-a3c' if on_the_path else script} play 'my run'"


def test_from_python_a_command_is_proposed_that_can_be_typed_anywhere(tmp_path: Path) -> None:
    said = proposed("-c", ASK.format(root=str(ROOT), words="'play', 'x'"), cwd=tmp_path)
    assert said == f"{sys.executable} {ROOT / 'run_a3c.py'} play x"


def test_options_that_are_the_defaults_are_not_named() -> None:
    assert changed_options(Config.from_options({})) == []
    assert changed_options(Config.from_options({"workers": 2, "mode": "sync"})) == ["--mode", "sync", "--workers", "2"]
    assert changed_options(Config.from_options({"preset": "none", "gamma": 0.5})) == [
        "--preset",
        "none",
        "--gamma",
        "0.5",
    ]
