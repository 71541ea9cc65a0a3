"""Any single number of a model, found by the name that tables and charts have for it: `weight`, `0.weight[3,1]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize

SHOWN = 8
OF_A_PARAMETER = " (parameter)"
_INDEXED = re.compile(r"(.*)\[(\d{1,9}(?:, ?\d{1,9})*)\]", re.DOTALL)


class Scalar(NamedTuple):
    """One number of a model: the parameter that holds it, and where in it."""

    parameter: str
    position: tuple[int, ...]

    def read(self, parameters: dict[str, Tensor]) -> float:
        """Its value among these tensors; waits for the device they are on."""
        return float(parameters[self.parameter][self.position].item())


def find(model: nn.Module, name: str) -> Scalar:
    """The scalar that `name` means, as `Tracked` names them: axes of length 1 may be left out, or all be there.

    Raises WorkflowError, which says what there is, where `model` has none of that name.
    """
    parameters = dict(model.named_parameters())
    shown = {sanitize(other): other for other in parameters}
    for base, indices in _readings(name):
        known = base if base in parameters else shown.get(base)
        if known is None:
            continue
        position = _position(tuple(parameters[known].shape), indices)
        if position is not None and parameters[known].is_floating_point():
            return Scalar(known, position)
    there = [_extent(sanitize(other, 60), parameter) for other, parameter in parameters.items() if parameter.numel()]
    more = f" and {len(there) - SHOWN:,} more tensors" if len(there) > SHOWN else ""
    raise WorkflowError(
        "No such parameter",
        f"The model has no single number {sanitize(name, 60)!r}.",
        f"It has {', '.join(there[:SHOWN])}{more}.",
    )


def _readings(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What `name` may mean: a parameter and indices, with and without what marks it off from a recorded series."""
    while True:
        yield name, ()
        if found := _INDEXED.fullmatch(name):
            yield found[1], tuple(map(int, found[2].split(",")))
        if not name.endswith(OF_A_PARAMETER):
            return
        name = name.removesuffix(OF_A_PARAMETER)


def _position(shape: tuple[int, ...], indices: Sequence[int]) -> tuple[int, ...] | None:
    """Where `indices` point to; None where that is no single number of a tensor of this shape."""
    if len(indices) != len(shape):
        long = [axis for axis, length in enumerate(shape) if length > 1]
        if len(indices) != len(long) or 0 in shape:
            return None
        given = dict(zip(long, indices, strict=True))
        indices = [given.get(axis, 0) for axis in range(len(shape))]
    inside = all(at < length for at, length in zip(indices, shape, strict=True))
    return tuple(indices) if inside else None


def _extent(name: str, parameter: Tensor) -> str:
    """How its numbers are called."""
    last = ",".join(str(length - 1) for length in parameter.shape if length > 1)
    return f"{name}[{re.sub('[0-9]+', '0', last)}] to {name}[{last}]" if last else name
