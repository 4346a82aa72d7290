#!/usr/bin/env python3
"""The command line: python run_a3c.py [train|evaluate|play] ...

`train` is meant where no command is named. Only the standard library is imported until the options are known to be
right; see `workers.session` for what happens then.
"""

import argparse
import json
import os
import sys
from typing import Any, NoReturn

from a3c.config import CheckpointError, Config, ConfigError, OptionSpec, did_you_mean, option_specs
from workers import exit_codes

COMMANDS = ("train", "evaluate", "play")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    try:
        if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise ConfigError(f"unknown command '{arguments[0]}'{did_you_mean(arguments[0], COMMANDS)}")
        options = vars(build_parser().parse_args(arguments))
        command = {"train": train, "evaluate": evaluate, "play": play}[options.pop("command")]
        return command(options)
    except ConfigError as error:
        return _complain(error, exit_codes.USAGE)
    except CheckpointError as error:
        return _complain(error, exit_codes.CHECKPOINT)
    except KeyboardInterrupt:  # before there was anything to save, or while evaluating or playing
        return _complain("interrupted", exit_codes.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head -1`
        sys.stderr.close()
        return exit_codes.FINISHED
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror}", exit_codes.DISK)


def train(options: dict[str, Any]) -> int:
    """Train until solved or the budget is spent."""
    run_dir, dashboard = options.pop("run_dir"), options.pop("dashboard")
    config = Config.from_options(options)
    from workers.session import run

    return run(config, run_dir, dashboard)[1]


def evaluate(options: dict[str, Any]) -> int:
    """Evaluate a checkpoint greedily and print its returns."""
    from workers.commands import evaluate_checkpoint

    result = evaluate_checkpoint(options["path"], options["episodes"], options["seed"])
    if options["json"]:
        print(json.dumps(result))
    else:
        print("{env_id}: {mean:.1f} +- {std:.1f} (min {min:.0f}, max {max:.0f}) over {episodes} greedy episodes, "
              "seed {seed}\ncheckpoint {checkpoint}".format(**result))  # fmt: skip
    return 0


def play(options: dict[str, Any]) -> int:
    """Play episodes with the learned policy."""
    from workers.commands import play_checkpoint

    play_checkpoint(options["path"], options["episodes"], options["seed"], options["render"], options["greedy"])
    return 0


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
    parser = Parser(prog="run_a3c.py", description="Asynchronous advantage actor-critic (A3C).", allow_abbrev=False,
                    epilog="Without a command, train is meant; its options: run_a3c.py train --help")  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, required=True)
    formatter = argparse.ArgumentDefaultsHelpFormatter
    add = commands.add_parser
    training = add("train", help="train until solved", formatter_class=formatter, allow_abbrev=False)
    for spec in option_specs():
        _add_option(training, spec)
    training.add_argument("--run-dir", metavar="DIR", help="where the run's files go; default: a new one under runs/")
    training.add_argument(
        "--dashboard", choices=("auto", "on", "off"), default="auto", help="live console, or plain lines"
    )
    evaluating = add("evaluate", help="evaluate a checkpoint", formatter_class=formatter, allow_abbrev=False)
    playing = add("play", help="play with a learned policy", formatter_class=formatter, allow_abbrev=False)
    for command, episodes in ((evaluating, 100), (playing, 3)):
        command.add_argument("path", metavar="RUN_DIR|CHECKPOINT", help="a run directory or a checkpoint's .json")
        command.add_argument("--episodes", type=_positive, default=episodes, metavar="N", help="whole episodes to play")
        command.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed of the environment")
    evaluating.add_argument("--json", action="store_true", help="print one JSON object")
    playing.add_argument("--render", choices=("auto", "human", "text"), default="auto",
                         help="a window, or text; auto: a window where there is a screen")  # fmt: skip
    playing.add_argument("--greedy", action=argparse.BooleanOptionalAction, default=True,
                         help="the most probable action, or a sampled one")  # fmt: skip
    return parser


def _add_option(parser: argparse.ArgumentParser, spec: OptionSpec) -> None:
    flag = f"--{spec.name.replace('_', '-')}"
    if spec.type is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=spec.default, help=spec.meaning)
        return
    meaning = spec.meaning.replace("%", "%%")
    if spec.optional:  # its help says what the default is
        parser.add_argument(flag, type=spec.type, default=argparse.SUPPRESS, metavar=_metavar(spec), help=meaning)
    else:
        parser.add_argument(flag, type=spec.type, default=spec.default, metavar=_metavar(spec), help=meaning,
                            nargs="+" if spec.many else None)  # fmt: skip


def _metavar(spec: OptionSpec) -> str:
    return "|".join(spec.bounds.choices) or {int: "N", float: "X", str: "ID"}[spec.type]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _natural(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and 2^32 - 1, got {text}")
    return number


def _complain(error: object, code: int) -> int:
    print(f"run_a3c.py: error: {error}", file=sys.stderr)
    return code


def command_line() -> NoReturn:
    """Run the command that was typed, and end the process."""
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # whoever read it has gone
        pass
    os._exit(code)  # every file is closed and every child has ended: taking torch apart would only cost half a second


if __name__ == "__main__":
    command_line()
