"""This program: how the user started it, and of which versions, commit and source it is. Standard library alone."""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from a3c.config import Config, option_specs

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or where the packages are installed
SOURCE = ("a3c", "shared", "workers", "run_a3c.py")  # the program, without its tests and pages
SCRIPT = ROOT / "run_a3c.py"
CONSOLE_SCRIPT = "run-a3c"


@functools.cache  # what runs is what was loaded, whatever happens to the files meanwhile
def provenance() -> dict[str, Any]:
    """What a run depends on beside its options: the versions, the program's commit and source, the machine."""
    return {
        "versions": versions(),
        "git_commit": _git_commit(),
        "source_sha256": _source_sha256(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    import importlib.metadata  # not needed before the processes run

    packages = {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def _git_commit() -> str | None:
    """The commit of the checkout, with "-dirty" where its program differs from it; None where there is no checkout."""
    if not (ROOT / ".git").exists():  # git would find the repository around a virtual environment
        return None
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-uno", "--", *SOURCE]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # within hooks
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, cwd=ROOT, env=environment)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    first, *lines = result.stdout.splitlines() or [""]  # "# branch.oid COMMIT"
    return first.split()[-1] + "-dirty" * any(not line.startswith("#") for line in lines) if first else None


def _source_sha256() -> str | None:
    """Of the program's files: distinguishes two dirty trees, and installed versions, which have no commit."""
    digest = hashlib.sha256()
    try:
        for path in sorted(path for name in SOURCE for path in [ROOT / name, *(ROOT / name).rglob("*.py")]):
            if path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    except OSError:
        return None
    return digest.hexdigest()


def program() -> str:
    """What stands before a command's name: `python run_a3c.py`, `python -m run_a3c` or `run-a3c`, as it was typed."""
    main, typed, installed = sys.modules.get("__main__"), sys.orig_argv[0], shutil.which(CONSOLE_SCRIPT)
    file = getattr(main, "__file__", None) or ""  # absolute, wherever the current folder has gone since
    python = shlex.quote(typed if shutil.which(typed) else sys.executable)
    if getattr(getattr(main, "__spec__", None), "name", None) == SCRIPT.stem:
        return f"{python} -m {SCRIPT.stem}"
    if _same(file, SCRIPT):
        return f"{python} {shlex.quote(sys.argv[0])}"
    if Path(file).stem == CONSOLE_SCRIPT and not _same(installed, file):
        return shlex.quote(sys.argv[0])
    if _same(installed, file) or _same(installed, Path(sys.executable).with_name(CONSOLE_SCRIPT)):
        return CONSOLE_SCRIPT
    return f"{python} {shlex.quote(str(SCRIPT))}" if SCRIPT.exists() else f"{python} -m {SCRIPT.stem}"


def command(*arguments: object) -> str:
    """A command to type, quoted for a shell."""
    return f"{program()} {shlex.join(map(str, arguments))}"


def changed_options(config: Config) -> list[str]:
    """The options in which a configuration differs from its preset, as arguments of the command line."""
    options, auto = config.to_options(), Config.from_options({"env": config.env})
    chosen = auto if config.preset == auto.preset else Config.from_options({"env": config.env, "preset": config.preset})
    objective = chosen.loss.objective
    if config.loss.objective != objective:
        known = {"env": config.env, "preset": config.preset, "objective": config.loss.objective}
        chosen = Config.from_options(known)
    defaults = {**chosen.to_options(), "env": Config().env, "preset": auto.preset, "objective": objective}
    arguments: list[str] = []
    for spec in option_specs():
        value, flag = options[spec.name], f"--{spec.name.replace('_', '-')}"
        if value == defaults[spec.name] or not spec.belongs_to(config):
            continue
        if spec.type is bool:
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif spec.many:
            arguments += [flag, *map(str, value)]
        else:
            text = str(value).removesuffix(".0")
            arguments += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return arguments


def _same(one: str | None, other: str | Path) -> bool:
    try:
        return one is not None and os.path.samefile(one, other)
    except OSError:
        return False
