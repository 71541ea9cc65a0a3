"""The rows of an epoch, all at once or dealt to mini-batches: fetched whole, so that a batch costs only a slice."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """What one epoch goes over: each iteration deals all rows anew, the last batch is what is left.

    `X` is of shape [n, k], `y` of shape [n, 1]. The order is torch.randperm with a generator of its own, on the CPU
    whatever device the rows are on, so that every device sees the same. A `batch_size` of 0 is the full batch: all
    rows, in their own order; one of n rows or more deals them to a single batch.
    """

    def __init__(self, X: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        self.X, self.y = X, y
        self.rows = len(X)
        self.full = batch_size == 0
        self.batch_size = self.rows if self.full else batch_size
        self._generator = torch.Generator("cpu").manual_seed(seed)
        # out of pinned memory a copy to CUDA waits for nothing that the device has yet to do
        self._pinned = X.device.type == "cuda"
        self._all = ((X, y),)

    @property
    def sizes(self) -> list[int]:
        """How many rows each batch of an epoch has."""
        whole, left = divmod(self.rows, max(self.batch_size, 1))
        return [self.batch_size] * whole + [left] * bool(left)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._all) if self.full else self._dealt()

    def _dealt(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(self.rows, generator=self._generator, device="cpu", pin_memory=self._pinned)
        order = order.to(self.X.device, non_blocking=True)
        # a third of the time that X[order] takes
        X, y = self.X.index_select(0, order), self.y.flatten().index_select(0, order).unsqueeze(1)
        return zip(torch.split(X, self.batch_size), torch.split(y, self.batch_size), strict=True)
