"""Convolutional trunks: how images become features, by themselves or as parts beside other numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from a3c.spaces import Image, ObservationSpec
from a3c.trunks import MLP, linear

# Filters, size and stride of each convolution, and the units of the layer behind them.
LAYERS: dict[str, tuple[tuple[tuple[int, int, int], ...], int]] = {
    "paper": (((16, 8, 4), (32, 4, 2)), 256),  # Mnih et al. 2016, section 5.1
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),  # Mnih et al. 2015
}
RESIDUAL, RESIDUAL_UNITS = (16, 32, 32), 256  # Espeholt et al. 2018, figure 3, right
LEAST = 1  # pixel that the last convolution has to leave


class Images(nn.Module):
    """A convolution of each image of an observation, and an MLP of its other numbers; their features side by side.

    Args:
        kind: of the convolutions: paper, nature or residual.
        hidden_sizes: of the MLP.
    """

    def __init__(self, observation: ObservationSpec, kind: str, hidden_sizes: Sequence[int]):
        super().__init__()
        self.observation, self.hidden_sizes, self.convolution = observation, list(hidden_sizes), kind
        build = Residual if kind == "residual" else Plain
        self.images = nn.ModuleList(Convolution(image, build(image, kind)) for image in observation.images)
        self.numbers = MLP(ObservationSpec((observation.numbers,)), hidden_sizes) if observation.numbers else None
        self.features = sum(image.features for image in self.images)  # type: ignore[misc]
        self.features += self.numbers.features if self.numbers is not None else 0

    def entries(self) -> dict[str, Any]:
        return {"hidden_sizes": self.hidden_sizes, "convolution": self.convolution}

    def forward(self, observations: Tensor) -> Tensor:
        only = self.observation.images[0]
        if self.observation.shape == only.shape:
            features: Tensor = self.images[0](observations)
            return features
        parts = [] if self.numbers is None else [self.numbers(observations[..., : self.observation.numbers])]
        for convolution in self.images:
            image: Image = convolution.image  # type: ignore[assignment]
            flat = observations[..., image.start :][..., : torch.Size(image.shape).numel()]
            parts.append(convolution(flat.reshape(*flat.shape[:-1], *image.shape)))
        return torch.cat(parts, -1)


class Convolution(nn.Module):
    """Layers over one image, scaled to [0, 1], less its mean: what is the same everywhere says nothing."""

    def __init__(self, image: Image, layers: "Plain | Residual"):
        super().__init__()
        self.image, self.layers, self.features = image, layers, layers.features
        self.in_bfloat16 = False

    def forward(self, images: Tensor) -> Tensor:
        """Features [..., F] of images [..., *shape]."""
        image, lead = self.image, images.shape[: images.dim() - len(self.image.shape)]
        axes = (0, *(1 + axis for axis in image.axes))
        planes = images.reshape(-1, *image.shape).permute(axes).reshape(-1, image.channels, *image.sides)
        scaled = planes.contiguous(memory_format=torch.channels_last).to(torch.float32)  # half of a convolution's time
        if (image.low, image.high) != (0.0, 1.0):
            scaled = (scaled - image.low if image.low else scaled) * (1 / (image.high - image.low))
        centred = scaled - scaled.mean((1, 2, 3), keepdim=True)
        with torch.autocast(images.device.type, torch.bfloat16, self.in_bfloat16, cache_enabled=False):
            features: Tensor = self.layers(centred)
        return features.float().reshape(*lead, self.features)


class Plain(nn.Sequential):
    """Convolutions with ReLU, and a layer behind them."""

    def __init__(self, image: Image, kind: str):
        channels, modules = image.channels, list[nn.Module]()
        for filters, size, stride in LAYERS[kind][0]:
            modules += [_convolution(channels, filters, size, stride), nn.ReLU()]
            channels = filters
        flat, features = flat_size(image, kind), LAYERS[kind][1]
        super().__init__(*modules, nn.Flatten(), linear(flat, features), nn.ReLU())
        self.features = features


class Residual(nn.Sequential):
    """Three sections of a convolution, a pooling and two residual blocks, and a layer behind them."""

    def __init__(self, image: Image, kind: str):
        channels, modules = image.channels, list[nn.Module]()
        for filters in RESIDUAL:
            pooling = nn.MaxPool2d(3, 2, 1)
            modules += [_convolution(channels, filters, 3, 1, 1), pooling, Block(filters), Block(filters)]
            channels = filters
        units = linear(flat_size(image, kind), RESIDUAL_UNITS)
        super().__init__(*modules, nn.ReLU(), nn.Flatten(), units, nn.ReLU())
        self.features = RESIDUAL_UNITS


class Block(nn.Module):
    """x + two convolutions of it."""

    def __init__(self, filters: int):
        super().__init__()
        self.first, self.second = (_convolution(filters, filters, 3, 1, 1) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(torch.relu(self.first(torch.relu(inputs))))
        return inputs + outputs


def _convolution(channels: int, filters: int, size: int, stride: int, padding: int = 0) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, size, stride, padding, device="cpu", dtype=torch.float32)


def flat_size(image: Image, kind: str) -> int:
    """How many numbers the last convolution gives; a ValueError where the image is too small for it."""
    rows, columns = image.sides
    filters = RESIDUAL[-1] if kind == "residual" else LAYERS[kind][0][-1][0]
    if kind == "residual":
        for _ in RESIDUAL:
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
    else:
        for _, size, stride in LAYERS[kind][0]:
            rows, columns = (rows - size) // stride + 1, (columns - size) // stride + 1
    if rows < LEAST or columns < LEAST:
        raise ValueError(
            f"observes images of {image.sides[0]} x {image.sides[1]}, too small for the convolution '{kind}'; "
            "resize them, or choose --convolution residual"
        )
    return filters * rows * columns
