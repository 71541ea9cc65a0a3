"""The training loss at any values of two scalars of a model, all else fixed, worked out a little at a time.

A training may go on between two pieces of the work, in the same thread; so the parameters are copies.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from workflow_core.specs import TrainSpec
from workflow_core.steps import modes
from workflow_core.steps.build import inference
from workflow_core.steps.losses import make_lean_criterion
from workflow_core.steps.scalars import Scalar
from workflow_core.threads import one_thread
from workflow_core.views import Point

PIECE = 0.003
"""Seconds that a piece of the work should take."""
MAX_NUMBERS = 2**22
"""Numbers that a tensor of a piece may hold."""
MAX_ROWS = 2**15
"""Rows that are put through a model at a time."""

T = TypeVar("T")
Work = Generator[None, None, T]
"""Work that may be put aside wherever it yields; what it returns is its result."""


class Plane:
    """The criterion's loss over all rows (X, y), in eval mode, as a function of `x` and `y`, two scalars of `model`.

    `of` is the model that `model` is an earlier state of, where it is one.

    Well-known modules, which look at each row by itself, get many points at a time by torch.func.vmap, and more than
    MAX_ROWS rows in parts whose means are weighted: beside a call for each point that differs in the rounding of sums
    alone. Any other model is called as a loop would call it, with all rows, for one point after the other. Weights,
    gradients, modes and torch's random numbers stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: tuple[Tensor, Tensor],
        spec: TrainSpec,
        x: Scalar,
        y: Scalar,
        of: nn.Module | None = None,
    ) -> None:
        self.of, self.x, self.y = model if of is None else of, x, y
        self.X_train, self.y_train = rows
        self._plain = modes.plain(model)
        self._model = model if self._plain else _copied(model)
        self.tensors = {name: part.detach().clone() for name, part in model.named_parameters()}
        self.tensors |= {name: part.detach().clone() for name, part in model.named_buffers()}
        self._criterion, self._loss_of = make_lean_criterion(spec), (spec.loss, spec.delta)
        self._in_parts = self._plain and len(self.X_train) > MAX_ROWS
        self._most = 1 if self._in_parts else self._at_once() if self._plain else MAX_ROWS
        self._take = 1
        self._seconds = 0.0
        self.seconds_each = math.inf
        """The least time that computing a loss took so far."""

    @property
    def now(self) -> Point:
        """The values of both scalars as they were when this was made."""
        return self.x.read(self.tensors), self.y.read(self.tensors)

    @property
    def largest(self) -> float:
        """The largest number that either of the scalars can be."""
        return min(torch.finfo(self.tensors[scalar.parameter].dtype).max for scalar in (self.x, self.y))

    def losses(self, points: Sequence[Point]) -> Work[list[float]]:
        """The loss at each of `points`, NaN and infinity as torch gives them."""
        found: list[float] = []
        while len(found) < len(points):
            part = points[len(found) : len(found) + self._take]
            before = self._seconds
            found += (yield from self._part_by_part(part[0])) if self._in_parts else self._losses(part)
            self.seconds_each = min(self.seconds_each, max(self._seconds - before, 1e-9) / len(part))
            self._take = max(1, min(self._most, 2 * self._take, int(PIECE / self.seconds_each)))
            yield
        return found

    def is_over(self, other: Plane) -> bool:
        """Is it of the same scalars of one model, and of the same rows?"""
        same = self.of is other.of and self.X_train is other.X_train
        return same and (self.x, self.y) == (other.x, other.y)

    def same_as(self, other: Plane) -> bool:
        """Is it the same function, wherever the model stands on it? Waits for the device."""
        if not self.is_over(other) or self._loss_of != other._loss_of:
            return False
        mine, theirs = ({**plane.tensors, **plane._at((0.0, 0.0))} for plane in (self, other))
        return mine.keys() == theirs.keys() and all(torch.equal(part, theirs[name]) for name, part in mine.items())

    @property
    def numbers(self) -> int:
        """How many numbers it holds copies of."""
        return sum(part.numel() for part in self.tensors.values())

    def predict(self, points: Sequence[Point], X: Tensor) -> list[Tensor]:
        """y_pred for rows of `X` at each of `points`, in float64 on the CPU."""
        X = X.to("cpu").double()
        with self._undisturbed():
            wide = {name: part.to("cpu").double() for name, part in self.tensors.items()}
            return [functional_call(self._model, {**wide, **self._at(point, wide)}, (X,)) for point in points]

    def _at_once(self) -> int:
        """How many points at a time keep every tensor small."""
        sizes = [part.numel() for part in self.tensors.values()]
        width = max((length for part in self.tensors.values() for length in part.shape), default=1)
        return max(1, MAX_NUMBERS // max(len(self.X_train) * width, *sizes))

    def _losses(self, points: Sequence[Point]) -> list[float]:
        with self._undisturbed():
            if self._plain and len(points) > 1:
                found: list[float] = vmap(self._loss)(self._moved(points)).tolist()
            else:
                found = torch.stack([self._loss(self._at(point)) for point in points]).tolist()
        return found

    def _loss(self, moved: dict[str, Tensor]) -> Tensor:
        y_pred = functional_call(self._model, {**self.tensors, **moved}, (self.X_train,))
        return self._criterion(y_pred, self.y_train)

    def _part_by_part(self, point: Point) -> Work[list[float]]:
        total = 0.0
        for X, y in zip(torch.split(self.X_train, MAX_ROWS), torch.split(self.y_train, MAX_ROWS), strict=True):
            with self._undisturbed(), one_thread():
                y_pred = functional_call(self._model, {**self.tensors, **self._at(point)}, (X,))
                total += self._criterion(y_pred, y).item() * len(X)
            yield
        return [total / len(self.X_train)]

    def _at(self, point: Point, tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The parameters that hold the scalars, at `point`."""
        return {name: part[0] for name, part in self._moved([point], tensors).items()}

    def _moved(self, points: Sequence[Point], tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The parameters that hold the scalars, at each of `points` along an axis of their own."""
        values = torch.tensor(points, dtype=torch.float64)
        moved: dict[str, Tensor] = {}
        for scalar, column in zip((self.x, self.y), values.unbind(1), strict=True):
            if scalar.parameter not in moved:
                held = (tensors or self.tensors)[scalar.parameter]
                moved[scalar.parameter] = held.expand(len(points), *held.shape).clone()
            stack = moved[scalar.parameter]
            across: Any = (slice(None), *scalar.position)
            stack[across] = column.to(stack.dtype).to(stack.device)
        return moved

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        begun = time.perf_counter()
        with inference(self._model), contextlib.ExitStack() as stack:
            if not self._plain:
                device = self.X_train.device
                stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
            yield
        self._seconds += time.perf_counter() - begun


def _copied(model: nn.Module) -> nn.Module:
    """A model of the user's own may keep what it has seen: that is not to be what is only tried here."""
    try:
        return copy.deepcopy(model)
    except Exception:  # it holds what cannot be copied; then it is called as it is for every other prediction
        return model
