#!/usr/bin/env python3
"""The command line: python run_a3c.py [train|resume|compare|evaluate|play|export|serve] ...

`train` is meant where no command is named. Only the standard library is imported until the options are known to be
right; see `workers.training` for what happens then.
"""

import signal

OWN = __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if OWN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # during the imports: a KeyboardInterrupt would end in a traceback

import argparse
import atexit
import io
import os
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NoReturn


def _import_workers() -> None:
    """Import our package of that name, which sees that the others are ours too; raises ImportError."""
    spec = find_spec("workers")
    place = os.path.realpath(spec.origin or "") if spec else "nowhere to be found"
    if place != os.path.join(os.path.dirname(os.path.realpath(__file__)), "workers", "__init__.py"):
        raise ImportError(
            f"the package 'workers' of this program is hidden by {place}; rename that, or keep it out of PYTHONPATH"
        )
    import workers  # noqa: F401


try:
    _import_workers()
except ImportError as error:
    if __name__ != "__main__" and "run-a3c" not in os.path.basename(sys.argv[0]):
        raise
    print(f"run_a3c.py: error: {error}", file=sys.stderr)
    sys.exit(2)

from a3c.config import CheckpointError, Config, ConfigError, OptionSpec, did_you_mean, option_specs
from a3c.files import absolute_path, typed_path
from a3c.presets import PRESETS
from workers import exit_codes
from workers.processes.limits import leave_deleted_folder

PATHS = ("run_dir", "study_dir", "path", "record", "output")  # options that name a file or a folder


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    try:
        if empty := [argument for argument in arguments if argument.endswith("=--")]:  # which argparse drops
            raise ConfigError(f"{empty[0].removesuffix('=--')}: expected a value, got '--'")
        if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise ConfigError(f"unknown command '{arguments[0]}'{did_you_mean(arguments[0], COMMANDS)}")
        options = vars(build_parser().parse_args(arguments))
        for name in PATHS:
            if options.get(name) is not None:
                absolute_path(name, path := typed_path(name, options[name]))  # which is refused where there is none
                options[name] = str(path)
        if "path" in options:  # the others make a directory, and see to it themselves
            leave_deleted_folder()
        return COMMANDS[options.pop("command")](options)
    except ConfigError as error:
        return _complain(error, exit_codes.USAGE)
    except CheckpointError as error:
        return _complain(error, exit_codes.CHECKPOINT)
    except KeyboardInterrupt:  # before there was anything to save, or while evaluating or playing
        return _complain("interrupted", exit_codes.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head -1`
        sys.stderr.close()
        return exit_codes.FINISHED
    except MemoryError as error:
        return _complain(f"out of memory: {error or 'no more can be had'}", exit_codes.USAGE)
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror}", exit_codes.DISK)


def train(options: dict[str, Any]) -> int:
    """Train until solved or the budget is spent."""
    run_dir, dashboard, preset = options.pop("run_dir"), options.pop("dashboard"), PRESETS[options.pop("preset")]
    profile = options.pop("profile")
    config = Config.from_options({**preset, **options})
    from workers.training import run

    return run(config, run_dir, dashboard, profile)[1]


def resume(options: dict[str, Any]) -> int:
    """Go on with a run where its last checkpoint left it."""
    from workers.training import run_resumed

    return run_resumed(
        options["run_dir"],
        options["max_env_steps"],
        options["workers"],
        options["any_version"],
        options["dashboard"],
        options["profile"],
    )[1]


def compare(options: dict[str, Any]) -> int:
    """Make every run of a study and report what the arms differ in."""
    study_dir, dashboard, preset = options.pop("study_dir"), options.pop("dashboard"), PRESETS[options.pop("preset")]
    seeds, tuned, any_version = options.pop("seeds"), options.pop("tuned"), options.pop("any_version")
    from workers.comparison.study import plan

    study = plan({**{name: [value] for name, value in preset.items()}, **options}, seeds, tuned)
    from workers.comparison.run_study import run
    from workers.runs.invocation import program

    return run(study, study_dir, dashboard, f"{program()} {shlex.join(sys.argv[1:])}", any_version)[1]


def evaluate(options: dict[str, Any]) -> int:
    """Evaluate a checkpoint greedily and print its returns."""
    from workers.playing.evaluating import as_json, evaluate_checkpoint

    result = evaluate_checkpoint(options["path"], options["episodes"], options["seed"], options["env"])
    if options["json"]:
        print(as_json(result))
    else:
        print(
            "{env_id}: {mean:.1f} +- {std:.1f} (min {min:.0f}, max {max:.0f}) over {episodes} greedy episodes, "
            "seed {seed}\ncheckpoint {checkpoint}".format(**result)
        )
    return 0


def play(options: dict[str, Any]) -> int:
    """Play episodes with the learned policy."""
    from workers.playing.play import play_checkpoint

    play_checkpoint(
        options["path"],
        options["episodes"],
        options["seed"],
        options["render"],
        options["greedy"],
        options["record"],
        options["speed"],
        options["env"],
    )
    return 0


def export(options: dict[str, Any]) -> int:
    """Write the policy as ONNX, checked against the checkpoint."""
    from workers.serving.export import export_policy

    export_policy(
        options["path"],
        options["output"],
        options["int8"],
        options["with_critic"],
        options["episodes"],
        options["seed"],
        options["env"],
    )
    return exit_codes.FINISHED


def serve(options: dict[str, Any]) -> int:
    """Answer requests over HTTP with the policy."""
    from workers.serving.server import serve as serve_policy

    return serve_policy(
        options["path"], options["host"], options["port"], options["int8"], options["threads"], options["env"]
    )


COMMANDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "train": train,
    "resume": resume,
    "compare": compare,
    "evaluate": evaluate,
    "play": play,
    "export": export,
    "serve": serve,
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest option where one is misspelt."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        namespace, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            raise ConfigError(f"unknown option '{unknown[0]}'{did_you_mean(unknown[0].split('=')[0], known)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def build_parser() -> Parser:
    """All commands and their options."""
    parser = Parser(
        prog="run_a3c.py",
        description="Asynchronous advantage actor-critic (A3C).",
        allow_abbrev=False,
        epilog="Without a command, train is meant; its options: run_a3c.py train --help",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, required=True)
    formatter = argparse.ArgumentDefaultsHelpFormatter
    add = commands.add_parser
    training = add("train", help="train until solved", allow_abbrev=False)
    comparing = add(
        "compare",
        help="compare settings over many seeds, with statistics",
        allow_abbrev=False,
        description="Every option that is given several values is a factor of the study: all their "
        "combinations are run with every seed. Without a factor: --modes async sync.",
    )
    for spec in option_specs():
        _add_option(training, spec)
        if spec.name != "seed":
            _add_factor(comparing, spec)
    training.add_argument("--run-dir", metavar="DIR", help="where the run's files go (default: a new one under runs/)")
    comparing.add_argument("--seeds", type=_positive, default=10, metavar="N", help="runs of each arm (default: 10)")
    comparing.add_argument("--seed", type=_one_seed, default=[0], metavar="S", help="the first seed (default: 0)")
    comparing.add_argument("--tuned", action="store_true", help="start each mode from its own best setting")
    comparing.add_argument(
        "--study-dir", metavar="DIR", help="where the study's files go (default: under runs/, the study's own)"
    )
    comparing.add_argument(
        "--any-version", action="store_true", help="keep runs of other versions of the program; the report tells which"
    )
    resuming = add(
        "resume",
        help="go on with a run",
        allow_abbrev=False,
        description="Go on where the last checkpoint of a run left it. Bit for bit what would have followed "
        "in sync and with one worker; in async everything that can continue does.",
    )
    resuming.add_argument("run_dir", metavar="RUN_DIR", help="the run's directory")
    resuming.add_argument("--max-env-steps", type=int, metavar="N", help="another env-step budget (default: the run's)")
    resuming.add_argument("--workers", type=int, metavar="N", help="another number of workers; not in sync mode")
    resuming.add_argument(
        "--any-version",
        action="store_true",
        help="go on although packages have other versions than the run was made with",
    )
    for command in (training, comparing):
        command.add_argument("--preset", choices=PRESETS, default="none", help="a named setting to start from")
    for command in (training, comparing, resuming):
        command.add_argument(
            "--dashboard",
            choices=("auto", "on", "off"),
            default="auto",
            help="live console, or plain lines (default: auto)",
        )
    for command in (training, resuming):
        command.add_argument("--profile", action="store_true", help="say at the end where each worker's time went")
    evaluating = add("evaluate", help="evaluate a checkpoint", formatter_class=formatter, allow_abbrev=False)
    playing = add("play", help="play with a learned policy", formatter_class=formatter, allow_abbrev=False)
    for command, episodes in ((evaluating, 100), (playing, 3)):
        command.add_argument("path", metavar="RUN_DIR|CHECKPOINT", help="a run directory or a checkpoint's .json")
        command.add_argument("--episodes", type=_positive, default=episodes, metavar="N", help="whole episodes to play")
        command.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed of the environment")
    evaluating.add_argument("--json", action="store_true", help="print one JSON object")
    playing.add_argument(
        "--render",
        choices=("auto", "human", "text", "terminal"),
        default="auto",
        help="auto: a window where there is a screen, else the terminal",
    )
    playing.add_argument(
        "--terminal",
        dest="render",
        action="store_const",
        const="terminal",
        default="auto",
        help="the same as --render terminal",
    )
    playing.add_argument("--record", metavar="FILE", help="film the episodes, as .mp4 or .gif; needs no screen")
    playing.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="X",
        help="of the terminal, as a multiple of real time; 0: as fast as it goes",
    )
    playing.add_argument(
        "--greedy",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the most probable action, or a sampled one",
    )
    for command in (evaluating, playing, *_add_serving(add, formatter)):
        command.add_argument(
            "--env", metavar="MODULE:ID", help="the environment, where the checkpoint's own id is not found"
        )
    return parser


def _add_serving(add: Callable[..., Parser], formatter: Any) -> list[Parser]:
    """The commands for a policy that others use."""
    exporting = add(
        "export",
        help="write the policy as ONNX",
        formatter_class=formatter,
        allow_abbrev=False,
        description="Write the policy as an ONNX model and check it against the checkpoint: outputs, "
        "greedy actions, and the return over whole episodes.",
    )
    exporting.add_argument("--format", choices=("onnx",), default="onnx", help="of the file")
    exporting.add_argument("--int8", action="store_true", help="write a second one with weights of 8 bits")
    exporting.add_argument("--with-critic", action="store_true", help="the critic's value as a third output")
    exporting.add_argument("--output", metavar="FILE", help="where it goes (default: RUN_DIR/policy.onnx)")
    exporting.add_argument("--episodes", type=_positive, default=100, metavar="N", help="greedy episodes of the check")
    exporting.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed of the check")
    serving = add(
        "serve",
        help="answer requests over HTTP",
        formatter_class=formatter,
        allow_abbrev=False,
        description="Serve a policy over HTTP; the page at / lets you try it.",
    )
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: everybody can reach it")
    serving.add_argument("--port", type=_port, default=8000, metavar="P", help="0: a free one, which is printed")
    serving.add_argument("--int8", action="store_true", help="of a run directory: serve it with weights of 8 bits")
    exporting.add_argument("path", metavar="RUN_DIR|CHECKPOINT", help="a run directory or a checkpoint's .json")
    serving.add_argument("path", metavar="RUN_DIR|MODEL.onnx", help="a run directory or an exported model")
    serving.add_argument(
        "--threads",
        type=_positive,
        default=1,
        metavar="N",
        help="that answer; small networks are served fastest by one",
    )
    return [exporting, serving]


def _add_option(parser: argparse.ArgumentParser, spec: OptionSpec) -> None:
    """An option of one value; those that are not given stay away, so that a preset knows what was typed."""
    if spec.type is bool:
        parser.add_argument(
            _flag(spec), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=_help(spec)
        )
        return
    parser.add_argument(
        _flag(spec),
        type=spec.type,
        default=argparse.SUPPRESS,
        metavar=_metavar(spec),
        help=_help(spec),
        nargs="+" if spec.many else None,
    )


def _add_factor(parser: argparse.ArgumentParser, spec: OptionSpec) -> None:
    """The same option with any number of values."""
    flags = ["--modes", "--mode"] if spec.name == "mode" else [_flag(spec)]
    kind: Callable[[str], Any] = _sizes if spec.many else spec.type
    metavar = "N,N" if spec.many else _metavar(spec)
    if spec.type is bool:
        parser.add_argument(
            f"--no-{flags[0][2:]}",
            dest=spec.name,
            action="store_const",
            const=[False],
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
        kind, metavar = _yes_or_no, "yes|no"
    parser.add_argument(
        *flags, dest=spec.name, type=kind, default=argparse.SUPPRESS, metavar=metavar, help=_help(spec), nargs="+"
    )


def _flag(spec: OptionSpec) -> str:
    return f"--{spec.name.replace('_', '-')}"


def _help(spec: OptionSpec) -> str:
    meaning = spec.meaning.replace("%", "%%")
    if spec.optional:  # its help says what the default is
        return meaning
    default = " ".join(str(part) for part in spec.default) if spec.many else spec.default
    return f"{meaning} (default: {default})"


def _metavar(spec: OptionSpec) -> str:
    return "|".join(spec.bounds.choices) or {int: "N", float: "X", str: "ID", bool: "yes|no"}[spec.type]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _natural(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and 2^32 - 1, got {text}")
    return number


def _port(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**16:
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, got {text}")
    return number


def _one_seed(text: str) -> list[int]:
    return [_natural(text)]


def _sizes(text: str) -> tuple[int, ...]:
    """One network of a study: its layers joined by commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be layer sizes joined by commas, got {text}") from None


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, got {text}")
    return text == "yes"


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
        code = exit_codes.INTERRUPTED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # whoever read it has gone
        pass
    if "workers.processes.start" in sys.modules:
        sys.modules["workers.processes.start"].stop_forkserver()
    atexit._run_exitfuncs()  # which remove what multiprocessing has left in the folder for temporary files
    if code == exit_codes.INTERRUPTED and "workers.console.screen" in sys.modules:
        sys.modules["workers.console.screen"].outlast_interrupts()
    os._exit(code)  # every file is closed and every child has ended: taking torch apart would only cost half a second


if __name__ == "__main__":
    command_line()
