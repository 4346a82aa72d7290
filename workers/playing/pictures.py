"""Pictures: what a network sees as one picture, and any picture in the terminal, two pixels to a cell."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.spaces import Image, ObservationSpec
from workers.console.text import Line

Picture = NDArray[np.uint8]  # [height, width, 3], RGB
COARSE = 8  # colours are rounded to multiples of this: a style is looked up faster than it is made
SIDE = 160  # pixels that the shorter side of a film has at least


def seen(spec: ObservationSpec, observation: NDArray[Any]) -> Picture:
    """The images of an observation [*shape], from left to right."""
    flat = observation.reshape(-1)
    pictures = [_picture(image, flat[image.start :][: math.prod(image.shape)]) for image in spec.images]
    height = max(len(picture) for picture in pictures)
    level = [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in pictures]
    return np.concatenate(level, 1)


def _picture(image: Image, flat: NDArray[Any]) -> Picture:
    """One image: of three channels in colour, of others each for itself, in a grid."""
    planes = flat.reshape(image.shape).transpose(image.axes).reshape(image.channels, *image.sides)
    span = (image.high - image.low) or 1.0
    bytes_ = np.clip((planes.astype(np.float32) - image.low) / span * 255, 0, 255).astype(np.uint8)
    if image.channels == 3:
        coloured: Picture = bytes_.transpose(1, 2, 0)
        return coloured
    columns = math.ceil(math.sqrt(image.channels))
    rows = math.ceil(image.channels / columns)
    grid = np.zeros((rows * columns, *image.sides), np.uint8)
    grid[: image.channels] = bytes_
    tiled = grid.reshape(rows, columns, *image.sides).swapaxes(1, 2).reshape(rows * image.sides[0], -1)
    return np.repeat(tiled[..., None], 3, 2)


def enlarged(picture: Picture) -> Picture:
    """A picture that is small as one that can be looked at: each pixel becomes a square."""
    factor = math.ceil(SIDE / min(picture.shape[:2]))
    return picture.repeat(factor, 0).repeat(factor, 1)


def half_blocks(picture: Picture, columns: int, rows: int) -> list[Line]:
    """A picture as large as fits into so many cells: the upper half of a block is one pixel, what is behind another."""
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    wide, high = max(round(width * scale), 1), max(round(height * scale) // 2 * 2, 2)
    pixels = _resized(picture, high, wide) // COARSE * COARSE
    lines: list[Line] = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        lines.append(
            [("▀", f"{_colour(above)} on {_colour(below)}") for above, below in zip(upper, lower, strict=True)]
        )
    return lines


def _colour(pixel: list[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def _resized(picture: Picture, rows: int, columns: int) -> NDArray[np.int64]:
    """The mean of what each pixel covers."""
    return (
        np.asarray(
            _shares(rows, picture.shape[0])
            @ picture.astype(np.float64).transpose(2, 0, 1)
            @ _shares(columns, picture.shape[1]).T
        )
        .transpose(1, 2, 0)
        .astype(np.int64)
    )


def _shares(count: int, size: int) -> NDArray[np.float64]:
    """How much of each of `count` parts each of `size` pixels is, [count, size]; rows sum to 1."""
    edges = np.linspace(0, size, count + 1)
    covered = np.minimum(edges[1:, None], np.arange(size) + 1) - np.maximum(edges[:-1, None], np.arange(size))
    covered = np.maximum(covered, 0)
    return np.asarray(covered / covered.sum(1, keepdims=True))
