"""How the user starts the program, so that a proposed command works where it is read. Standard library alone."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from a3c.config import Config, option_specs

SCRIPT = Path(__file__).resolve().parents[2] / "run_a3c.py"
CONSOLE_SCRIPT = "run-a3c"


def program() -> str:
    """What stands before a command's name: `python run_a3c.py`, `python -m run_a3c` or `run-a3c`, as it was typed."""
    main, python = sys.modules.get("__main__"), _python()
    file = str(getattr(main, "__file__", None) or "")  # absolute, wherever the current folder has gone since
    if getattr(getattr(main, "__spec__", None), "name", None) == SCRIPT.stem:
        return f"{python} -m {SCRIPT.stem}"
    if _same(file, SCRIPT):
        return f"{python} {shlex.quote(sys.argv[0])}"
    if Path(file).stem == CONSOLE_SCRIPT:
        return CONSOLE_SCRIPT if _same(shutil.which(CONSOLE_SCRIPT), file) else shlex.quote(sys.argv[0])
    return _from_python(python)


def command(*words: object) -> str:
    """A command to type, quoted for a shell."""
    return f"{program()} {shlex.join(map(str, words))}"


def changed_options(config: Config) -> list[str]:
    """The options in which a configuration differs from the defaults, as words of the command line."""
    options, defaults = config.to_options(), Config().to_options()
    words: list[str] = []
    for spec in option_specs():
        value = options[spec.name]
        if value == defaults[spec.name]:
            continue
        flag = f"--{spec.name.replace('_', '-')}"
        if spec.type is bool:
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif spec.many:
            words += [flag, *map(str, value)]
        else:
            text = str(value).removesuffix(".0")
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return words


def _from_python(python: str) -> str:
    """For a user who called `train` from a program or a notebook."""
    if _same(shutil.which(CONSOLE_SCRIPT), Path(sys.executable).with_name(CONSOLE_SCRIPT)):
        return CONSOLE_SCRIPT
    return f"{python} {shlex.quote(str(SCRIPT))}" if SCRIPT.exists() else f"{python} -m {SCRIPT.stem}"


def _python() -> str:
    """The interpreter as it was typed, where that finds it."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    if typed and shutil.which(typed):
        return shlex.quote(typed)
    return shlex.quote(sys.executable) if sys.executable else "python"


def _same(one: str | None, other: str | Path) -> bool:
    try:
        return one is not None and os.path.samefile(one, other)
    except OSError:
        return False
