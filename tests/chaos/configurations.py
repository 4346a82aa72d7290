"""Command lines that cannot be meant: generated, run inside this process, and each to be refused in one line."""

import contextlib
import io
import os
import random
import re
import tempfile
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import psutil

import run_a3c
from a3c.config import OptionSpec, option_specs
from tests.chaos.outcome import Outcome

NOT_FINITE = ("nan", "inf", "-inf", "1e999", "NaN", "-Infinity")
NO_NUMBERS = ("four", "", " ", "0x10", "1,5", "1/2", "None", "--", "²", "\x1b[2J", "4\n5", "'", "%s", "{}", "漢")
NO_INTEGERS = (*NO_NUMBERS, *NOT_FINITE, "2.5", "1e3", "0.0", "true")
NO_ENVIRONMENTS = (
    "",
    "CartPole",
    "cartpole-v1",
    "CartPole-v1 ",
    "CartPole-v99",
    "CartPole",
    "Nothing-v0",
    "a/b/c-v0",
    ":",
    "nowhere:CartPole-v1",
    "Car\ntPole-v1",
    "\x1b[31mCartPole-v1",
    "../../x",
    "gymnasium:Pendulum",
    "gymnasium.spaces:Box",
    "%s-v1",
    "x" * 5000,
)
NO_FOLDERS = ("/dev/null/run", "/proc/run", "x" * 300)
NEAR_MISSES = ("{}s", "{}_", "x{}", "-{}", "{}=")  # of an option's name


class BadConfiguration(NamedTuple):
    """A command line that must be refused."""

    arguments: list[str]
    names: tuple[str, ...]  # one of which the refusal has to name


def bad_configurations(count: int, seed: int) -> Outcome:
    """Run bad command lines in this process: each is refused with 2 and a line that names what is wrong.

    Nothing else may happen: no process is started, no file or directory made, nothing printed.
    """
    rng = random.Random(seed)
    bad = [generate(rng) for _ in range(count)]
    trials = [(True, complaint(one)) for one in bad]
    return Outcome.of(trials, f"{len({tuple(one.arguments) for one in bad})} different ones")


def generate(rng: random.Random) -> BadConfiguration:
    """One bad command line."""
    kinds = {_bad_value: 8, _unknown_option: 3, _bad_study: 2, _bad_use: 2, _bad_choice: 1, _unknown_command: 1}
    return rng.choices(list(kinds), list(kinds.values()))[0](rng)


def complaint(bad: BadConfiguration) -> str:
    """What a command does other than refusing, '' where it does as it should."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    output, errors = io.StringIO(), io.StringIO()
    try:
        with _in_empty_folder() as folder, _nothing_starts(), _captured(output, errors):
            code = run_a3c.main(list(bad.arguments))
            files = os.listdir(folder)
    except BaseException as error:  # whatever leaves main is a traceback for the user
        return f"{bad.arguments}: {error!r}"
    wrong = [*_wrong_answers(code, output.getvalue(), errors.getvalue(), bad.names)]
    if new := {child.pid for child in psutil.Process().children(recursive=True)} - before:
        wrong.append(f"it started {new}")
    if files:
        wrong.append(f"it made {files}")
    return f"{bad.arguments}: {'; '.join(wrong)}" if wrong else ""


def _wrong_answers(code: int, output: str, errors: str, names: tuple[str, ...]) -> Iterator[str]:
    if code != 2:
        yield f"exit code {code}"
    if output:
        yield f"it printed {output!r}"
    if not re.fullmatch(r"run_a3c\.py: error: [^\x00-\x1f\x7f]+\n", errors):
        yield f"not one clean line: {errors!r}"
    if not any(name in errors for name in names):
        yield f"none of {names} named: {errors!r}"


@contextlib.contextmanager
def _in_empty_folder() -> Iterator[str]:
    """A current directory in which whatever is made can be seen."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield folder


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Let a run that was accepted after all end where it would start its processes."""
    accepted = AssertionError("accepted")
    with (
        mock.patch("workers.training.start_forkserver", side_effect=accepted),
        mock.patch("workers.comparison.run_study.start_forkserver", side_effect=accepted),
    ):
        yield


@contextlib.contextmanager
def _captured(output: io.StringIO, errors: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        yield


# -- the kinds ----------------------------------------------------------------------------------------------------


def _bad_value(rng: random.Random) -> BadConfiguration:
    """One option with a value that it cannot take, among good ones."""
    spec = rng.choice([spec for spec in option_specs() if spec.type is not bool])
    good = ["--gamma", "0.9"] if spec.name != "gamma" and rng.random() < 0.3 else []
    return BadConfiguration([*_train(rng), *good, f"{_flag(spec)}={rng.choice(_bad_values(spec))}"], _names(spec))


def _bad_values(spec: OptionSpec) -> list[str]:
    if spec.name == "env":
        return list(NO_ENVIRONMENTS)
    if spec.choices:
        return [*NO_NUMBERS, *(choice.upper() for choice in spec.choices), spec.choices[0] + "x"]
    values = list(NO_INTEGERS if spec.type is int else (*NO_NUMBERS, *NOT_FINITE))
    low, high = max(spec.low, spec.above), min(spec.high, spec.below)
    values += [str(spec.type(low) - 1), "-1e300"[: None if spec.type is float else 2]] if low > -1e300 else []
    values += [str(spec.type(low))] if spec.above > -1e300 else []
    values += [str(spec.type(high) + 1), f"{10**30}"] if high < 1e300 else []
    return values + ([str(spec.type(high))] if spec.below < 1e300 else [])


def _unknown_option(rng: random.Random) -> BadConfiguration:
    """A name that is no option's, though nearly so, for any command."""
    name = rng.choice(option_specs()).name.replace("_", "-")
    place = rng.randrange(1, len(name))
    misspelt = rng.choice(
        [
            *(near.format(name) for near in NEAR_MISSES[:3]),
            name[:place] + name[place + 1 :],
            name[:place] + "q" + name[place:],
            name.upper(),
            name + "\n",
            name + "\x1b[2J",
        ]
    )
    known = {flag for spec in option_specs() for flag in (_flag(spec), f"--no-{_flag(spec)[2:]}")}
    if f"--{misspelt}" in {*known, "--modes", "--seeds", "--run-dir", "--env", "--episodes"}:
        misspelt = f"x{name}"
    command = rng.choice(
        [["train"], [], ["compare"], ["resume", "nowhere"], ["evaluate", "nowhere"], ["play", "nowhere"]]
    )
    clean = misspelt.split("\n")[0].split("\x1b")[0]
    return BadConfiguration([*command, f"--{misspelt}", *rng.choice([[], ["1"]])], (clean,))


def _bad_study(rng: random.Random) -> BadConfiguration:
    """One bad value among a factor's good ones."""
    spec = rng.choice(option_specs())
    if spec.name == "seed":
        return BadConfiguration(["compare", f"--seed={rng.choice((*NO_INTEGERS, '-1', str(2**32)))}"], ("seed",))
    if spec.type is bool:
        return BadConfiguration(["compare", _flag(spec), rng.choice(("maybe", "1", "True", "y\nes"))], _names(spec))
    good = {"env": "CartPole-v1"}.get(spec.name) or (spec.choices or ("1",))[0]
    bad = rng.choice([value for value in _bad_values(spec) if not (spec.many and value == "1,5")])
    values = [good, bad] if not bad.startswith("-") else [good]
    extra = [] if not bad.startswith("-") else [f"{_flag(spec)}={bad}"]
    names = (*_names(spec), "mode") if spec.name != "env" else ("env", bad.strip())
    return BadConfiguration(["compare", _flag(spec), *values, *extra], names)


def _bad_use(rng: random.Random) -> BadConfiguration:
    """Options of the commands that use a run or its policy."""
    command = rng.choice(("evaluate", "play", "resume"))
    if command == "resume":
        option = rng.choice(("workers", "max-env-steps"))
        return BadConfiguration([command, "nowhere", f"--{option}={rng.choice(NO_INTEGERS)}"], (option,))
    option, values = rng.choice((("episodes", (*NO_INTEGERS, "0", "-1")), ("seed", (*NO_INTEGERS, "-1", str(2**32)))))
    return BadConfiguration([command, "nowhere", f"--{option}={rng.choice(values)}"], (option,))


def _bad_choice(rng: random.Random) -> BadConfiguration:
    """Options that only the command line knows."""
    value = rng.choice(("", "maybe", "ON", "a\nb", "\x1b[2J"))
    return rng.choice(
        [
            BadConfiguration([*_train(rng), f"--dashboard={value}"], ("dashboard",)),
            BadConfiguration([*_train(rng), f"--preset={value}"], ("preset",)),
            BadConfiguration(["compare", f"--seeds={rng.choice((*NO_INTEGERS, '0', '-1'))}"], ("seeds",)),
            BadConfiguration(["play", "nowhere", f"--render={value}"], ("render",)),
            BadConfiguration([rng.choice(("evaluate", "play"))], ("RUN_DIR",)),
            BadConfiguration([*_train(rng), f"--run-dir={rng.choice(NO_FOLDERS)}"], ("run_dir",)),
            BadConfiguration([*_train(rng), "--hidden-sizes"], ("hidden-sizes",)),
        ]
    )


def _unknown_command(rng: random.Random) -> BadConfiguration:
    name = rng.choice(("trian", "traine", "TRAIN", "", "evalute", "compare ", "a\nb", "\x1b[2J", "4", "runs"))
    return BadConfiguration([name, *rng.choice([[], ["--workers", "2"]])], ("command",))


def _train(rng: random.Random) -> list[str]:
    return rng.choice([[], ["train"]])


def _flag(spec: OptionSpec) -> str:
    return f"--{spec.name.replace('_', '-')}"


def _names(spec: OptionSpec) -> tuple[str, ...]:
    return (spec.name, spec.name.replace("_", "-"))
