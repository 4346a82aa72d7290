"""Gymnasium's spaces: how an observation becomes numbers, and spaces as JSON. A new kind of observation goes here.

An observation that is one Box is taken as it is. Any other is written out as a vector, in Gymnasium's own order: what
is discrete one-hot, the parts of a Dict or Tuple one after the other, images after everything else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Space = gymnasium.Space[Any]
Write = Callable[[Any, NDArray[Any]], None]  # an observation, and the row of numbers that it becomes
MASK = "action_mask"  # the key of a Dict observation, or of an info, that says which actions are allowed
IMAGE_SIDE = 16  # a Box of which two neighbouring sides are at least so long is an image; its other sides are channels
LEFT_OUT = ("MissionSpace",)  # minigrid's text, which is the same at every step of most of its tasks
MOST_NUMBERS = 2**24  # of a space
NUMBERS, BOOLEANS = "biuf", "biu"  # kinds of NumPy dtypes: 0 and 1 may stand for False and True


@dataclass(frozen=True, slots=True)
class Image:
    """A part of an observation that is an image."""

    start: int  # where it begins among the observation's numbers
    shape: tuple[int, ...]
    axes: tuple[int, ...]  # the order that puts the channels first, rows and columns last
    low: float
    high: float

    @property
    def channels(self) -> int:
        return math.prod(self.shape[axis] for axis in self.axes[:-2])

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[self.axes[-2]], self.shape[self.axes[-1]]


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """One observation as the network sees it: an array of this shape and dtype, whose last numbers may be a mask.

    The mask says for every output of the policy whether it may be chosen. It travels with the observation, so that
    whoever acts on an observation has it; it is no input of the network.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    mask: int = 0  # how many numbers at the end are the mask
    info_mask: bool = False  # whether the environment gives it in `info`, not in the observation
    left_out: tuple[str, ...] = ()  # parts that the network does not see
    images: tuple[Image, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers are inputs of the network."""
        return math.prod(self.shape) - self.mask

    @property
    def numbers(self) -> int:
        """How many of them are of no image; they come first."""
        return self.images[0].start if self.images else self.size


def observation_spec(space: Space, outputs: int = 0, info_mask: bool = False) -> ObservationSpec:
    """What a space's observations become; a ValueError where it is not supported.

    Args:
        outputs: of the policy: how many numbers a mask must have.
        info_mask: whether the environment gives a mask in `info`.
    """
    mask = mask_of(space)
    if is_array(space) and space.shape and not info_mask:
        size = _size(None, space)
        if not is_image(space):
            return ObservationSpec(space.shape)
        dtype = "uint8" if space.dtype == np.uint8 else "float32"
        return ObservationSpec(space.shape, dtype, images=(_image(None, space, 0),))
    left_out = tuple(name for name, part in _parts(space).items() if type(part).__name__ in LEFT_OUT)
    size, images = 0, list[Image]()
    for name, part in _parts(space, left_out).items():
        images += [_image(name, part, size)] if is_image(part) else []
        size += _size(name, part)
    if not size:
        raise ValueError("observes nothing but an action mask or text")
    if mask is not None and _size(MASK, mask) != outputs:
        raise ValueError(f"has an action mask of {_size(MASK, mask)} numbers; its actions need {outputs}")
    masked = outputs if info_mask or mask is not None else 0
    return ObservationSpec((size + masked,), "float32", masked, info_mask and mask is None, left_out, tuple(images))


def writer(space: Space, observation: ObservationSpec) -> Write:
    """How one observation is checked and written as numbers; a ValueError names the part that is not of the space."""
    return _writer("observation", space, observation.left_out)


def write_mask(value: Any, out: NDArray[Any]) -> None:
    """Write an info's mask, whose parts may be nested as the actions are."""
    if value is None:
        raise ValueError(f"info without its '{MASK}'")
    numbers = np.concatenate(list(_flat(value)))
    if numbers.shape != out.shape or numbers.dtype.kind not in NUMBERS:
        raise ValueError(f"{MASK} of {numbers.size} numbers, expected {out.size}")
    out[:] = numbers != 0


def mask_of(space: Space) -> Space | None:
    """The part of a Dict observation that says which actions are allowed."""
    return space.spaces.get(MASK) if isinstance(space, spaces.Dict) else None


def names_of(space: Space, observation: ObservationSpec, name: str = "") -> list[str]:
    """A name for each number of an observation, in their order: `speed[0]`, or `floor=3` of what is one-hot."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        seen = parts_in_order(space, observation.left_out).items()
        named = ((part if not name and isinstance(part, str) else f"{name}[{part}]", one) for part, one in seen)
        names = [own for whole, one in named for own in names_of(one, ObservationSpec(()), whole)]
    elif isinstance(space, spaces.Discrete):
        names = [f"{name}={number}" for number in range(space.start, space.start + space.n)]
    elif isinstance(space, spaces.MultiDiscrete):
        ranges = zip(space.start.reshape(-1).tolist(), space.nvec.reshape(-1).tolist(), strict=True)
        names = [f"{name}[{i}]={start + n}" for i, (start, count) in enumerate(ranges) for n in range(count)]
    else:
        names = [f"{name}[{i}]" for i in range(math.prod(space.shape))] if space.shape else [name]
    return names + [f"{MASK}[{i}]" for i in range(observation.mask * observation.info_mask)]


def _flat(value: Any) -> Any:
    if isinstance(value, dict | tuple | list) and not all(np.isscalar(part) for part in value):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _flat(part)
    else:
        yield np.asarray(value).reshape(-1)


def _parts(space: Space, left_out: tuple[Any, ...] = ()) -> dict[Any, Space]:
    """The parts of a Dict or Tuple, images last, its mask left out; of another space itself, without a name."""
    if isinstance(space, spaces.Dict):
        parts: dict[Any, Space] = {name: part for name, part in space.spaces.items() if name != MASK}
    else:
        parts = dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else {None: space}
    seen = {name: part for name, part in parts.items() if name not in left_out}
    return {name: seen[name] for name in sorted(seen, key=lambda name: is_image(seen[name]))}


def parts_in_order(space: Space, left_out: tuple[Any, ...] = ()) -> dict[Any, Space]:
    """The parts of a Dict or Tuple in the order of their numbers: its mask comes last."""
    mask = mask_of(space)
    return _parts(space, left_out) | ({} if mask is None else {MASK: mask})


def _size(name: Any, space: Space) -> int:
    """How many numbers an observation of the space becomes; a ValueError where it is not supported."""
    where = "" if name is None else f" (part {name!r})"
    if isinstance(space, spaces.Dict | spaces.Tuple):
        if any(map(is_image, _parts(space).values())) and name is not None:
            raise ValueError(f"observes images{where} inside of a part; supported are images that are parts themselves")
        return sum(_size(name if name is not None else part, one) for part, one in parts_in_order(space, ()).items())
    if isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        size = int(spaces.utils.flatdim(space))
        if size and (not isinstance(space, spaces.Box) or space.dtype.kind in NUMBERS):
            return size
    raise ValueError(
        f"observes {kind_of(space)}{where}; supported are Box, Discrete, MultiDiscrete, MultiBinary, and Dict and "
        "Tuple of them"
    )


def is_array(space: Space) -> bool:
    """Whether an observation is taken as it is."""
    return isinstance(space, spaces.Box) and space.shape != ()


def is_image(space: Space) -> bool:
    """Whether observations are pictures: bytes with two long sides, or numbers that have channels too."""
    if not isinstance(space, spaces.Box) or space.dtype.kind not in NUMBERS:
        return False
    fewest = 2 if space.dtype == np.uint8 else 3
    return len(space.shape) >= fewest and sum(side >= IMAGE_SIDE for side in space.shape) >= 2


def _image(name: Any, space: Space, start: int) -> Image:
    """What an image is like; a ValueError where its channels cannot be told, or its numbers have no bounds."""
    where = f"images{'' if name is None else f' (part {name!r})'}, {kind_of(space)}"
    shape = space.shape
    assert isinstance(space, spaces.Box) and shape is not None
    long = [side >= IMAGE_SIDE for side in shape]
    rows = long.index(True)
    if sum(long) != 2 or not long[rows + 1] or len(shape) > 4:
        raise ValueError(
            f"observes {where}, whose channels cannot be told: of up to four sides exactly two neighbouring ones are "
            f"{IMAGE_SIDE} or longer in an image that is supported"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"observes {where} without bounds, so that they cannot be scaled: give their Box finite ones")
    rest = [axis for axis in range(len(shape)) if axis not in (rows, rows + 1)]
    return Image(start, shape, (*rest, rows, rows + 1), float(space.low.min()), float(space.high.max()))


def _writer(name: str, space: Space, left_out: tuple[Any, ...] = ()) -> Write:
    """How one part is checked and written; a mask comes last."""
    if isinstance(space, spaces.Box):
        shape, kinds = space.shape, NUMBERS if space.dtype.kind == "f" else BOOLEANS

        def write_box(value: Any, out: NDArray[Any]) -> None:
            expect(name, value, shape, kinds)
            out[...] = np.asarray(value).reshape(out.shape)

        return write_box
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _nested(name, space, left_out)
    if isinstance(space, spaces.MultiBinary):
        binary = space.shape

        def write_binary(value: Any, out: NDArray[Any]) -> None:
            expect(name, value, binary, BOOLEANS)
            numbers = np.asarray(value).reshape(-1)
            if ((numbers != 0) & (numbers != 1)).any():
                raise ValueError(f"{name} of numbers other than 0 and 1")
            out[:] = numbers

        return write_binary
    if isinstance(space, spaces.Discrete):
        counts, starts = np.array([space.n]), np.array([space.start])
        wanted: tuple[int, ...] = ()
    else:
        assert isinstance(space, spaces.MultiDiscrete)
        counts, starts, wanted = space.nvec.reshape(-1), np.asarray(space.start).reshape(-1), space.shape
    begins = np.cumsum(counts) - counts

    def write_one_hot(value: Any, out: NDArray[Any]) -> None:
        expect(name, value, wanted, BOOLEANS)
        numbers = np.asarray(value).reshape(-1) - starts
        if (numbers < 0).any() or (numbers >= counts).any():
            raise ValueError(f"{name} {value!r} outside of its space {space}")
        out[:] = 0
        out[begins + numbers] = 1

    return write_one_hot


def _nested(name: str, space: Space, left_out: tuple[Any, ...]) -> Write:
    end, writers = 0, list[tuple[Any, slice, Write]]()
    for part, one in parts_in_order(space, left_out).items():
        size = _size(part, one)
        writers.append((part, slice(end, end + size), _writer(f"{name}[{part!r}]", one)))
        end += size

    def write(value: Any, out: NDArray[Any]) -> None:
        for part, place, one in writers:
            try:
                given = value[part]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"{name} without its part {part!r}") from None
            one(given, out[place])

    return write


def expect(name: str, value: Any, shape: tuple[int, ...], kinds: str) -> None:
    """Refuse with a ValueError what NumPy would quietly broadcast or convert: another shape, or no dtype of `kinds`."""
    values = np.asarray(value)
    if values.shape != shape:
        raise ValueError(f"{name} of shape {values.shape}, expected {shape}")
    if values.dtype.kind not in kinds:
        raise ValueError(
            f"{name} of dtype {values.dtype}, expected {'numbers' if 'f' in kinds else 'booleans or whole numbers'}"
        )


def kind_of(space: Space) -> str:
    """A space's class and shape, for a message."""
    return f"{type(space).__name__}{space.shape or ''}"


# -- as JSON ----------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict[str, Any]:
    """A space as plain JSON, from which `from_json` makes it again."""
    kind = type(space).__name__
    if isinstance(space, spaces.Dict):
        return {"space": "Dict", "spaces": {name: to_json(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {"space": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.Box):
        low, high = (_bounds(bound) for bound in (space.low, space.high))
        return {"space": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": space.dtype.name}
    if isinstance(space, spaces.Discrete):
        return {"space": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"space": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"space": "MultiBinary", "n": space.shape[0] if len(space.shape) == 1 else list(space.shape)}
    return {"space": kind}


def from_json(content: Any) -> Space:
    """The space that `to_json` wrote; KeyError, TypeError or ValueError where it is none."""
    kind = content["space"]
    if kind == "Dict":
        parts = [(str(name), from_json(part)) for name, part in content["spaces"].items()]
        return spaces.Dict(parts)  # in this order: the parts of a plain dict would be sorted
    if kind == "Tuple":
        return spaces.Tuple([from_json(part) for part in content["spaces"]])
    if kind == "Box":
        shape, dtype = _shape(content["shape"]), np.dtype(content["dtype"])
        bounds = (np.array(content[bound], np.float64).astype(dtype) for bound in ("low", "high"))
        low, high = (np.broadcast_to(bound, shape) for bound in bounds)
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(content["n"], start=content["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(content["nvec"], start=content["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(_shape(content["n"]))
    left_out: Space = type(str(kind), (gymnasium.Space,), {})()  # not observed: nothing but its kind is known
    return left_out


def _shape(written: Any) -> Any:
    """A shape as written, or a ValueError where its arrays would be too large to be one."""
    shape = tuple(written) if isinstance(written, list) else written
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    if size > MOST_NUMBERS:
        raise ValueError(f"a space of {size:,} numbers, of which there may be {MOST_NUMBERS:,}")
    return shape


def _bounds(bound: NDArray[Any]) -> Any:
    """One number where all are equal; infinite ones as text, which JSON has no number for."""
    if bound.size and (bound == bound.reshape(-1)[0]).all():
        return _number(bound.reshape(-1)[0].item())
    return np.vectorize(_number, otypes=[object])(bound).tolist()


def _number(number: Any) -> Any:
    return number if math.isfinite(number) else str(number)
