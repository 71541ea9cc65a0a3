"""The fields of the Train screen: criterion, optimizer, batches, schedule, and when the training ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_core.specs import (
    LOSS_NAMES,
    LOSS_USES,
    LOSSES,
    MAX_EPOCHS,
    MAX_ROWS,
    MAX_SEED,
    OPTIMIZER_NAMES,
    OPTIMIZER_USES,
    OPTIMIZERS,
    SCHEDULER_USES,
    SCHEDULERS,
    Scheduler,
    TrainSpec,
)
from workflow_tui.settings import convert, uses
from workflow_tui.widgets.field import Field, Value, Values

SCHEDULER_NAMES: dict[Scheduler, str] = {
    "none": "constant",
    "step": "steps",
    "cosine": "cosine",
    "plateau": "on plateau",
    "warmup": "warm-up",
}
STEPS, BATCHES, SCHEDULE, ENDS, WHERE = "Loss and optimizer", "Batches", "Schedule", "Stopping", "Device"


def _by_scheduler(**hints: str) -> Callable[[Values], str]:
    return lambda values: hints.get(str(values["scheduler"]), "")


def _optimizer(name: str) -> Callable[[Values], bool]:
    return uses("optimizer", OPTIMIZER_USES, name)


FIELDS = (
    Field("learning_rate", "learning rate", low=0, high=1e6, group=STEPS),
    Field("epochs", "epochs", "int", low=1, high=MAX_EPOCHS, step=10, group=STEPS),
    Field("loss", "loss", "choice", choices=tuple((LOSS_NAMES[name], name) for name in LOSSES), group=STEPS),
    Field(
        "delta",
        "delta",
        hint="where |error| turns linear",
        low=1e-12,
        high=1e12,
        step=0.1,
        when=uses("loss", LOSS_USES, "delta"),
        group=STEPS,
    ),
    Field(
        "optimizer",
        "optimizer",
        "choice",
        choices=tuple((OPTIMIZER_NAMES[name], name) for name in OPTIMIZERS),
        group=STEPS,
    ),
    Field(
        "momentum",
        "momentum",
        hint="share of the last step",
        low=0,
        high=0.9999,
        step=0.1,
        when=_optimizer("momentum"),
        group=STEPS,
    ),
    Field(
        "nesterov",
        "nesterov",
        "flag",
        when=lambda values: _optimizer("nesterov")(values) and bool(values["momentum"]),
        group=STEPS,
    ),
    Field(
        "weight_decay",
        "weight decay",
        "optional",
        when=_optimizer("weight_decay"),
        group=STEPS,
        empty="the optimizer's",
    ),
    Field("batch_size", "batch size", "int", "rows; 0 is all", low=0, high=MAX_ROWS, step=8, group=BATCHES),
    Field(
        "batch_seed",
        "batch seed",
        "int",
        "deals the rows",
        low=0,
        high=MAX_SEED,
        step=1,
        when=lambda values: bool(values["batch_size"]),
        group=BATCHES,
    ),
    Field(
        "scheduler",
        "schedule",
        "choice",
        choices=tuple((SCHEDULER_NAMES[name], name) for name in SCHEDULERS),
        group=SCHEDULE,
    ),
    Field(
        "scheduler_epochs",
        "its epochs",
        "int",
        _by_scheduler(step="between steps", plateau="of patience", warmup="to full rate"),
        low=1,
        high=MAX_EPOCHS,
        step=1,
        when=uses("scheduler", SCHEDULER_USES, "scheduler_epochs"),
        group=SCHEDULE,
    ),
    Field(
        "scheduler_factor",
        "its factor",
        hint=_by_scheduler(step="times the rate", plateau="times the rate", warmup="of the rate at first"),
        low=1e-9,
        high=1.0,
        step=0.1,
        when=uses("scheduler", SCHEDULER_USES, "scheduler_factor"),
        group=SCHEDULE,
    ),
    Field("early_stop", "early stop", "int", "epochs; 0 is off", low=0, high=MAX_EPOCHS, step=1, group=ENDS),
    Field(
        "min_delta",
        "min delta",
        hint="least gain in loss",
        low=0,
        when=lambda values: bool(values["early_stop"]),
        group=ENDS,
    ),
    Field("clip", "clip norm", hint="of gradients; 0 is off", low=0, step=0.1, group=ENDS),
    Field("device", "device", "text", hint="auto, cpu, cuda, mps", group=WHERE),
    Field("deterministic", "repeatable", "flag", "to the last bit", group=WHERE),
)


def values(spec: TrainSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    return {field.name: getattr(spec, field.name) for field in FIELDS}


def spec_of(form: Values) -> TrainSpec:
    """The spec the form's values describe. Raises ValueError with what does not fit."""
    plain: dict[str, Any] = dict(form)
    if plain["optimizer"] != "sgd" or not plain["momentum"]:
        plain["nesterov"] = False  # its field is hidden: it must not be what refuses another one
    return convert(plain, TrainSpec)
