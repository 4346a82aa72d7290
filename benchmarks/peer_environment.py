"""The virtual environments of the programs we are compared with: made once, never mixed with our own."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.benchmark import BenchmarkError
from benchmarks.machine import ROOT

FOLDER = ROOT / "benchmarks" / ".venvs"


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment."""
    folder = FOLDER / name
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def same(name: str) -> str:
    """The requirement for a package in the version that we run with, so that both sides have the same."""
    return f"{name}=={importlib.metadata.version(name).split('+')[0]}"


def ensure(name: str, steps: Sequence[Sequence[str]]) -> None:
    """Make a peer's environment, unless it is there as described.

    Args:
        steps: requirements, installed one list after the other.
    Raises:
        BenchmarkError: something could not be installed.
    """
    wanted = "\n".join(" ".join(requirements) for requirements in steps) + "\n"
    stamp = FOLDER / name / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"making the virtual environment of {name} (this takes minutes, once)", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(FOLDER / name)])
    for requirements in steps:
        _run([str(python_of(name)), "-m", "pip", "install", "--quiet", *requirements])
    stamp.write_text(wanted)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise BenchmarkError(f"`{' '.join(command)}` failed:\n{result.stdout[-2000:]}")
