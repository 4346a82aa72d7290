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
from workers.console.screen import Screen
from workers.extras import missing
from workers.playing import terminal_view
from workers.playing.episode import Moment, Player
from workers.playing.evaluating import load
from workers.playing.recording import Recording
from workers.processes.output import environment_output
from workers.runs.resume import stored_config

UNKNOWN_FPS = 30.0  # of an environment that does not tell its own
LINGER = 0.8  # seconds for which the end of an episode can be seen
VIDEO_DRIVER = "SDL_VIDEODRIVER"
Show = Callable[[Moment], None]
Say = Callable[[str], None]


def play_checkpoint(
    path: str,
    episodes: int,
    seed: int,
    render: str,
    greedy: bool,
    record: str | None,
    speed: float,
    env: str | None = None,
) -> None:
    """Play episodes with a learned policy and say of each how it went.

    Args:
        path: a run directory or a checkpoint.
        seed: of the first episode; those after it have the next ones.
        render: human (a window), terminal (drawn in it), text, or auto: the first of these that can be had.
        greedy: the most probable action, or a sampled one.
        record: an .mp4 or .gif file for one film of all episodes, made without a window; None for no film.
        speed: of the terminal, in multiples of real time; 0 is as fast as it can be drawn.
        env: the id by which the environment is found; default: the checkpoint's own.
    Raises:
        ConfigError, CheckpointError: that cannot be had; told before the first step.
        OSError: the film cannot be written.
    """
    if speed and not 1e-3 <= speed <= 1e3:
        raise ConfigError(f"speed: must be 0, for as fast as it can be drawn, or between 0.001 and 1000, got {speed:g}")
    checkpoint, environment = load(path, env)
    look, gamma = _look(render, record), _gamma(checkpoint.path)
    with ExitStack() as stack:
        stack.enter_context(_ended_in_order())
        stack.enter_context(_drawing_errors())
        one = _open(environment, look, record)
        stack.callback(_close, one)
        show, say = stack.enter_context(_stage(one, look, record, speed))
        player = Player(one, environment, Policy(checkpoint.model), greedy, np.random.default_rng(seed), gamma)
        for index in range(episodes):
            episode = player.play(f"episode {index + 1} of {episodes}", seed + index, show)
            say(f"episode {index + 1}: {episode}")
    if record is not None:
        print(f"recorded {record}", flush=True)


def _look(render: str, record: str | None) -> str:
    """What `auto` means here; anything else is what it is, where it can be had."""
    drivers = ("DISPLAY", "WAYLAND_DISPLAY", VIDEO_DRIVER)
    screen = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in drivers)
    if render == "human" and record is not None:
        raise ConfigError("record: pictures go to a window or into a film; use --render terminal or text with it")
    if render == "human" and not screen:
        raise ConfigError("render: there is no screen here to open a window on; use --render terminal or text")
    if render != "auto":
        return render
    if record is not None:  # as fast as it can be filmed
        return "text"
    if screen and importlib.util.find_spec("pygame") is not None:
        return "human"
    console = Console()
    return "terminal" if console.is_terminal and not console.is_dumb_terminal else "text"


def _gamma(manifest: Path) -> float | None:
    """The discount of the run that a checkpoint belongs to; None where its config.json is not there to tell."""
    run_dir = manifest.absolute().parent.parent
    try:
        return stored_config(run_dir)[0].loss.gamma
    except CheckpointError:
        print(
            f"run_a3c.py: '{run_dir / 'config.json'}' does not tell the run's gamma, without which no value error is "
            "known",
            file=sys.stderr,
        )
        return None


def _open(environment: EnvironmentSpec, look: str, record: str | None) -> gymnasium.Env[Any, Any]:
    """The environment in the mode that draws what is wanted; where it draws nothing, there is still the text."""
    with environment_output():
        plain = environment.make_one()
        modes = plain.metadata.get("render_modes", [])
        close_all([plain])
    if record is not None and "rgb_array" not in modes:
        raise ConfigError(f"record: {environment.env_id} draws no pictures: it has no render mode rgb_array")
    if look == "human" and "human" not in modes:
        raise ConfigError(f"render: {environment.env_id} has no window to show; use --render terminal or text")
    mode = "rgb_array" if record is not None else "human" if look == "human" else "ansi"
    with environment_output():
        return environment.make_one(mode if mode in modes else None)


def _close(one: gymnasium.Env[Any, Any]) -> None:
    with environment_output():
        close_all([one])


@contextmanager
def _stage(one: gymnasium.Env[Any, Any], look: str, record: str | None, speed: float) -> Iterator[tuple[Show, Say]]:
    """How a moment is shown and a line said while a `with` lasts; its end completes the film, or discards it."""
    fps, shows = _fps(one), list[Show]()
    with ExitStack() as stack:
        if record is not None:
            stack.enter_context(_no_display())
            recording = stack.enter_context(Recording(Path(record), fps))
            shows.append(lambda _: recording.add(_picture(one)))
        screen = stack.enter_context(Screen(Console(), look == "terminal"))
        if screen.is_live:
            shows.append(_live(screen, fps, speed))
        elif look == "terminal":  # as in a pipe: what can still be told is worth more than an error
            print("run_a3c.py: there is no terminal here to draw in; the episodes follow as text", file=sys.stderr)
        if not screen.is_live:
            shows.append(_print_picture)
        yield _all(shows), lambda line: _say(screen, line)


def _picture(one: gymnasium.Env[Any, Any]) -> Any:
    with environment_output():
        return one.render()


def _live(screen: Screen, fps: float, speed: float) -> Show:
    pace = Pace(speed)

    def show(moment: Moment) -> None:
        screen.draw(lambda width, height: terminal_view.render(moment, width, height))
        pace.wait(LINGER if moment.ending else 1 / fps)

    return show


def _print_picture(moment: Moment) -> None:
    if moment.picture:
        print(moment.picture, flush=True)


def _all(shows: list[Show]) -> Show:
    def show(moment: Moment) -> None:
        for one in shows:
            one(moment)

    return show


def _say(screen: Screen, line: str) -> None:
    """Above the frame, where there is one."""
    if screen.is_live:
        screen.print(lambda: line)
    else:
        print(line, flush=True)


class Pace:
    """Real time: what is shown stays for equally long, whatever the work between takes.

    Args:
        speed: multiplies it; 0: nothing waits.
    """

    def __init__(self, speed: float):
        self._speed, self._due = speed, time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait until so many seconds after the end of the wait before."""
        if self._speed:
            now = time.monotonic()
            self._due = max(self._due + seconds / self._speed, now)  # a suspension is not made up for
            time.sleep(self._due - now)


def _fps(one: gymnasium.Env[Any, Any]) -> float:
    """Pictures per second, as the environment has it; one is drawn for every step."""
    fps = one.metadata.get("render_fps")
    return float(fps) if isinstance(fps, int | float) and 0 < fps < 1000 else UNKNOWN_FPS


@contextmanager
def _no_display() -> Iterator[None]:
    """Pictures are drawn in memory: SDL shall neither look for a display nor miss one."""
    before = os.environ.get(VIDEO_DRIVER)
    os.environ[VIDEO_DRIVER] = "dummy"
    try:
        yield
    finally:
        del os.environ[VIDEO_DRIVER]
        if before is not None:
            os.environ[VIDEO_DRIVER] = before


@contextmanager
def _drawing_errors() -> Iterator[None]:
    """Turn what an environment cannot draw with into a line."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        if importlib.util.find_spec("pygame") is not None:  # then it is another package, and the message names it
            raise ConfigError(f"render: {error}") from error
        raise missing("render", "play") from error
    except RuntimeError as error:
        if type(error).__module__ != "pygame":
            raise
        raise ConfigError(f"render: pygame cannot draw here: {error}; use --render terminal or text") from error


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: the terminal is given back, and no half film is left."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # under nohup it is ignored
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
