"""Tensors as the tables show them, for every step that has some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.specs import Dtype
from workflow_core.views import TensorView

SHOWN = 8
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
SAVED_DTYPES = frozenset(
    (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
)
"""What files of weights may hold."""


def tensor_view(name: str, tensor: Tensor) -> TensorView:
    """`tensor` with its first 8 values, flattened; parameters tell whether they are trained."""
    values = tensor.detach().flatten()[:SHOWN].to("cpu")
    return TensorView(
        name=name,
        shape=tuple(tensor.shape),
        dtype=dtype_name(tensor.dtype),
        device=str(tensor.device),
        size=tensor.numel() * tensor.element_size(),
        values=tuple(map(float, values.tolist())),
        requires_grad=tensor.requires_grad,
    )


def on_cpu(item: Any) -> Any:
    """A copy of nested containers with every tensor on the CPU and in a storage of its own; a device is waited for."""
    if isinstance(item, Tensor):
        return item.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    if isinstance(item, Mapping):
        return {key: on_cpu(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(map(on_cpu, item))
    return item


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype that the model computes in: that of its first parameter of floating point numbers."""
    found = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(found, torch.float32)
