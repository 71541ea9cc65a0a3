"""The figures of an epoch, out of what its batches have left; on an accelerator they stay there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.steps.batches import Batches
from workflow_core.steps.optimizers import total_norm


class Figures:
    """`read` makes a figure of a tensor of shape []: on the `host` a number, elsewhere a tensor: no wait."""

    def __init__(self, model: nn.Module, batches: Batches, host: bool) -> None:
        self.read: Any = Tensor.item if host else Tensor.detach
        self._host = host
        self._batches = batches
        self._parameters = list(model.parameters())
        self._few = host and all(parameter.numel() == 1 for parameter in self._parameters)
        self._sizes: Tensor | None = None

    def grad_norm(self) -> Any:
        """The L2 norm of all gradients together, as they are now."""
        if not self._host:
            return total_norm(self._parameters)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        # torch's own total takes 40 µs for however few gradients, a sixth of an epoch of two numbers
        norms = gradients if self._few else torch._foreach_norm(gradients) if gradients else []
        return math.hypot(*[norm.item() for norm in norms])

    def loss(self, losses: list[Any]) -> Any:
        """That of the epoch: the mean over the rows, out of those of the batches."""
        if self._batches.full:
            return losses[0]
        sizes, rows = self._batches.sizes, self._batches.rows
        if self._host:
            total = 0.0
            for loss, size in zip(losses, sizes, strict=True):
                total += loss * size
            return total / rows
        stacked = torch.stack(losses)
        if self._sizes is None:
            # once: a copy out of memory that is not pinned waits until the device has done all that it was given
            self._sizes = torch.tensor(sizes, dtype=stacked.dtype, device=stacked.device)
        return stacked.dot(self._sizes) / rows


def before_clipping(gradients: Mapping[str, Tensor], clip: float, norm: Any) -> dict[str, float]:
    """Gradients as numbers, in one transfer, that had this `norm` before they were clipped to `clip` (0: were not)."""
    if not gradients:
        return {}
    tensors = list(gradients.values())
    if clip and isinstance(norm, Tensor):
        tensors.append(norm)
    values = torch.stack(tensors).tolist()
    scale = 1.0
    if clip:
        # as nn.utils.clip_grad_norm_ has divided them
        scale = max(1.0, ((values[-1] if isinstance(norm, Tensor) else norm) + 1e-6) / clip)
    return {name: float(value) * scale for name, value in zip(gradients, values, strict=False)}
