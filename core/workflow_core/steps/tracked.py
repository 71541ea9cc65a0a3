"""Which numbers of a model are followed through a training: every parameter of a small one, figures of a large one's.

They are read every epoch, so they are views of the parameters that are made once: to list them waits for no device.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from workflow_core.history import RECORDED

MAX_SCALARS = 8
MAX_GRADIENTS = 64
"""Of so many tensors of a larger model the gradients are told."""


class Tracked:
    """The tracked values of `model`, as it holds them.

    Up to 8 scalars in all are each tracked: `bias` for a tensor of one number, else `linear.weight[0]` or `w[1,2]`,
    axes of length 1 left out. Of a larger model it is `NAME norm` (the L2 norm) and `NAME mean` of every tensor.
    Frozen parameters count as well, shared ones once. A name that a recorded series has already gets ` (parameter)`
    appended.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {name: tensor for name, tensor in model.named_parameters() if tensor.numel()}
        self._each = sum(parameter.numel() for parameter in self._parameters.values()) <= MAX_SCALARS
        self.names: tuple[str, ...] = tuple(_unique(self._all_names()))
        self._views: list[Tensor] = []
        self._pointers: list[int] = []

    @property
    def complete(self) -> bool:
        """Is every number of every parameter tracked?"""
        return self._each

    def _all_names(self) -> Iterator[str]:
        for name, parameter in self._parameters.items():
            if self._each:
                yield from (f"{name}{index}" for index in _indices(parameter))
            else:
                yield from (f"{name} norm", f"{name} mean")

    def tensors(self) -> list[Tensor]:
        """The values in the order of `names`, each of shape [], on the model's device; waits for nothing.

        Those of a small model are live views of its parameters: copy what is to stay as it is now.
        """
        pointers = [parameter.data_ptr() for parameter in self._parameters.values()]
        if pointers != self._pointers:
            # model.to(device) gives parameters other storages, which views of the old ones know nothing of
            self._pointers, self._views = pointers, list(self._new_views())
        if self._each:
            return self._views
        return [
            figure for view in map(_floating, self._views) for figure in (torch.linalg.vector_norm(view), view.mean())
        ]

    def _new_views(self) -> Iterator[Tensor]:
        for parameter in self._parameters.values():
            view = parameter.detach()
            yield from (view[position] for position in _positions(view)) if self._each else (view,)

    def read(self) -> dict[str, float]:
        """The values by name, in one transfer from the model's device."""
        return self.named(self.tensors())

    def gradients(self) -> dict[str, Tensor]:
        """What `.grad` is for each value, each of shape [], or of a larger model the L2 norm of each tensor's.

        Those of tensors that have none are left out. Waits for nothing.
        """
        if self._each:
            places = ((each.grad, at) for each in self._parameters.values() for at in _positions(each))
            named = zip(self.names, places, strict=True)
            return {name: grad[position] for name, (grad, position) in named if grad is not None}
        grads = {name: each.grad for name, each in self._parameters.items() if each.grad is not None}
        grads = dict(itertools.islice(grads.items(), MAX_GRADIENTS))
        return dict(zip(grads, torch._foreach_norm(list(grads.values())), strict=True)) if grads else {}

    def named(self, tensors: list[Tensor]) -> dict[str, float]:
        """Tensors in the order of `names` as numbers by name."""
        values = torch.stack(tensors).tolist() if tensors else []
        return dict(zip(self.names, map(float, values), strict=True))


def _floating(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() else tensor.float()


def _positions(tensor: Tensor) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, tensor.shape))


def _indices(tensor: Tensor) -> Iterator[str]:
    for position in _positions(tensor):
        shown = [str(at) for at, length in zip(position, tensor.shape, strict=True) if length > 1]
        yield f"[{','.join(shown)}]" if shown else ""


def _unique(names: Iterator[str]) -> Iterator[str]:
    taken = set(RECORDED)
    for name in names:
        while name in taken:
            name += " (parameter)"
        taken.add(name)
        yield name
