"""Recurrent trunks: an LSTM or GRU behind any other trunk, so that a policy remembers what it has seen."""

from typing import Any

import torch
from torch import Tensor, nn

from a3c.trunks import Trunk

KINDS = {"lstm": (nn.LSTM, 2), "gru": (nn.GRU, 1)}  # and how many vectors are its state
SIZE = 128  # units, where none are given
FORGET_BIAS = 3.0  # of an LSTM's forget gates at first: sigmoid(3) = 0.95, so it remembers for some twenty steps


class Recurrent(nn.Module):
    """A core over the features of another trunk (Hochreiter and Schmidhuber 1997; Cho et al. 2014).

    Its state [B, S] is one vector per environment: an LSTM's hidden units and, after them, its cells.
    """

    def __init__(self, trunk: Trunk, kind: str, size: int):
        super().__init__()
        make, vectors = KINDS[kind]
        self.trunk, self.kind, self.features, self.state_size = trunk, kind, size, vectors * size
        self.core = make(trunk.features, size, device="cpu", dtype=torch.float32)
        self.observation = trunk.observation

    def entries(self) -> dict[str, Any]:
        return {**self.trunk.entries(), "recurrent": self.kind, "recurrent_size": self.features}

    def step(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] and the next state [B, S], of observations [B, *shape]."""
        core, hidden = self.core, state[:, : self.features]
        inputs = nn.functional.linear(self.trunk(observations), core.weight_ih_l0, core.bias_ih_l0)
        recurrent = nn.functional.linear(hidden, core.weight_hh_l0, core.bias_hh_l0)
        if self.kind == "lstm":
            enter, forget, cell, leave = (inputs + recurrent).chunk(4, -1)
            cells = torch.sigmoid(forget) * state[:, self.features :] + torch.sigmoid(enter) * torch.tanh(cell)
            hidden = torch.sigmoid(leave) * torch.tanh(cells)
            return hidden, torch.cat((hidden, cells), -1)
        (reset, keep, new), (own_reset, own_keep, own_new) = inputs.chunk(3, -1), recurrent.chunk(3, -1)
        new, keep = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new), torch.sigmoid(keep + own_keep)
        hidden = new + keep * (hidden - new)
        return hidden, hidden

    def sequence(self, observations: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T, B, F] and the last state [B, S], of observations [T, B, *shape].

        Args:
            state: before the first step.
            starts: [T, B], True where an episode begins: what came before is forgotten.
        """
        features, parts, begin = self.trunk(observations), [], 0
        resets = [0, *(t for t in torch.nonzero(starts.any(1)).flatten().tolist() if t)]
        for begin, end in zip(resets, [*resets[1:], len(features)], strict=True):
            vectors = (state * ~starts[begin, :, None]).unsqueeze(0)
            if self.kind == "lstm":
                pair = vectors[..., : self.features].contiguous(), vectors[..., self.features :].contiguous()
                outputs, (hidden, cells) = self.core(features[begin:end], pair)
                state = torch.cat((hidden, cells), -1).squeeze(0)
            else:
                outputs, hidden = self.core(features[begin:end], vectors)
                state = hidden.squeeze(0)
            parts.append(outputs)
        return torch.cat(parts), state


def initialize_core(core: nn.Module, generator: torch.Generator) -> None:
    """Orthogonal weights, zero biases; but an LSTM begins with open forget gates (Jozefowicz et al. 2015)."""
    for name, parameter in core.named_parameters():
        if name.startswith("weight"):
            nn.init.orthogonal_(parameter, 1.0, generator)
        else:
            parameter.zero_()
            if isinstance(core, nn.LSTM) and name == "bias_ih_l0":
                parameter[core.hidden_size : 2 * core.hidden_size] = FORGET_BIAS
