"""The rows of an epoch, all at once or dealt to mini-batches: fetched whole, so that a batch costs only a slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

CUT = 1024
"""So many batches are cut at a time: 100,000 at once would take a third of a second before the first of them."""


class Batches:
    """What one epoch goes over: each iteration deals all rows anew, the last batch is what is left.

    `X` is of shape [n, k], `y` of shape [n, 1]. The order is torch.randperm with a generator of its own, on the CPU
    whatever device the rows are on, so that every device sees the same. A `batch_size` of 0 is the full batch: all
    rows, in their own order; one of n rows or more deals them to a single batch. An epoch has `count` batches.
    """

    def __init__(self, X: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        self.X, self.y = X, y
        self.rows = len(X)
        self.full = batch_size == 0
        self.batch_size = self.rows if self.full else batch_size
        self.count = -(-self.rows // max(self.batch_size, 1))
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._before = self._generator.get_state()
        # out of pinned memory a copy to CUDA waits for nothing that the device has yet to do
        self._pinned = X.device.type == "cuda"
        self._all = ((X, y),)

    @property
    def sizes(self) -> list[int]:
        """How many rows each batch of an epoch has."""
        whole, left = divmod(self.rows, max(self.batch_size, 1))
        return [self.batch_size] * whole + [left] * bool(left)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._all) if self.full else self._dealt(0)

    def state(self, begun: bool) -> Tensor:
        """The generator's state as the epoch to come will find it, or as that which has `begun` has found it."""
        return self._before.clone() if begun else self._generator.get_state()

    def load(self, state: Tensor) -> None:
        """Deal the next epoch as if nothing had been drawn since `state` was taken."""
        self._generator.set_state(state)

    def after(self, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Deal an epoch of which so many batches, but not all, are done already, and go on with those that are left."""
        return iter(self._all) if self.full else self._dealt(done)

    def _dealt(self, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        self._before = self._generator.get_state()
        order = torch.randperm(self.rows, generator=self._generator, device="cpu", pin_memory=self._pinned)
        order = order.to(self.X.device, non_blocking=True)
        # a third of the time that X[order] takes
        X, y = self.X.index_select(0, order), self.y.flatten().index_select(0, order).unsqueeze(1)
        size, cut = self.batch_size, self.batch_size * CUT
        if not done and cut >= self.rows:
            return zip(torch.split(X, size), torch.split(y, size), strict=True)
        return itertools.chain.from_iterable(
            zip(torch.split(X[start : start + cut], size), torch.split(y[start : start + cut], size), strict=True)
            for start in range(done * size, self.rows, cut)
        )
