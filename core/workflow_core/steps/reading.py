"""Reads a file of weights without trusting it, whatever model it is of.

It passes a gate (archive.py, then pickles.py) before torch sees it, and what torch makes of it is looked through once
more. Messages of torch and raw bytes of the file are never shown.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workflow_core import atomic, files
from workflow_core.archive import MAX_BYTES, Refused, open_archive
from workflow_core.errors import WorkflowError
from workflow_core.pickles import outline, walk
from workflow_core.sanitize import sanitize
from workflow_core.specs import SaveKind
from workflow_core.steps.tensors import SAVED_DTYPES, tensor_view
from workflow_core.views import FileView, TensorView

MAX_VALUES = 500

_TITLE = "Cannot read the file"


def read(path: str | os.PathLike[str]) -> tuple[FileView, dict[str, Any]]:
    """What the file holds, to show and as plain values and CPU tensors.

    Raises WorkflowError for a file that cannot be read, or holds anything but weights and plain values.
    """
    name = atomic.expand(path, _TITLE)
    data = files.read(name, MAX_BYTES, _TITLE)
    try:
        archive = open_archive(data)
        outline(archive.pickle, archive.storages)
        contents = _load(data)
        file = _view(name, len(data), archive.verified, contents)
    except Refused as refused:
        message = f"{sanitize(name)} cannot be loaded: {refused.reason}."
        raise WorkflowError(refused.title, message, refused.advice) from refused
    return file, contents


def _load(data: bytes) -> dict[str, Any]:
    """What torch makes of bytes that have passed the gate, looked through once more."""
    try:
        contents = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything, with messages that are not for people
        raise Refused("Damaged file", "PyTorch cannot read it", "Fetch or save it again.") from error
    if not isinstance(contents, Mapping):
        raise Refused("Not a model", "it holds neither a state_dict nor a checkpoint", "Save model.state_dict().")
    plain: dict[str, Any] = _plain(contents)
    for _, leaf in walk(plain, Tensor):
        if isinstance(leaf, Tensor) and (
            leaf.layout != torch.strided or leaf.dtype not in SAVED_DTYPES or leaf.device.type != "cpu"
        ):
            raise Refused("Not weights", "one of its tensors is of a kind that weights never are")
    return plain


def _plain(item: Any) -> Any:
    """Dictionaries for mappings and bare tensors for parameters: nothing that the file attached to them goes on."""
    if isinstance(item, Tensor):
        return item.detach()
    if isinstance(item, Mapping):
        return {key: _plain(part) for key, part in item.items()}
    if isinstance(item, list):
        return [_plain(part) for part in item]
    return tuple(_plain(part) for part in item) if isinstance(item, tuple) else item


def _view(name: str, size: int, verified: bool, contents: dict[str, Any]) -> FileView:
    kind = _kind(contents)
    tensors: list[TensorView] = []
    values: dict[str, str] = {}
    broken: list[str] = []
    for dotted, leaf in walk(contents, Tensor):
        shown = sanitize(dotted, 100)
        if isinstance(leaf, Tensor):
            tensors.append(tensor_view(shown, leaf))
            if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
                broken.append(shown)
        elif len(values) < MAX_VALUES:
            values[shown] = _text(leaf)
    if broken:
        values["not finite"] = sanitize(f"NaN or infinity in {', '.join(broken)}")
    return FileView(
        path=os.fsencode(name).decode("utf-8", "replace"),
        kind=kind,
        size=size,
        tensors=tuple(tensors[:MAX_VALUES]),
        values=values,
        verified=verified,
    )


def _text(leaf: object) -> str:
    if isinstance(leaf, list):
        return sanitize(f"[{', '.join(map(_text, leaf[:100]))}]")
    return "none" if leaf is None else sanitize(str(leaf)[:2000])


def _kind(contents: dict[str, Any]) -> SaveKind:
    if _is_state_dict(contents):
        return "state_dict"
    if _is_state_dict(contents.get("model_state_dict")):
        return "checkpoint"
    raise Refused(
        "Not a model",
        "it holds neither a state_dict nor a checkpoint with a model_state_dict",
        "Save model.state_dict().",
    )


def _is_state_dict(item: object) -> bool:
    return (
        isinstance(item, dict)
        and bool(item)
        and all(isinstance(key, str) and isinstance(part, Tensor) for key, part in item.items())
    )
