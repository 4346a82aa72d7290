"""Drawings of environments in braille: pure functions of an observation and a size in cells.

A cell holds 2 by 4 dots, which are about as wide as high, so that angles are true.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, sin

from workers.console.drawing import Cells, overlaid

CART_LIMIT, POLE_LIMIT = 2.4, 0.2095  # where CartPole's episode ends: the cart's place, and the pole's angle in radians
CART_EDGE = 2.6  # of the drawing
TRACK, BODY, ROD, GOAL, ENDED = "dim", "cyan", "yellow", "green", "bold red"


@dataclass(frozen=True, slots=True)
class Scene:
    """How one environment is drawn."""

    observation_size: int  # an environment of another size is another environment
    actions: tuple[str, ...]  # their names, in the policy's order
    draw: Callable[[Sequence[float], int, int], Cells]  # of a finite observation, columns and rows


def scene_of(env_id: str, observation_size: int) -> Scene | None:
    """The scene of an environment, whatever its version; None where there is none."""
    scene = SCENES.get(env_id.rpartition("-v")[0])
    return scene if scene is not None and scene.observation_size == observation_size else None


def cart_pole(observation: Sequence[float], columns: int, rows: int) -> Cells:
    """The cart on its track, between the limits of the episode, and the pole, as long as the room allows."""
    place, angle = min(max(observation[0], -CART_EDGE), CART_EDGE), observation[2]
    unit = (2 * columns - 1) / (2 * CART_EDGE)  # dots
    floor = 4 * (rows - 1)  # the track has the last row
    middle, top = round((place + CART_EDGE) * unit), floor - max(min(floor // 8, 6), 2)
    half = max(round(0.25 * unit), 2)
    length = min(top - 1, round(1.2 * columns))
    tip = (round(middle + length * sin(angle)), round(top - length * cos(angle)))
    ended = abs(angle) > POLE_LIMIT or abs(place) > CART_LIMIT
    cart = [([(middle - half, y), (middle + half, y)], BODY) for y in range(top, floor)]
    pole = [([(middle + side, top), (tip[0] + side, tip[1])], ENDED if ended else ROD) for side in (0, 1)]
    limits = [round((limit + CART_EDGE) * unit) // 2 for limit in (-CART_LIMIT, CART_LIMIT)]
    track: Cells = {(rows - 1, column): ("─", TRACK) for column in range(columns)}
    posts: Cells = {(row, column): ("│", "red") for row in (rows - 2, rows - 1) for column in limits}
    return track | posts | overlaid([*cart, *pole])


def mountain_car(observation: Sequence[float], columns: int, rows: int) -> Cells:
    """The car in its valley, and the flag that it has to reach."""
    low, high, goal = -1.2, 0.6, 0.5
    unit = min((2 * columns - 1) / (high - low), (4 * rows - 1) / 1.3)
    left = columns - unit * (high - low) / 2

    def dot(x: float, above: float = 0.0) -> tuple[int, int]:
        height = 0.45 * sin(3 * x) + 0.55 + above  # as Gymnasium draws the slope; the climb itself follows sin(3x)
        return round(left + (x - low) * unit), round(4 * rows - 1 - height * unit)

    place = min(max(observation[0], low), high)
    x, y = dot(place)
    slope = [dot(low + (high - low) * step / 60) for step in range(61)]
    car = [([(x - 2, y - lift), (x + 2, y - lift)], BODY) for lift in (1, 2, 3)]
    style = GOAL if place < goal else "bold green"
    (post_x, foot), (_, peak) = dot(goal), dot(goal, 0.2)
    flag = [([(post_x, foot), (post_x, peak), (post_x + 4, peak + 2), (post_x, peak + 3)], style)]
    return overlaid([(slope, TRACK), *flag, *car])


def acrobot(observation: Sequence[float], columns: int, rows: int) -> Cells:
    """The two links hanging from their pivot, and the height that the free end has to reach."""
    cos1, sin1, cos2, sin2 = observation[:4]
    reach = 2.1  # of the drawing, in lengths of a link, from the pivot
    unit = (min(2 * columns, 4 * rows) - 1) / (2 * reach)

    def dot(x: float, y: float) -> tuple[int, int]:
        return round(columns + x * unit), round((reach - y) * unit)

    elbow = (sin1, -cos1)  # angles count from straight down
    end = (elbow[0] + sin1 * cos2 + cos1 * sin2, elbow[1] - cos1 * cos2 + sin1 * sin2)
    goal: Cells = {(dot(0, 1)[1] // 4, column): ("╌", GOAL) for column in range(columns)}
    pivot = {(dot(0, 0)[1] // 4, columns // 2): ("●", "bold")}
    return goal | overlaid([([dot(*elbow), dot(*end)], BODY), ([dot(0, 0), dot(*elbow)], ROD)]) | pivot


SCENES = {
    "CartPole": Scene(4, ("left", "right"), cart_pole),
    "MountainCar": Scene(2, ("left", "coast", "right"), mountain_car),
    "Acrobot": Scene(6, ("torque -1", "torque 0", "torque +1"), acrobot),
}
