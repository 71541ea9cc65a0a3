"""Copies of what a model has learnt, to be put back: `state_dict` is a live view and would change with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from workflow_core.steps.tensors import on_cpu


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

    def state(self) -> list[Tensor]:
        """A copy of what is remembered, on the CPU: parameters, then buffers."""
        copies: list[Tensor] = on_cpu(self._kept)
        return copies

    def load(self, state: Sequence[Tensor]) -> None:
        """Remember what `state` gave."""
        for kept, tensor in zip(self._kept, state, strict=True):
            kept.copy_(tensor)

    def put_back(self) -> None:
        """Make the model what it was when last remembered."""
        torch._foreach_copy_(self._live(), self._kept)

    def _live(self) -> list[Tensor]:
        # a module may well assign a new tensor to one of its buffers; the parameters are those that the optimizer has
        return [*self._parameters, *self._model.buffers()] if self._has_buffers else self._parameters


def contents(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all its parameters and buffers by name, on the CPU; also of those that no state_dict has."""
    copies: dict[str, Tensor] = on_cpu({**dict(model.named_parameters()), **dict(model.named_buffers())})
    return copies


def put(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Give `model` the `contents` of one like it. Raises ValueError, before anything has changed, where it is not."""
    live = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if saved.keys() != live.keys():
        raise ValueError("the model has other parameters or buffers")
    for name, tensor in live.items():
        if saved[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {list(tensor.shape)}, not {list(saved[name].shape)}")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved[name])
