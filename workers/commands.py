"""Every command: its options, what it calls, and the parser made of them all.

Imports the standard library alone; what a command calls is imported once its options are known to be right.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from a3c.config import Config, ConfigError, OptionSpec, did_you_mean, option, option_specs
from a3c.files import absolute_path, typed_path

SEED: dict[str, Any] = {"low": 0, "high": 2**32 - 1}
DASHBOARD: dict[str, Any] = {"meaning": "live console, or plain lines", "choices": ("auto", "on", "off")}
PROFILE: dict[str, Any] = {"meaning": "show at the end where each worker's time went"}
CLUSTER: dict[str, Any] = {
    "meaning": "spread the workers over a Ray cluster: that on this machine, a private one, or one elsewhere",
    "metavar": "auto|local|HOST:PORT",
}
RENDERERS = ("auto", "human", "text", "terminal")
ENV: dict[str, Any] = {"meaning": "the environment, where the checkpoint's own id is not found", "metavar": "MODULE:ID"}
GREEDY: dict[str, Any] = {"meaning": "the most probable action, or a sampled one"}
POLICY: dict[str, Any] = {"meaning": "a run directory or a checkpoint's .json", "metavar": "RUN_DIR|CHECKPOINT"}


@dataclass(frozen=True)
class Train:
    """Train until solved."""

    run_dir: Path | None = option(None, "where the run's files go (default: a new one under runs/)", metavar="DIR")
    dashboard: str = option("auto", **DASHBOARD)
    profile: bool = option(False, **PROFILE)
    cluster: str | None = option(None, **CLUSTER)
    training: dict[str, Any] = field(default_factory=dict)  # the options of Config that were typed

    def run(self) -> int:
        config = Config.from_options(self.training)
        config.check_belonging(self.training)
        from workers.processes.start import process_started
        from workers.training import train

        shown: dict[str, Any] = {"dashboard": self.dashboard, "profile": self.profile, "cluster": self.cluster}
        return train(config, run_dir=self.run_dir, started=process_started(), **shown).exit_code or 0


@dataclass(frozen=True)
class Resume:
    """Resume a run where its last checkpoint left it, bit for bit in sync and with one worker."""

    run_dir: Path = option(MISSING, "the run's directory", metavar="RUN_DIR")
    max_env_steps: int | None = option(None, "another env-step budget (default: the run's)", low=1)
    workers: int | None = option(None, "another number of workers; not in sync mode", low=1, high=1024)
    any_version: bool = option(False, "resume although packages have other versions than the run was made with")
    dashboard: str = option("auto", **DASHBOARD)
    profile: bool = option(False, **PROFILE)
    cluster: str | None = option(None, **CLUSTER)

    def run(self) -> int:
        from workers.training import resume

        summary = resume(**vars(self))
        return summary.exit_code or 0 if summary else 0


@dataclass(frozen=True)
class Compare:
    """Compare settings over many seeds, with statistics.

    Every option that is given several values is a factor of the study: all their combinations are run with every seed.
    Without a factor: --modes async sync. Several environments: a study of each, and a table of all.
    """

    seeds: int = option(10, "runs of each arm", low=1)
    seed: int = option(0, "the first seed", **SEED)
    tuned: bool = option(False, "start each mode from its own best setting")
    study_dir: Path | None = option(None, "where the study's files go (default: its own under runs/)", metavar="DIR")
    any_version: bool = option(False, "keep runs of other versions of the program; the report lists them")
    dashboard: str = option("auto", **DASHBOARD)
    cluster: str | None = option(None, **CLUSTER)
    training: dict[str, list[Any]] = field(default_factory=dict)  # the values of each that was typed

    def run(self) -> int:
        from workers.comparison.study import plan
        from workers.runs.program import command

        options = {**self.training, "seed": [self.seed]}
        if len(options.get("env", ())) > 1:
            from workers.comparison.environments import run_each

            own = (options, self.seeds, self.tuned, self.study_dir, self.dashboard)
            return run_each(*own, command(*sys.argv[1:]), self.any_version, self.cluster)
        study = plan(options, self.seeds, self.tuned)
        from workers.comparison.run_study import run

        how = (self.dashboard, command(*sys.argv[1:]), self.any_version)
        return run(study, self.study_dir, *how, cluster=self.cluster)[1]


@dataclass(frozen=True)
class Tune:
    """Search for options with which an environment is learned, and confirm them on fresh seeds.

    What is typed is fixed, the other options are searched. The same command resumes a search, and makes more trials.
    """

    trials: int = option(50, "trials, with those of earlier invocations", low=1)
    jobs: int | None = option(None, "trials side by side; default: as many as there are cores for", low=1, high=256)
    seeds: int = option(2, "runs of each trial", low=1, high=100)
    confirm: int = option(5, "runs of the best setting on fresh seeds, and as many without it", low=1, high=1000)
    tune_dir: Path | None = option(None, "where the search's files go (default: its own under runs/)", metavar="DIR")
    dashboard: str = option("auto", **DASHBOARD)
    training: dict[str, Any] = field(default_factory=dict)  # the options that every run has

    def run(self) -> int:
        from workers.runs.program import command
        from workers.tuning.tune import tune

        own = (self.trials, self.jobs, self.seeds, self.confirm, self.tune_dir)
        return tune(self.training, *own, self.dashboard, command(*sys.argv[1:]))


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a checkpoint."""

    path: Path = option(MISSING, **POLICY)
    episodes: int = option(100, "whole episodes to play", low=1)
    seed: int = option(0, "seed of the environment", **SEED)
    env: str | None = option(None, **ENV)
    greedy: bool = option(True, **GREEDY)
    json: bool = option(False, "print one JSON object")

    def run(self) -> int:
        from workers.playing.evaluating import as_json, as_text, evaluate_checkpoint

        result = evaluate_checkpoint(self.path, self.episodes, self.seed, self.env, self.greedy)
        print(as_json(result) if self.json else as_text(result))
        return 0


@dataclass(frozen=True)
class Play:
    """Play with a learned policy."""

    path: Path = option(MISSING, **POLICY)
    episodes: int = option(3, "whole episodes to play", low=1)
    seed: int = option(0, "seed of the environment in the first episode", **SEED)
    env: str | None = option(None, **ENV)
    render: str = option("auto", "auto: a window where there is a screen, else the terminal", choices=RENDERERS)
    terminal: bool = option(False, "the same as --render terminal")
    record: Path | None = option(None, "film the episodes, as .mp4 or .gif; needs no screen", metavar="FILE")
    speed: float = option(1.0, "of the terminal, as a multiple of real time; 0: as fast as it goes", low=0, high=1000)
    greedy: bool = option(True, **GREEDY)
    observation: bool = option(False, "show the images that the policy sees instead of the environment's picture")

    def run(self) -> int:
        from workers.playing.play import play

        play(self)
        return 0


@dataclass(frozen=True)
class Export:
    """Write the policy as ONNX, checked against the checkpoint: outputs, actions, returns of whole episodes."""

    path: Path = option(MISSING, **POLICY)
    format: str = option("onnx", "of the file", choices=("onnx",))
    int8: bool = option(False, "write a second one with weights of 8 bits")
    with_critic: bool = option(False, "the critic's value as a third output")
    output: Path | None = option(None, "where it goes (default: RUN_DIR/policy.onnx)", metavar="FILE")
    episodes: int = option(100, "greedy episodes of the check", low=1)
    seed: int = option(0, "seed of the check", **SEED)
    env: str | None = option(None, **ENV)

    def run(self) -> int:
        from workers.serving.export import export_policy

        output, check = str(self.output) if self.output else None, (self.episodes, self.seed)
        export_policy(str(self.path), output, self.int8, self.with_critic, *check, self.env)
        return 0


@dataclass(frozen=True)
class Serve:
    """Answer requests over HTTP with the policy; the page at / lets you try it."""

    path: Path = option(MISSING, "a run directory or an exported model", metavar="RUN_DIR|MODEL.onnx")
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: everybody can reach it", metavar="HOST")
    port: int = option(8000, "0: a free one, which is printed", low=0, high=2**16 - 1)
    int8: bool = option(False, "of a run directory: serve it with weights of 8 bits")
    threads: int = option(1, "that answer; small networks are served fastest by one", low=1)
    env: str | None = option(None, **ENV)

    def run(self) -> int:
        from workers.serving.server import serve

        return serve(str(self.path), self.host, self.port, self.int8, self.threads, self.env)


GROUPS = {"": "training", "loss": "objective"}  # the heading of each part of --help, where it is not the section's name
COMMANDS: dict[str, Any] = {
    c.__name__.lower(): c for c in (Train, Resume, Compare, Tune, Evaluate, Play, Export, Serve)
}
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", bool: "yes|no"}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse(arguments: Sequence[str]) -> Any:
    """The command that was typed, an instance of its dataclass; raises ConfigError."""
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: run_a3c.py [COMMAND] [OPTION ...]\n\nAsynchronous advantage actor-critic (A3C).\n")
        for name, kind in COMMANDS.items():
            print(f"  {name:<10}{kind.__doc__.splitlines()[0]}")
        print("\nWithout a command, train is meant. Options: run_a3c.py COMMAND --help")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        arguments = ["train", *arguments]
    command, *words = arguments
    if command not in COMMANDS:
        raise ConfigError(f"unknown command '{command}'{did_you_mean(command, COMMANDS)}")
    if empty := [word for word in words if word.endswith("=--")]:  # which argparse drops
        raise ConfigError(f"{empty[0].removesuffix('=--')}: expected a value, got '--'")
    kind, parser = COMMANDS[command], _parser(command)
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        near = did_you_mean(unknown[0].split("=")[0], parser._option_string_actions)
        raise ConfigError(f"unknown option '{unknown[0]}'{near}")
    typed, own = vars(namespace), {}
    for spec in option_specs(kind):
        if spec.name in typed:
            value = own[spec.name] = typed.pop(spec.name)
            if spec.type is Path:
                value = own[spec.name] = typed_path(spec.name, value)
                absolute_path(spec.name, value)  # which is refused where the current folder is gone
            spec.check(value)
    return kind(**own, **({"training": typed} if typed else {}))


def _parser(command: str) -> Parser:
    kind = COMMANDS[command]
    parser, groups = Parser(f"run_a3c.py {command}", description=kind.__doc__, allow_abbrev=False), {}
    own = {spec.name: spec for spec in option_specs(kind)}
    for spec in own.values():
        _add_option(parser, spec)
    for spec in option_specs() if kind in (Train, Compare, Tune) else ():
        if spec.section not in groups:
            groups[spec.section] = parser.add_argument_group(GROUPS.get(spec.section, spec.section))
        if spec.name not in own:
            _add_option(groups[spec.section], spec, several=kind is Compare)
    return parser


def _add_option(group: Any, spec: OptionSpec, several: bool = False) -> None:
    """One option, with any number of values where it may be a factor of a study; unless it is typed, it is left out."""
    if spec.default is MISSING:
        group.add_argument(spec.name, metavar=spec.metavar, help=spec.meaning)
        return
    shown = (" ".join(map(str, spec.default)) or None) if spec.many else spec.default
    belongs = f"{', '.join(spec.of)}: " if spec.of and len(spec.of) <= 3 else ""
    meaning = belongs + spec.meaning + ("" if shown is None or shown is False else f" (default: {shown})")
    settings: dict[str, Any] = {"dest": spec.name, "default": argparse.SUPPRESS, "help": meaning.replace("%", "%%")}
    if spec.type is bool and not several:
        group.add_argument(spec.flag, action=argparse.BooleanOptionalAction, **settings)
        return
    if spec.type is bool:
        hidden = {**settings, "help": argparse.SUPPRESS}
        group.add_argument(f"--no-{spec.flag[2:]}", action="store_const", const=[False], **hidden)
    metavar = spec.metavar or "|".join(spec.choices) or METAVARS[spec.type]
    convert: Any = {bool: yes_or_no, Path: str}.get(spec.type, spec.type)
    if several and spec.many:
        convert, metavar = functools.partial(joined, spec.type), f"{METAVARS[spec.type]},..."
    flags = ["--modes", "--mode"] if several and spec.name == "mode" else [spec.flag]
    group.add_argument(*flags, **settings, type=convert, metavar=metavar, nargs="+" if several or spec.many else None)


def yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError("must be yes or no")
    return text == "yes"


def joined(kind: type, text: str) -> tuple[Any, ...]:
    try:
        return tuple(map(kind, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError("must be values joined by commas, such as layer sizes") from None
