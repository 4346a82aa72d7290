"""What a person sees of a policy at play in the terminal, and how the critic is judged by what followed."""

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from a3c.heads import Part
from workers.playing import play
from workers.playing.episode import Step, returns_of
from workers.playing.play import Pace
from workers.playing.scenes import CART_LIMIT, POLE_LIMIT, SCENES, Cells
from workers.playing.terminal_view import render

SIZES = [(80, 23), (80, 9), (200, 59), (64, 10), (63, 10), (40, 11), (20, 4), (3, 2), (1, 1)]
ROOM = (50, 22)  # columns and rows of a drawing


def parts(*probabilities: float, taken: int | None = None) -> tuple[Part, ...]:
    return tuple(Part(f"={i}", share, i == taken) for i, share in enumerate(probabilities))


CART_POLE = Step(
    env_id="CartPole-v1",
    title="episode 2 of 3",
    index=1234,
    reward=1.0,
    episode_return=1234.0,
    observation=(0.5, 0.1, -0.1, 0.2),
    extent=(4.8, 1.0, 0.4, 1.0),
    parts=parts(0.25, 0.75, taken=1),
    value=31.456,
)
OTHER = replace(CART_POLE, env_id="Mine/Own-v0", observation=(-1.0, 0.5, 0.0), extent=(2.0, 0.5, 0.0))
STEPS = {
    "CartPole": CART_POLE,
    "its end": replace(CART_POLE, parts=parts(0.25, 0.75), ending="reached the time limit"),
    "far away": replace(CART_POLE, observation=(1e30, 0.0, -1e30, 0.0)),
    "MountainCar": replace(
        CART_POLE, env_id="MountainCar-v0", observation=(-0.5, 0.0), extent=(1.2, 0.07), parts=parts(0.2, 0.3, 0.5)
    ),
    "Acrobot": replace(
        CART_POLE, env_id="Acrobot-v1", observation=(1.0, 0.0, 0.0, 1.0, 0.0, 0.0), parts=parts(0.2, 0.3, 0.5)
    ),
    "bars": OTHER,
    "wide": replace(OTHER, observation=(0.1,) * 300, extent=(1.0,) * 300, parts=parts(*(0.02,) * 50)),
    "picture": replace(OTHER, picture="\x1b[41mS\x1b[0mFFF\n" * 40 + "\x1b[2J漢" * 99),
    "hostile": replace(OTHER, env_id="漢字\x1b[31m\n" * 30, title="\t" * 99),
    **{
        str(value): replace(
            CART_POLE,
            observation=(value,) * 4,
            extent=(value,) * 4,
            value=value,
            parts=(*parts(value, value), Part("[0]", value, value, value)),
            episode_return=value,
        )
        for value in (math.nan, math.inf, -math.inf, 1e300)
    },
}


def text_of(step: Step, width: int, height: int) -> str:
    console = Console(file=io.StringIO(), width=width + 100, height=100, color_system=None)
    console.print(render(step, width, height), end="", soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_frame_fits_its_terminal() -> None:
    for size, (name, step) in itertools.product(SIZES, STEPS.items()):
        text = text_of(step, *size)
        assert "\x1b" not in text, name
        lines = text.removesuffix("\n").split("\n")
        assert len(lines) <= size[1], name
        assert max(map(cell_len, lines)) <= size[0], name


@pytest.mark.parametrize("size", [(80, 23), (63, 20), (40, 11)], ids=str)
def test_a_frame_shows_the_drawing_and_what_the_policy_makes_of_it(size: tuple[int, int]) -> None:
    text = text_of(CART_POLE, *size)
    essentials = ["CartPole-v1", "episode 2 of 3", "1,234", "31.46", "left", "0.250", "● right", "0.750", "───", "│"]
    assert [fact for fact in essentials if fact not in text] == []
    assert any("\u2800" < letter <= "\u28ff" for letter in text)


def test_the_end_is_told_and_marks_no_action() -> None:
    text = text_of(STEPS["its end"], 80, 23)
    assert "episode 2 of 3: reached the time limit" in text
    assert "●" not in text


def test_an_unknown_environment_is_shown_by_its_own_picture_or_as_bars() -> None:
    bars = text_of(OTHER, 80, 23).split("\n")
    rows = [next(line for line in bars if line.lstrip().startswith(f"{index} ")) for index in range(3)]
    sides = [[side.count("━") for side in row[:50].split("│")] for row in rows]
    assert sides[0][0] > 0 == sides[0][1]  # half of its extent to the left
    assert sides[1][1] == pytest.approx(2 * sides[0][0], abs=1)  # all of it to the right
    assert sides[2] == [0, 0]
    picture = text_of(replace(OTHER, picture="S\x1b[42mF\x1b[0mH"), 80, 23)
    assert "SFH" in picture
    assert "│" not in picture


def test_an_environment_of_that_name_with_other_observations_gets_bars() -> None:
    assert "   2 " in text_of(replace(OTHER, env_id="CartPole-v1"), 80, 23)


def columns_of(cells: Cells, style: str) -> list[int]:
    """The columns that a style reaches, from the top row down."""
    return [column for (_, column), (_, drawn) in sorted(cells.items()) if drawn == style]


def cart_pole(place: float, angle: float) -> Cells:
    return SCENES["CartPole"].draw((place, 0.0, angle, 0.0), *ROOM)


def test_the_pole_leans_as_it_does() -> None:
    """Gymnasium's positive angle is to the right; at the tip, the tangent is what the picture shows."""
    for angle in (-0.2, -0.05, 0.05, 0.2):
        rod = sorted(cell for cell, (_, style) in cart_pole(0.0, angle).items() if style == "yellow")
        (top, tip), (bottom, foot) = rod[0], rod[-1]
        leaning = (tip - foot) * 2 / ((bottom - top) * 4)  # in dots, two by four of a cell
        assert leaning == pytest.approx(math.tan(angle), abs=0.05)


def test_the_cart_stands_where_it_is() -> None:
    middles = [np.mean(columns_of(cart_pole(place, 0.0), "cyan")) for place in (-2.4, -1.2, 0.0, 1.2, 2.4)]
    steps = np.diff(middles)
    assert steps == pytest.approx(np.full(4, (ROOM[0] - 1) * 1.2 / 5.2), abs=1)
    posts = sorted(set(columns_of(cart_pole(0.0, 0.0), "red")))
    assert posts == pytest.approx([middles[0], middles[-1]], abs=1)


def test_a_pole_that_has_fallen_is_red() -> None:
    for place, angle in ((0.0, -1.1 * POLE_LIMIT), (2.41, 0)):
        assert columns_of(cart_pole(place, angle), "bold red")
    for place, angle in ((0.0, 0.9 * POLE_LIMIT), (0.9 * CART_LIMIT, 0)):
        assert not columns_of(cart_pole(place, angle), "bold red")


def test_the_car_climbs_to_the_flag() -> None:
    places = (-1.2, -math.pi / 6, 0.5)  # left end, bottom, goal
    scenes = [SCENES["MountainCar"].draw((place, 0.0), *ROOM) for place in places]
    cars = [[cell for cell, (_, style) in scene.items() if style == "cyan"] for scene in scenes]
    rows = [np.mean([row for row, _ in car]) for car in cars]
    columns = [np.mean([column for _, column in car]) for car in cars]
    assert rows[1] > max(rows[0], rows[2])  # rows count from the top
    assert columns == sorted(columns)
    assert columns[2] == pytest.approx(np.mean(columns_of(scenes[2], "bold green")), abs=2)
    assert columns_of(scenes[0], "green")


def acrobot(first: float, second: float) -> Cells:
    observation = (math.cos(first), math.sin(first), math.cos(second), math.sin(second), 0.0, 0.0)
    return SCENES["Acrobot"].draw(observation, *ROOM)


def test_the_acrobot_hangs_and_reaches() -> None:
    """An episode ends where -cos(first) - cos(first + second) > 1: there the free end is above the line."""
    line = min(row for (row, _), (letter, _) in acrobot(0.0, 0.0).items() if letter == "╌")
    for first, second in ((0.0, 0.0), (1.5, 0.0), (math.pi, 0.3), (math.pi - 0.4, -0.2), (math.pi, math.pi)):
        rows = [row for (row, _), (_, style) in acrobot(first, second).items() if style == "cyan"]
        assert (min(rows, default=ROOM[1]) < line) is (-math.cos(first) - math.cos(first + second) > 1)
    right = [column for (_, column), (_, style) in acrobot(1.5, 0.0).items() if style == "cyan"]
    assert min(right) > ROOM[0] // 2


def value_error_oracle(rewards: list[float], values: list[float], terminated: bool, gamma: float) -> float:
    """The definition, word by word."""
    total = 0.0
    for t in range(len(rewards)):
        followed = sum(gamma ** (k - t) * rewards[k] for k in range(t, len(rewards)))
        if not terminated:
            followed += gamma ** (len(rewards) - t) * values[-1]
        total += values[t] - followed
    return total / len(rewards)


def mean_value_error(rewards: list[float], values: list[float], terminated: bool, gamma: float) -> float:
    return float((np.array(values[:-1]) - returns_of(rewards, values[-1], terminated, gamma)).mean())


@given(st.floats(0, 1), st.integers(1, 60), st.booleans())
def test_the_value_error_is_the_mean_over_the_steps(gamma: float, length: int, terminated: bool) -> None:
    rng = np.random.default_rng(length)
    rewards, values = rng.normal(size=length).tolist(), rng.normal(size=length + 1).tolist()
    expected = value_error_oracle(rewards, values, terminated, gamma)
    assert mean_value_error(rewards, values, terminated, gamma) == pytest.approx(expected, abs=1e-9)


def test_the_value_error_of_an_exact_critic_is_zero_and_positive_where_it_hopes_too_much() -> None:
    rewards = [1.0] * 50
    assert mean_value_error(rewards, [10.0] * 51, False, 0.9) == pytest.approx(0.0, abs=1e-9)  # 1 / (1 - 0.9), for ever
    assert mean_value_error(rewards, [11.0] * 51, True, 0.9) > 0.5
    assert mean_value_error(rewards, [9.0] * 51, False, 0.9) < 0


def test_real_time_is_kept_whatever_the_work_takes_and_a_suspension_is_not_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeTime()
    monkeypatch.setattr(play, "time", clock)
    pace = Pace(speed=2.0)
    for work in (0.25, 0.0, 0.25, 100.0, 0.25):
        clock.now += work
        pace.wait(1.0)
    assert clock.slept == [0.25, 0.5, 0.25, 0.0, 0.25]
    Pace(speed=0.0).wait(1.0)
    assert len(clock.slept) == 5


class FakeTime:
    """A clock that moves by sleeping and by what a test calls work."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
