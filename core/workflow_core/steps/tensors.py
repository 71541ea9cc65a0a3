"""Tensors as the tables show them, for every step that has some."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workflow_core.protocol import TensorView

SHOWN = 8


def tensor_view(name: str, tensor: Tensor) -> TensorView:
    """`tensor` with its first 8 values, flattened; parameters tell whether they are trained."""
    values = tensor.detach().flatten()[:SHOWN].to("cpu")
    return TensorView(
        name=name,
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        size=tensor.numel() * tensor.element_size(),
        values=tuple(map(float, values.tolist())),
        requires_grad=tensor.requires_grad,
    )


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
