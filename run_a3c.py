#!/usr/bin/env python3
"""The command line: python run_a3c.py [train|resume|compare|tune|evaluate|play|export|serve] ...

`workers.commands` has the options of every command, and what it calls. Only the standard library is imported until
the options are known to be right.
"""

import signal

OWN = __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if OWN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # during the imports: a KeyboardInterrupt would end in a traceback

import atexit
import importlib
import io
import os
import sys
from importlib.util import find_spec
from typing import NoReturn

try:
    spec, ours = find_spec("workers"), os.path.join(os.path.dirname(os.path.realpath(__file__)), "workers")
    found = os.path.realpath(spec.origin or "") if spec else "a package that is missing"
    if found != os.path.join(ours, "__init__.py"):
        raise ImportError(
            f"the package 'workers' of this program is hidden by {found}; rename that, or keep it out of PYTHONPATH"
        )
    importlib.import_module("workers")  # which sees that the others are ours too
    from a3c.config import CheckpointError, ConfigError
    from a3c.files import leave_deleted_folder
    from workers import ExitCode
    from workers.commands import parse
except ImportError as error:
    if __name__ != "__main__" and "run-a3c" not in os.path.basename(sys.argv[0]):
        raise
    print(f"run_a3c.py: error: {error}", file=sys.stderr)
    sys.exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if hasattr(command, "path"):  # the others create a directory, and leave the folder once they know which
            leave_deleted_folder()
        code: int = command.run()
        return code
    except ConfigError as error:
        return _complain(error, ExitCode.USAGE)
    except CheckpointError as error:
        return _complain(error, ExitCode.CHECKPOINT)
    except KeyboardInterrupt:  # before there was anything to save, or while evaluating or playing
        return _complain("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head -1`
        sys.stderr.close()
        return ExitCode.FINISHED
    except MemoryError as error:
        return _complain(f"out of memory: {error or 'no more can be had'}", ExitCode.USAGE)
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror}", ExitCode.DISK)


def _complain(error: object, code: int) -> int:
    line = "".join(character if character.isprintable() else " " for character in str(error))
    print(f"run_a3c.py: error: {line}", file=sys.stderr)
    return code


def _open_streams() -> None:
    """Where a standard stream was closed (`>&-`), open it on nothing: else another file would take its place.

    What a stream's encoding has not is written as a question mark: no letter is worth a run.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # as any standard stream
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def command_line() -> NoReturn:
    """Run the command that was typed, and end the process."""
    _open_streams()
    try:
        if OWN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which `main` turns into one line
        code = main()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said: a late Ctrl-C has nothing left to end
    except KeyboardInterrupt:  # another one, while the first was answered
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = ExitCode.INTERRUPTED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # whoever read it has gone
        pass
    if "workers.processes.start" in sys.modules:
        sys.modules["workers.processes.start"].stop_forkserver()
    atexit._run_exitfuncs()  # which remove what multiprocessing has left in the folder for temporary files
    if code == ExitCode.INTERRUPTED and "workers.console.screen" in sys.modules:
        sys.modules["workers.console.screen"].outlast_interrupts()
    os._exit(code)  # every file is closed and every child has ended: taking torch apart would only cost half a second


if __name__ == "__main__":
    command_line()
