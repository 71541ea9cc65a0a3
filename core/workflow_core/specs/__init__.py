"""What a run is made of: frozen, validated settings that are read from and written to one TOML file.

The defaults are the course's: X = arange(0, 1, 0.02), y = 0.7·X + 0.3, a sequential 70/15/15 split,
weight then bias drawn by `torch.randn(1)` with seed 42, MSELoss, SGD with lr 0.01, 100 epochs.
Every random act has a seed of its own, so that changing one never moves another.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from workflow_core.errors import WorkflowError
from workflow_core.specs.checks import MAX_SEED, MAX_VALUE
from workflow_core.specs.data import (
    DATA_KINDS,
    DTYPES,
    MAX_DEGREE,
    MAX_FEATURES,
    MAX_ROWS,
    MISSING,
    RANGE,
    SAMPLES,
    SPACINGS,
    SPLITS,
    USES,
    DataKind,
    DataSpec,
    Dtype,
    Missing,
    Order,
    Sample,
    Spacing,
    SplitSpec,
)
from workflow_core.specs.model import (
    ACTIVATIONS,
    INITS,
    MODEL_KINDS,
    MODEL_USES,
    Activation,
    Argument,
    InitKind,
    InitSpec,
    ModelKind,
    ModelSpec,
)
from workflow_core.specs.train import (
    LINES,
    LOSS_NAMES,
    LOSS_USES,
    LOSSES,
    MAX_EPOCHS,
    OPTIMIZER_NAMES,
    OPTIMIZER_OVER,
    OPTIMIZER_USES,
    OPTIMIZERS,
    SCHEDULER_USES,
    SCHEDULERS,
    Line,
    Loss,
    Optimizer,
    OptimizerOver,
    SaveKind,
    Scheduler,
    TrainSpec,
    goes_on,
    parse_device,
)

__all__ = [
    "ACTIVATIONS",
    "DATA_KINDS",
    "DTYPES",
    "INITS",
    "LINES",
    "LOSSES",
    "LOSS_NAMES",
    "LOSS_USES",
    "MAX_DEGREE",
    "MAX_EPOCHS",
    "MAX_FEATURES",
    "MAX_ROWS",
    "MAX_SEED",
    "MAX_VALUE",
    "MISSING",
    "MODEL_KINDS",
    "MODEL_USES",
    "OPTIMIZERS",
    "OPTIMIZER_NAMES",
    "OPTIMIZER_OVER",
    "OPTIMIZER_USES",
    "RANGE",
    "SAMPLES",
    "SCHEDULERS",
    "SCHEDULER_USES",
    "SPACINGS",
    "SPLITS",
    "USES",
    "Activation",
    "Argument",
    "DataKind",
    "DataSpec",
    "Dtype",
    "InitKind",
    "InitSpec",
    "Line",
    "Loss",
    "Missing",
    "ModelKind",
    "ModelSpec",
    "Optimizer",
    "OptimizerOver",
    "Order",
    "Sample",
    "SaveKind",
    "Scheduler",
    "Spacing",
    "SplitSpec",
    "TrainSpec",
    "WorkflowSpec",
    "goes_on",
    "parse_device",
]


_LEFT = "# weight_decay = 0.0  # without it the optimizer's own: 0.01 for adamw, 0 for the others\n"


class WorkflowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one run is made of: data, model and training."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()

    def to_toml(self) -> str:
        """The complete spec as TOML text; `from_toml` reads it back equal.

        TOML has no None: a weight decay that is left to the optimizer stands in a comment, at the end of its table.
        """
        text = tomli_w.dumps(_without_none(msgspec.to_builtins(self)))
        return text if self.train.weight_decay is not None else f"{text}{_LEFT}"

    @classmethod
    def from_toml(cls, text: str) -> WorkflowSpec:
        """Read TOML text; what it leaves out keeps its default. Raises WorkflowError with what is wrong."""
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise WorkflowError(
                "Not a TOML file", f"the settings are not TOML: {error}.", "Mend the line it names."
            ) from error
        return cls.from_builtins(document)

    @classmethod
    def from_builtins(cls, document: dict[str, Any]) -> WorkflowSpec:
        """Read plain dictionaries (as TOML or a checkpoint hold them). Raises WorkflowError."""
        try:
            return msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise WorkflowError("Settings that do not fit", _explain(cls, str(error))) from error

    @classmethod
    def read(cls, path: Path) -> WorkflowSpec:
        """Read a TOML file. Raises WorkflowError where it cannot be read or does not fit."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise WorkflowError("Cannot read the settings", f"{path} cannot be read: {reason}.") from error
        return cls.from_toml(text)


def _explain(spec: type, text: str) -> str:
    """What msgspec says is wrong, with the name of the setting and what would do."""
    what, _, path = text.partition(" - at `$")
    names = re.findall(r"\w+", path)
    kind: Any = spec
    for name in names:
        kind = get_type_hints(kind).get(name) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
    setting = ".".join(names)
    if unknown := re.search(r"unknown field `(.*)`", what):
        known = list(get_type_hints(kind)) if isinstance(kind, type) else []
        close = difflib.get_close_matches(unknown[1], known, 1)
        there = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
        return f"{setting or 'the file'} has no setting {unknown[1][:60]!r}: {there}"
    if what.startswith("Invalid enum value") and get_origin(kind) is Literal:
        return f"{setting} is {what.removeprefix('Invalid enum value ')}; choose {', '.join(get_args(kind))}."
    return f"{setting}: {what}." if setting else f"{what}."


def _without_none(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _without_none(part) for key, part in item.items() if part is not None}
    return item
