"""A copy of what a model has learnt, to be put back: `state_dict` is a live view and would change with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Snapshot:
    """The parameters and buffers of `model` as they were when it was last taken, on the model's own device."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = [parameter.detach() for parameter in model.parameters()]
        self._has_buffers = any(True for _ in model.buffers())
        self._kept = [tensor.clone() for tensor in self._live()]

    def take(self, source: Snapshot | None = None) -> None:
        """Remember the model as it is now, or as `source` remembers it."""
        torch._foreach_copy_(self._kept, self._live() if source is None else source._kept)

    def take_where(self, flag: Tensor, source: Snapshot | None = None) -> None:
        """`take` if `flag` (bool, of shape [], on the device) is set; waits for nothing."""
        for kept, new in zip(self._kept, self._live() if source is None else source._kept, strict=True):
            torch.where(flag, new, kept, out=kept)

    def put_back(self) -> None:
        """Make the model what it was when last remembered."""
        torch._foreach_copy_(self._live(), self._kept)

    def _live(self) -> list[Tensor]:
        # a module may well assign a new tensor to one of its buffers; the parameters are those that the optimizer has
        return [*self._parameters, *self._model.buffers()] if self._has_buffers else self._parameters
