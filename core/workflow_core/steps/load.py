"""Step 6: read a file back without trusting it, put it into a fresh model, and prove that it predicts the same.

A file passes a gate (archive.py, then pickles.py) before torch sees it, and what torch makes of it is looked through
once more. Messages of torch and raw bytes of the file are never shown.
"""

from __future__ import annotations

import copy
import errno
import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core import atomic
from workflow_core.archive import MAX_BYTES, Refused, open_archive
from workflow_core.errors import WorkflowError
from workflow_core.pickles import outline, walk
from workflow_core.protocol import FileView, Proof, TensorView
from workflow_core.sanitize import sanitize
from workflow_core.specs import ModelSpec, SaveKind, WorkflowSpec
from workflow_core.steps.build import build, inference, scalars
from workflow_core.steps.data import Dataset
from workflow_core.steps.tensors import device_of, tensor_view

MAX_VALUES = 500
SAMPLES = 8
SLICE = 2**20
"""Rows compared at a time: the comparison needs several numbers of 8 bytes for each."""

_TITLE = "Cannot read the file"
_DTYPES = frozenset(
    (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
)
_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its symbolic links go round in a circle",
    errno.EIO: "the disk reports an error",
}


@dataclass(frozen=True)
class Loaded:
    """A file in a fresh model: `before` and `after` are the scalar parameters without and with the file's weights.

    `contents` is the whole file as plain values and CPU tensors; `workflow` the settings it was made with, where it
    holds them.
    """

    file: FileView
    model: nn.Module
    before: dict[str, float]
    after: dict[str, float]
    contents: dict[str, Any]
    workflow: WorkflowSpec | None

    @property
    def epoch(self) -> int | None:
        """The completed epochs that the file tells of."""
        epoch = self.contents.get("epoch") if self.file.kind == "checkpoint" else None
        return epoch if type(epoch) is int else None

    @property
    def truth(self) -> tuple[float, float] | None:
        """(weight, bias) of the line that the data it was trained on was made from, where the file tells of it."""
        return (self.workflow.data.weight, self.workflow.data.bias) if self.workflow else None


def inspect(path: str | os.PathLike[str]) -> FileView:
    """What a file holds, whatever model it is of. Raises WorkflowError for anything but a file of weights."""
    return _open(path)[0]


def load(path: str | os.PathLike[str]) -> Loaded:
    """Read a file into a fresh model of the kind it was saved from (the default kind where it does not say).

    Raises WorkflowError for a file that cannot be read, holds anything but weights, or does not fit; keys, shapes and
    types are all compared before the first number is put in.
    """
    file, contents = _open(path)
    workflow = _workflow(path, contents) if file.kind == "checkpoint" else None
    weights = contents["model_state_dict"] if file.kind == "checkpoint" else contents
    model = build(workflow.model if workflow else ModelSpec())
    _check_fit(path, weights, model)
    before = scalars(model)
    model.load_state_dict(dict(weights))
    return Loaded(file, model, before, scalars(model), contents, workflow)


def prove(loaded: Loaded, reference_model: nn.Module | None, dataset: Dataset | None) -> Proof | None:
    """Compare predictions of the loaded model bit for bit, NaN being equal to NaN.

    With `reference_model` and `dataset` it is compared with that model over all rows, on the device where that model
    is (devices differ in the last bits), else with the record of predictions in the file; None where there is neither.
    """
    if reference_model is not None and dataset is not None:
        device = device_of(reference_model)
        model = copy.deepcopy(loaded.model).to(device)
        X = dataset.X.to(device)
        return _compare("this model", X, _predict(reference_model, X), _predict(model, X))
    record = loaded.contents.get("proof") if loaded.file.kind == "checkpoint" else None
    if not isinstance(record, Mapping):
        return None
    x, expected = _numbers(record.get("x")), _numbers(record.get("y_pred"))
    if not x or len(x) != len(expected):
        return None
    columns = torch.tensor(x, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
    return _compare("the saved record", *columns, _predict(loaded.model, columns[0].to(torch.float32).reshape(-1, 1)))


def _predict(model: nn.Module, X: Tensor) -> Tensor:
    with inference(model):
        return model(X)  # type: ignore[no-any-return]


def _numbers(column: Any) -> list[float]:
    return column if isinstance(column, list) and all(type(number) is float for number in column) else []


def _compare(against: str, x: Tensor, expected: Tensor, found: Tensor) -> Proof:
    """Three columns of equal length, compared as tensors: millions of rows as lists would take seconds."""
    x, expected, found = (column.flatten().cpu() for column in (x, expected, found))
    worst = torch.zeros((), dtype=torch.float64)
    for a, b in zip(torch.split(expected, SLICE), torch.split(found, SLICE), strict=True):
        same = (a == b) | (a.isnan() & b.isnan())
        if not bool(same.all()):
            difference = (a.double() - b.double()).abs().masked_fill(same, 0.0)
            worst = torch.maximum(worst, difference.max())  # NaN, a number against none, stays the worst of all
    count = min(SAMPLES, len(x))
    rows = torch.arange(count) * (len(x) - 1) // max(count - 1, 1)
    samples = zip(*(column[rows].tolist() for column in (x, expected, found)), strict=True)
    return Proof(
        against=against,
        rows=len(x),
        equal=worst.item() == 0,
        max_difference=worst.item(),
        samples=tuple(samples),
    )


def _open(path: str | os.PathLike[str]) -> tuple[FileView, dict[str, Any]]:
    name = atomic.expand(path, _TITLE)
    data = _read(name)
    try:
        archive = open_archive(data)
        outline(archive.pickle, archive.storages)
        contents = _load(data)
        file = _view(name, len(data), archive.verified, contents)
    except Refused as refused:
        message = f"{sanitize(name)} cannot be loaded: {refused.reason}."
        raise WorkflowError(refused.title, message, refused.advice) from refused
    return file, contents


def _read(name: str) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write to it
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            _check_status(name, os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        code = error.errno or 0
        reason = "it is no regular file" if code == errno.ENXIO else _REASONS.get(code, "the system refused")
        raise _unreadable(name, reason) from error


def _check_status(name: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _unreadable(name, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(name, "it is a device, a pipe or a socket, not a file")
    if status.st_size > MAX_BYTES:
        raise _unreadable(name, f"it is larger than {MAX_BYTES // 1024**2} MiB, the most that is loaded here")


def _unreadable(name: str, reason: str) -> WorkflowError:
    return WorkflowError(_TITLE, f"{sanitize(name)} cannot be read: {reason}.", "Choose another file.")


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
            leaf.layout != torch.strided or leaf.dtype not in _DTYPES or leaf.device.type != "cpu"
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


def _workflow(path: str | os.PathLike[str], contents: dict[str, Any]) -> WorkflowSpec | None:
    settings = contents.get("workflow")
    if settings is None:
        return None
    try:
        return WorkflowSpec.from_builtins(settings)
    except WorkflowError as error:
        raise WorkflowError(
            "Settings that do not fit",
            f"{sanitize(os.fspath(path))} holds settings that this version cannot use: "
            f"{sanitize(error.problem.message)}",
            "Load it with the version that saved it.",
        ) from error


def _check_fit(path: str | os.PathLike[str], weights: dict[str, Tensor], model: nn.Module) -> None:
    has = {name: _describe(tensor) for name, tensor in weights.items()}
    wants = {name: _describe(tensor) for name, tensor in model.state_dict().items()}
    if has != wants:
        raise WorkflowError(
            "Another model",
            f"{sanitize(os.fspath(path))} does not fit: it has {_listing(has)}; this model wants {_listing(wants)}.",
            "Choose a file that was saved from this model.",
        )


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _listing(tensors: dict[str, str]) -> str:
    shown = [f"{sanitize(name, 60)} {what}" for name, what in list(tensors.items())[:6]]
    more = len(tensors) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
