"""`run_a3c.py play`: what there is to watch of a policy, and what is said of each episode."""

import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
import psutil
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from a3c import Config, load_policy
from a3c.checkpoint import save_checkpoint
from a3c.config import LossConfig
from tests.chaos.signals import left_behind
from tests.process.command import ESCAPE, Program, run_here
from tests.process.terminal import CTRL_C, CTRL_Z, HIDE_CURSOR, SUSPENDED, Job
from tests.unit.networks import mlp
from tests.unit.scripted_environments import Endless, Script, register
from tests.unit.test_play_view import value_error_oracle
from workers.runs.resume import stored_config

CLEAR = "\x1b[2J"
NO_DISPLAY = ":4711"
LIMIT = 5  # steps of a short run's episodes, too few for any pole to fall
SolvedRun = tuple[Path, str, dict[str, Any]]


def saved(run_dir: Path, env_id: str, sizes: tuple[int, int], config: Config | None = None) -> Path:
    """A run directory that holds the best policy of a run, untrained, and the config.json where there is one."""
    torch.manual_seed(0)
    (run_dir / "checkpoints").mkdir(parents=True)
    facts = {"env_id": env_id, "max_episode_steps": LIMIT, "updates": 1}
    save_checkpoint(run_dir / "checkpoints", "best", mlp(*sizes, [8]), facts)
    if config is not None:
        (run_dir / "config.json").write_text(json.dumps({"options": config.to_options()}))
    return run_dir


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CartPole for a few steps an episode."""
    return saved(tmp_path_factory.mktemp("short") / "run", "CartPole-v1", (4, 2), Config())


def test_each_episodes_return_length_end_and_value_error_are_told(solved_run: SolvedRun) -> None:
    """The value error is that of the same episode, played and added up by hand."""
    code, output = run_here("play", solved_run[0], "--episodes", 2, "--render", "text", "--seed", 3)
    assert code == 0, output
    lines, gamma = output.splitlines(), stored_config(solved_run[0])[0].loss.gamma
    assert [line.split(":")[0] for line in lines] == ["episode 1", "episode 2"]
    for index, line in enumerate(lines):
        rewards, values, terminated = by_hand(solved_run[0], seed=3 + index)
        told = re.fullmatch(
            r"episode \d: return (\d+), (\d+) steps, (.+), mean value error ([+-]\d+\.\d\d), explained variance \S+",
            line,
        )
        assert told, line
        assert told[1] == told[2] == str(len(rewards))
        assert told[3] == ("terminated" if terminated else "reached the time limit")
        expected = value_error_oracle(rewards, values, terminated, gamma)
        assert float(told[4]) == pytest.approx(expected, abs=0.006)


def by_hand(run_dir: Path, seed: int) -> tuple[list[float], list[float], bool]:
    """The rewards and values of a greedy episode, and whether it terminated."""
    policy, environment = load_policy(run_dir), gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=seed)
    rewards, values = list[float](), [float(policy.values(observation[None])[0])]
    terminated = truncated = False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, _ = environment.step(int(policy(observation[None])[0]))
        rewards.append(float(reward))
        values.append(float(policy.values(observation[None])[0]))
    return rewards, values, terminated


def test_the_value_error_takes_each_reward_at_its_step(tmp_path: Path) -> None:
    rewards = [3.0, -1.0, 20.0, 0.5]
    run_dir = saved(tmp_path / "run", register(Script, rewards=[rewards]), (2, 2), Config(loss=LossConfig(gamma=0.5)))
    code, output = run_here("play", run_dir, "--episodes", 1, "--render", "text")
    assert code == 0, output
    values = load_policy(run_dir).values([[0, step] for step in range(5)]).tolist()
    expected = value_error_oracle(rewards, values, terminated=True, gamma=0.5)
    assert output.startswith(
        f"episode 1: return 22.5, 4 steps, terminated, mean value error {expected:+.2f}, explained "
    )


def test_without_the_runs_config_the_value_error_is_unknown_and_the_rest_is_told(tmp_path: Path) -> None:
    code, output = run_here("play", saved(tmp_path / "run", "CartPole-v1", (4, 2)), "--episodes", 2, "--render", "text")
    assert code == 0
    assert output.count("no value error without the run's gamma") == 1
    assert output.count(f"return {LIMIT}, {LIMIT} steps, reached the time limit, mean value error unknown\n") == 2


class Lamp(gymnasium.Env[Any, Any]):
    """Draws itself as text, and takes the actions 1 and 2."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - as Gymnasium has it
    action_space = Discrete(2, start=1)
    observation_space = Box(0, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.action = render_mode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.action = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.action = action
        return np.ones(1, np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return f"lamp after {self.action}"


def test_an_environments_own_text_is_printed_for_every_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):  # whatever drew in this process before
        monkeypatch.delenv(name, raising=False)
    code, output = run_here("play", saved(tmp_path / "run", register(Lamp), (1, 2), Config()), "--episodes", 1)
    assert code == 0, output
    lines = output.splitlines()
    assert lines[0] == "lamp after 0"
    assert set(lines[1:-1]) < {"lamp after 1", "lamp after 2"}
    assert len(lines) == 1 + LIMIT + 1
    assert lines[-1].startswith("episode 1: ")


@pytest.mark.parametrize("driver", ["", "dummy"])
def test_a_window_that_cannot_be_opened_is_one_line(
    short_run: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    for name, value in (("DISPLAY", ""), ("WAYLAND_DISPLAY", ""), ("SDL_VIDEODRIVER", driver)):
        monkeypatch.setenv(name, value)
    code, output = run_here("play", short_run, "--episodes", 1, "--render", "human")
    if code == 0:  # pygame is installed, and its dummy screen takes every window
        assert driver
        assert output.startswith("episode 1: return")
    else:
        assert code == 2
        assert len(output.splitlines()) == 1
        assert output.startswith("run_a3c.py: error: render: ")


def test_a_display_that_is_named_but_not_there_is_one_line(short_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DISPLAY", NO_DISPLAY), ("WAYLAND_DISPLAY", ""), ("SDL_VIDEODRIVER", "x11")):
        monkeypatch.setenv(name, value)
    code, output = run_here("play", short_run, "--episodes", 1)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert output.startswith("run_a3c.py: error: render: ")


# -- films ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "driver"), [(".mp4", None), (".gif", "x11")])
def test_a_film_shows_every_state_of_all_episodes_and_needs_no_display(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, driver: str | None
) -> None:
    monkeypatch.setenv("DISPLAY", NO_DISPLAY)
    monkeypatch.setenv("SDL_VIDEODRIVER", driver or "")  # which the program changes for the rest of its life
    film = tmp_path / f"film{ending}"
    film.write_text("an older film")
    code, output = run_here("play", short_run, "--episodes", 2, "--seed", 7, "--record", film)
    assert code == 0, output
    assert output.splitlines()[-1] == f"recorded {film}"
    assert list(tmp_path.iterdir()) == [film]

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown, expected = pictures(film), [*states(short_run, seed=7), *states(short_run, seed=8)]
    assert len(shown) == len(expected) == 2 * (LIMIT + 1)
    distances = np.array([[np.abs(one.astype(float) - other).mean() for other in expected] for one in shown])
    assert distances.diagonal() == pytest.approx(distances.min(axis=1))  # each is its own state's, and no other's
    assert distances.max() > 10 * distances.diagonal().max()


def pictures(film: Path) -> list[NDArray[np.uint8]]:
    """All pictures of a film, which must show 50 of them a second."""
    if film.suffix == ".gif":
        with Image.open(film) as image:
            frames = [
                (frame.info["duration"], np.asarray(frame.convert("RGB"))) for frame in ImageSequence.Iterator(image)
            ]
        assert {duration for duration, _ in frames} == {20}  # milliseconds
        return [frame for _, frame in frames]
    reader = imageio_ffmpeg.read_frames(str(film))
    facts = next(reader)
    assert facts["fps"] == 50
    width, height = facts["source_size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


def states(run_dir: Path, seed: int) -> list[NDArray[np.uint8]]:
    """What Gymnasium draws of a greedy episode."""
    policy = load_policy(run_dir)
    environment = gymnasium.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=LIMIT)
    observation, _ = environment.reset(seed=seed)
    drawn, over = [environment.render()], False
    while not over:
        observation, _, terminated, truncated, _ = environment.step(int(policy(observation[None])[0]))
        drawn.append(environment.render())
        over = terminated or truncated
    environment.close()
    return drawn  # type: ignore[return-value]


class Square(Lamp):
    """Draws pictures of an odd size."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def render(self) -> Any:
        return np.full((31, 33, 3), 255, np.uint8)


def test_a_film_of_an_odd_size_gets_an_edge_where_its_format_needs_one(tmp_path: Path) -> None:
    run_dir = saved(tmp_path / "run", register(Square), (1, 2), Config())
    for ending, size in ((".mp4", (34, 32)), (".gif", (33, 31))):
        film = tmp_path / f"film{ending}"
        code, output = run_here("play", run_dir, "--episodes", 1, "--record", film)
        assert code == 0, output
        assert next(imageio_ffmpeg.read_frames(str(film)))["source_size"] == size


def test_a_film_that_cannot_be_made_is_one_line_before_the_first_episode(short_run: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    blind = saved(tmp_path / "run", register(Endless), (1, 2), Config())
    for run_dir, film, options, reason in (
        (short_run, "film.avi", (), "ends in neither .mp4 nor .gif"),
        (short_run, "folder.mp4", (), "is a directory"),
        (short_run, "nowhere/film.mp4", (), "cannot be written: No such file or directory"),
        (short_run, "film.mp4", ("--render", "human"), "a window or into a film"),
        (blind, "film.mp4", (), "draws no pictures"),
    ):
        code, output = run_here("play", run_dir, "--record", tmp_path / film, *options)
        assert code == 2
        assert len(output.splitlines()) == 1
        assert output.startswith("run_a3c.py: error: record: ")
        assert reason in output
    assert {path.name for path in tmp_path.iterdir()} == {"folder.mp4", "run"}


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, output = run_here("play", short_run, "--record", tmp_path / "film.mp4")
    assert code == 2
    needed = 'record: needs the packages of the extra "play": pip install -c constraints.txt -e ".[play]"'
    assert output == f"run_a3c.py: error: {needed}\n"
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_is_one_line_and_the_older_film_stays(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg, film = tmp_path / "ffmpeg", tmp_path / "film.gif"
    real = shlex.quote(imageio_ffmpeg.get_ffmpeg_exe())
    ffmpeg.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 1\nexec {real} "$@"\n')  # no file above a kilobyte
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(ffmpeg))
    film.write_text("an older film")
    code, output = run_here("play", short_run, "--record", film)
    assert code == 74
    complaint = output.splitlines()[-1]
    assert complaint.startswith(f"run_a3c.py: error: {film}: ffmpeg: ")
    assert "File too large" in complaint
    assert film.read_text() == "an older film"
    assert {path.name for path in tmp_path.iterdir()} == {"ffmpeg", "film.gif"}


class Killer(Square):
    """Ends the program that it runs in."""

    def step(self, action: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)


def test_a_film_whose_program_is_ended_leaves_nothing(tmp_path: Path) -> None:
    run_dir, films = saved(tmp_path / "run", register(Killer), (1, 2), Config()), tmp_path / "films"
    films.mkdir()
    with pytest.raises(SystemExit) as end:
        run_here("play", run_dir, "--record", films / "film.gif")
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not list(films.iterdir())
    assert "ffmpeg" not in {child.name() for child in psutil.Process().children()}


# -- in the terminal --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(short_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Job, Path]]:
    """A program that draws and films episodes until the tests have seen enough, and the folder for the film."""
    films = tmp_path_factory.mktemp("films")
    with Job("play", short_run, "--terminal", "--record", films / "film.gif", "--episodes", 10**6) as job:
        job.until(lambda: "right" in job.output)  # whichever test is the first
        yield job, films


def test_the_terminal_shows_the_pole_and_what_the_policy_makes_of_it(watched: tuple[Job, Path]) -> None:
    job, _ = watched
    job.until(lambda: "episode 1: return" in job.text)
    assert all(fact in job.text for fact in ("CartPole-v1", "step", "value", "left", "right", "●"))
    assert any("\u2800" < letter <= "\u28ff" for letter in job.text)
    assert not job.cursor_is_visible


def test_a_smaller_terminal_gets_smaller_frames(watched: tuple[Job, Path]) -> None:
    job, _ = watched
    seen = len(job.output)
    job.resize(40, 12)
    job.until(lambda: "right" in job.output[seen:].partition(CLEAR)[2])
    frame = ESCAPE.sub("", job.output[seen:].partition(CLEAR)[2].partition("right")[0])
    assert max(map(len, re.split(r"[\r\n]+", frame))) <= 40
    job.resize(80, 24)


def test_a_suspended_play_gives_the_cursor_back_and_goes_on_when_it_is_resumed(watched: tuple[Job, Path]) -> None:
    job, _ = watched
    job.type(CTRL_Z)
    assert job.code(10) == SUSPENDED
    assert job.cursor_is_visible
    (ffmpeg,) = (process for process in job.others() if "ffmpeg" in process.name())
    assert ffmpeg.status() != psutil.STATUS_STOPPED  # a write to one that does not read would keep play from stopping
    seen = len(job.output)
    job.type(b"fg\n")
    job.until(lambda: "CartPole-v1" in job.output[seen:].partition(CLEAR)[2])
    assert not job.cursor_is_visible


def test_ctrl_c_leaves_the_terminal_as_it_was_and_no_half_film(watched: tuple[Job, Path]) -> None:
    """The last of the tests that share a program."""
    job, films = watched
    assert [path.suffix for path in films.iterdir()] == [".tmp"]
    job.type(CTRL_C)
    job.until(lambda: job.codes[-1:] == [130])
    assert left_behind(job) == ""
    assert "interrupted" in job.text
    assert not list(films.iterdir())


@pytest.mark.parametrize("look", [["--terminal"], []], ids=["asked for", "without a screen"])
def test_at_the_end_the_last_frame_and_a_line_for_each_episode_stay(look: list[str], short_run: Path) -> None:
    few, no_screen = ("--speed", 0, "--episodes", 2), {"DISPLAY": "", "WAYLAND_DISPLAY": "", "SDL_VIDEODRIVER": ""}
    with Program("play", short_run, *look, *few, size=(40, 12), environment=no_screen) as program:
        assert program.wait() == 0
    assert HIDE_CURSOR in program.output
    assert program.output.rindex("\x1b[?25h") > program.output.rindex(HIDE_CURSOR)
    assert "reached the time limit" in program.text
    assert re.search(r"episode 2: return 5", program.text)


def test_without_a_terminal_the_episodes_are_told_as_text(short_run: Path) -> None:
    code, output = run_here("play", short_run, "--terminal", "--episodes", 2)
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == "run_a3c.py: there is no terminal here to draw in; the episodes follow as text"
    assert [line.split(":")[0] for line in lines[1:]] == ["episode 1", "episode 2"]


def test_a_speed_that_nobody_can_watch_is_refused(short_run: Path) -> None:
    for speed in (-1.0, 1e9, float("nan"), float("inf")):
        code, output = run_here("play", short_run, f"--speed={speed}")
        assert code == 2
        assert output.startswith("run_a3c.py: error: speed: must be ") and len(output.splitlines()) == 1
