"""A copy of what a model has learnt, to be put back: `state_dict` is a live view and would change with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snapshot:
    """The parameters and buffers of `model` as they were when it was last taken, on the model's own device."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept = [tensor.clone() for tensor in self._live()]

    def take(self) -> None:
        """Remember the model as it is now."""
        for kept, live in zip(self._kept, self._live(), strict=True):
            kept.copy_(live)

    def take_where(self, flag: Tensor) -> None:
        """Remember the model as it is now if `flag` (bool, of shape [], on the device) is set; waits for nothing."""
        for kept, live in zip(self._kept, self._live(), strict=True):
            torch.where(flag, live, kept, out=kept)

    def put_back(self) -> None:
        """Make the model what it was when last remembered."""
        for kept, live in zip(self._kept, self._live(), strict=True):
            live.copy_(kept)

    def _live(self) -> list[Tensor]:
        # looked up each time: a module may well assign a new tensor to one of its buffers
        return [tensor.detach() for tensor in (*self._model.parameters(), *self._model.buffers())]
