"""Episodes of a trained policy to watch: in a window, drawn in the terminal, as text, or on film."""

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import gymnasium
import numpy as np
from rich.console import Console

from a3c.actors import Policy
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec
from a3c.serial import close_all
from workers.commands import Play
from workers.console.screen import Screen
from workers.extras import require
from workers.playing import terminal_view
from workers.playing.episode import Player, Step
from workers.playing.evaluating import load
from workers.playing.recording import recording
from workers.processes.preflight import environment_output
from workers.runs.resume import stored_config

DEFAULT_FPS = 30.0  # of an environment that has none of its own
LAST_FRAME_SECONDS = 0.8  # for which the end of an episode can be seen
VIDEO_DRIVER = "SDL_VIDEODRIVER"


def play(options: Play) -> None:
    """Play episodes with a learned policy and print a line about each; those after the first have the next seeds.

    Raises:
        ConfigError, CheckpointError: an option cannot be used here; raised before the first step.
        OSError: the film cannot be written.
    """
    checkpoint, environment = load(options.path, options.env)
    policy, gamma = Policy(checkpoint.model), _gamma(checkpoint.path.absolute().parent.parent)
    renderer = _renderer("terminal" if options.terminal else options.render, options.record)
    if options.observation and not environment.observation.images:
        raise ConfigError(f"observation: a policy of {environment.env_id} sees numbers; leave --observation out")
    if options.observation and renderer == "human":
        renderer = "terminal"
    with ExitStack() as stack:
        _exit_on_signals(stack)
        stack.enter_context(_drawing_errors())
        env = stack.enter_context(_made(environment, renderer, options.record))
        show, say = stack.enter_context(_view(env, renderer, options.record, options.speed))
        rng = np.random.default_rng(options.seed)
        player = Player(env, environment, policy, options.greedy, rng, gamma, options.observation)
        for index in range(options.episodes):
            line = player.play(f"episode {index + 1} of {options.episodes}", options.seed + index, show)
            say(f"episode {index + 1}: {line}")
    if options.record is not None:
        print(f"recorded {options.record}", flush=True)


def _renderer(asked: str, record: Path | None) -> str:
    """What `auto` means here: human (a window), terminal or text; anything else is itself, where it is possible."""
    drivers = ("DISPLAY", "WAYLAND_DISPLAY", VIDEO_DRIVER)
    screen = sys.platform == "darwin" or any(os.environ.get(name) for name in drivers)
    if asked == "human" and record is not None:
        raise ConfigError("record: pictures go to a window or into a film; use --render terminal or text with it")
    if asked == "human" and not screen:
        raise ConfigError("render: there is no screen here to open a window on; use --render terminal or text")
    if asked != "auto":
        return asked
    if record is not None:  # as fast as it can be filmed
        return "text"
    if screen and importlib.util.find_spec("pygame") is not None:
        return "human"
    console = Console()
    return "terminal" if console.is_terminal and not console.is_dumb_terminal else "text"


def _gamma(run_dir: Path) -> float | None:
    """The discount with which a run's critic learned; None where its config.json is missing or damaged."""
    try:
        return stored_config(run_dir)[0].loss.gamma
    except CheckpointError:
        file = run_dir / "config.json"
        print(f"run_a3c.py: no value error without the run's gamma, which '{file}' does not have", file=sys.stderr)
        return None


@contextmanager
def _made(environment: EnvironmentSpec, renderer: str, record: Path | None) -> Iterator[gymnasium.Env[Any, Any]]:
    """The environment in the mode that renders what is needed; where it renders nothing, there is still the text."""
    with environment_output():
        plain = environment.make_one()
        modes = plain.metadata.get("render_modes", [])
        close_all([plain])
        if record is not None and "rgb_array" not in modes:
            raise ConfigError(f"record: {environment.env_id} draws no pictures: it has no render mode rgb_array")
        if renderer == "human" and "human" not in modes:
            raise ConfigError(f"render: {environment.env_id} has no window to show; use --render terminal or text")
        pictured = record is not None or (environment.observation.images and renderer == "terminal")
        mode = "rgb_array" if pictured else "human" if renderer == "human" else "ansi"
        env = environment.make_one(mode if mode in modes else None)
    try:
        yield env
    finally:
        with environment_output():
            close_all([env])


@contextmanager
def _view(
    env: gymnasium.Env[Any, Any], renderer: str, record: Path | None, speed: float
) -> Iterator[tuple[Callable[[Step], None], Callable[[str], None]]]:
    """Functions that show a step and print a line; the end of the `with` completes the film, or discards it."""
    declared, pace = env.metadata.get("render_fps"), Pace(speed)
    fps = float(declared) if isinstance(declared, int | float) and 0 < declared < 1000 else DEFAULT_FPS
    with ExitStack() as stack:
        film = None
        if record is not None:
            os.environ[VIDEO_DRIVER] = "dummy"  # drawn in memory: SDL shall neither look for a display nor miss one
            film = stack.enter_context(recording(record, fps))
        screen = stack.enter_context(Screen(Console(), renderer == "terminal"))
        if renderer == "terminal" and not screen.is_live:  # as in a pipe
            print("run_a3c.py: there is no terminal here to draw in; the episodes follow as text", file=sys.stderr)

        def show(step: Step) -> None:
            if film is not None:
                film(step.pixels)
            if screen.is_live:
                screen.draw(lambda width, height: terminal_view.render(step, width, height))
                pace.wait(LAST_FRAME_SECONDS if step.ending else 1 / fps)
            elif step.picture:
                print(step.picture, flush=True)

        def say(line: str) -> None:
            if screen.is_live:  # above the frame
                screen.print(lambda: line)
            else:
                print(line, flush=True)

        yield show, say


class Pace:
    """Real time, multiplied by `speed`: frames stay equally long, whatever the work between takes; 0: no waits."""

    def __init__(self, speed: float):
        self._speed, self._due = speed, time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait until so many seconds after the end of the wait before."""
        if self._speed:
            now = time.monotonic()
            self._due = max(self._due + min(seconds / self._speed, 3600), now)  # a suspension is not made up for
            time.sleep(self._due - now)


@contextmanager
def _drawing_errors() -> Iterator[None]:
    """Turn what an environment cannot draw with into a line."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        require("render", "play", ["pygame"])
        raise ConfigError(f"render: {error}") from error  # then it is another package, and the message names it
    except RuntimeError as error:
        if type(error).__module__ != "pygame":
            raise
        raise ConfigError(f"render: pygame cannot draw here: {error}; use --render terminal or text") from error


def _exit_on_signals(stack: ExitStack) -> None:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: the terminal is restored, and no half film is left."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup it is ignored
            signal.signal(number, end)
            stack.callback(signal.signal, number, signal.SIG_DFL)
