"""Machines that lack something: each works, or is one line that names the cause."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.command import COMMAND, FOREVER, ROOT, Program, run
from tests.process.terminal import HIDE_CURSOR, SHOW_CURSOR

SHORT = ("--workers", 2, "--max-env-steps", 2000, "--target-return", 501, "--eval-episodes", 3)
# What a file system or a sandbox refuses, put in every process of the run.
REFUSING = """
import errno, fcntl, os
def refuse(*_, **__):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
for name in {names}:
    setattr(fcntl, name, refuse)
sync = os.fsync
def fsync(descriptor):
    if {fsync}:
        refuse()
    sync(descriptor)
os.fsync = fsync
"""
# A mount of one's own over a folder that a machine may lack.
WITHOUT = {
    "/dev/shm with room": "mount -t tmpfs -o size=4k,mode=1777 none /dev/shm; (yes | dd of=/dev/shm/full) 2>/dev/null",
    "/dev/shm": "mount -t tmpfs -o ro none /dev/shm",
    "/proc": "mount -t tmpfs none /proc",
}
WRAPPED = """
import sys
sys.path.insert(0, {root!r})
import gymnasium
class Wanderer(gymnasium.make("CartPole-v1").unwrapped.__class__):
    def __init__(self, **options):
        super().__init__(**options)
        import os
        os.chdir(os.path.sep)
gymnasium.register("Wanderer-v0", "wanderer:Wanderer", max_episode_steps=500)
"""


def refusing(folder: Path, names: tuple[str, ...] = (), fsync: bool = False) -> dict[str, str]:
    """The variables under which every process finds system calls that are refused."""
    (folder / "sitecustomize.py").write_text(REFUSING.format(names=names, fsync=fsync))
    return {"PYTHONPATH": str(folder)}


def summary(run_dir: Path) -> dict[str, object]:
    return dict(json.loads((run_dir / "summary.json").read_text()))


def test_a_file_system_that_has_neither_flock_nor_fsync_is_used(tmp_path: Path) -> None:
    environment = refusing(tmp_path, ("flock",), fsync=True)
    code, output = run(*SHORT, "--mode", "locked", "--run-dir", tmp_path / "run", environment=environment)
    assert code == 0, output
    assert summary(tmp_path / "run")["mode"] == "locked"
    assert "unsaved" not in output
    assert (tmp_path / "run" / str(summary(tmp_path / "run")["checkpoint"])).exists()


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path: Path) -> None:
    environment = refusing(tmp_path, ("flock", "lockf"))
    code, output = run(*SHORT, "--run-dir", tmp_path / "run", environment=environment)
    assert code == 0, output
    assert output.count("has no locks (Function not implemented)") == 1


def test_locked_mode_is_refused_where_there_are_no_locks(tmp_path: Path) -> None:
    environment = refusing(tmp_path, ("flock", "lockf"))
    code, output = run(*SHORT, "--mode", "locked", "--run-dir", tmp_path / "run", environment=environment)
    assert code == 2
    assert "error: mode: locked needs file locks (Function not implemented)" in output.splitlines()[-1]


@pytest.mark.parametrize("lacking", WITHOUT)
def test_a_machine_may_lack(lacking: str, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounts of one's own are not allowed here")
    script = f'{WITHOUT[lacking]}; exec "$@"'
    arguments = ("-m", "sh", "-c", script, "sh", *COMMAND, *SHORT, "--run-dir", tmp_path / "run")
    code, output = run(*arguments, command=["unshare"])
    assert code == 0, output
    assert summary(tmp_path / "run")["status"] == "budget_exhausted"
    assert float(str(summary(tmp_path / "run")["wall_seconds"])) > 0


def in_a_deleted_folder(folder: Path, *arguments: object) -> tuple[int, str]:
    (folder / "gone").mkdir()
    return run("-c", 'cd "$0" && rmdir "$0" && exec "$@"', folder / "gone", *COMMAND, *arguments, command=["sh"])


@pytest.mark.long
def test_a_deleted_current_folder_does_not_matter_to_absolute_paths(tmp_path: Path) -> None:
    code, output = in_a_deleted_folder(tmp_path, *SHORT, "--run-dir", tmp_path / "run")
    assert code == 0, output
    code, output = in_a_deleted_folder(tmp_path, "evaluate", tmp_path / "run", "--episodes", 2)
    assert code == 0, output
    assert "over 2 greedy episodes" in output


@pytest.mark.parametrize("arguments", [SHORT, (*SHORT, "--run-dir", "run"), ("evaluate", "run"), ("resume", "run")])
def test_in_a_deleted_folder_a_relative_path_is_refused(arguments: tuple[object, ...], tmp_path: Path) -> None:
    code, output = in_a_deleted_folder(tmp_path, *arguments)
    assert code == 2
    assert "is in the current folder, which has been deleted" in output
    assert len(output.splitlines()) == 1


def test_an_environment_that_changes_the_folder_does_not_move_the_run(tmp_path: Path) -> None:
    (tmp_path / "wanderer.py").write_text(WRAPPED.format(root=str(ROOT)))
    environment = {"PYTHONPATH": str(tmp_path)}
    options = (*SHORT, "--env", "wanderer:Wanderer-v0", "--run-dir", "my run")
    code, output = run(*options, environment=environment, cwd=tmp_path)
    assert code == 0, output
    assert summary(tmp_path / "my run")["status"] == "budget_exhausted"
    assert "checkpoint  my run/checkpoints/" in output
    assert f"{COMMAND[1]} play 'my run'\n" in output
    assert "--env wanderer:Wanderer-v0 --workers 2 --max-env-steps 2000 --target-return 501" in output


def test_a_run_in_a_terminal_gets_along_with_odd_variables(tmp_path: Path) -> None:
    variables = {"COLUMNS": "9" * 12, "LINES": "-3", "HOME": "/nonexistent", "TERM": "nothing"}
    with Program(*SHORT, "--run-dir", tmp_path / "run", size=(80, 24), environment=variables) as program:
        assert program.wait() == 0, program.text
    assert "dashboard failed" not in program.text
    assert HIDE_CURSOR in program.output  # frames are drawn, at the terminal's own size
    assert program.output.rindex(SHOW_CURSOR) > program.output.rindex(HIDE_CURSOR)


def test_a_console_without_unicode_gets_other_letters(tmp_path: Path) -> None:
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    code, output = run(
        *SHORT, "--run-dir", tmp_path / "r\N{LATIN SMALL LETTER U WITH DIAERESIS}n", environment=variables
    )
    assert code == 0, output
    assert "dashboard failed" not in output
    code, output = run("evaluate", next(tmp_path.glob("r*n")), "--episodes", 1, environment=variables)
    assert code == 0, output


@pytest.mark.parametrize("name", ["a3c.py", "shared.py", "workers.py", "workers/__init__.py"])
def test_a_module_that_hides_ours_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    script, module = tmp_path / "run-a3c", tmp_path / "mine" / name
    script.write_text(f"import sys; sys.path.append({str(ROOT)!r}); import run_a3c; run_a3c.command_line()")
    module.parent.mkdir(parents=True)
    module.write_text("raise SystemExit('this is somebody else')")
    result = subprocess.run(
        [sys.executable, script, *map(str, SHORT)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "mine")},
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"of this program is hidden by {module}; rename that" in result.stderr


def test_a_module_that_hides_ours_from_a_program_is_an_import_error(tmp_path: Path) -> None:
    (tmp_path / "shared.py").touch()
    (tmp_path / "mine.py").write_text("from workers import train")
    result = subprocess.run(
        [sys.executable, tmp_path / "mine.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert f"ImportError: the package 'shared' of this program is hidden by {tmp_path}" in result.stderr


def test_a_network_that_no_memory_holds_is_one_line(tmp_path: Path) -> None:
    code, output = run("--hidden-sizes", 100, 10**14, "--run-dir", tmp_path / "run")
    assert code == 2
    assert output.splitlines()[-1].startswith("run_a3c.py: error: hidden_sizes: the network and its copies do not fit ")
    assert "Traceback" not in output


@pytest.mark.parametrize("presses", [1, 2])
def test_a_ctrl_c_while_torch_is_imported_is_answered_before_that_has_ended(presses: int, tmp_path: Path) -> None:
    """A module that torch imports waits for the keys to be pressed; torch has then hundreds of others to import."""
    stamp = tmp_path / "stamp"
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, sys, time
class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn.modules" and "run_a3c.py" in sys.argv[0]:
            open({str(stamp)!r}, "w").close()
            while os.path.exists({str(stamp)!r}):
                time.sleep(0.01)
sys.meta_path.insert(0, Waiting())
""")
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir, environment={"PYTHONPATH": str(tmp_path)}) as program:
        program.until(stamp.exists)
        program.note_family()
        for _ in range(presses):
            os.killpg(program.process.pid, signal.SIGINT)
        stamp.unlink()
        began = time.monotonic()
        assert program.process.wait(30) == 130
        took = time.monotonic() - began
        program.assert_nobody_left(30)  # a forkserver ends its own imports first
    assert program.text.strip() == "run_a3c.py: error: interrupted"
    assert took < 5  # a second on a quiet machine
    assert not (run_dir / ".lock").exists()
    assert {log.name for log in (run_dir / "logs").iterdir()} <= {"forkserver.log"}  # nobody else was started
