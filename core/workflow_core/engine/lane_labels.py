"""What the lanes of a race are called: what the settings of each have that those of the others have not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workflow_core.specs import (
    LINES,
    LOSS_NAMES,
    LOSS_USES,
    OPTIMIZER_NAMES,
    OPTIMIZER_USES,
    SCHEDULER_USES,
    Line,
    Scheduler,
    TrainSpec,
)

SCHEDULERS: dict[Scheduler, str] = {
    "none": "no schedule",
    "step": "step schedule",
    "cosine": "cosine schedule",
    "plateau": "plateau schedule",
    "warmup": "warm-up",
}


def _loop(loop: Sequence[Line]) -> str:
    if tuple(loop) == LINES:
        return "textbook loop"
    off = [line for line in LINES if line not in loop]
    in_order = [line for line in LINES if line in loop] == list(loop)
    return f"without {' and '.join(off)}" if in_order else f"loop {' '.join(loop)}"


_SAID: dict[str, Callable[[TrainSpec], str]] = {
    "optimizer": lambda spec: OPTIMIZER_NAMES[spec.optimizer],
    "learning_rate": lambda spec: f"lr {spec.learning_rate:g}",
    "momentum": lambda spec: f"momentum {spec.momentum:g}",
    "nesterov": lambda spec: "Nesterov" if spec.nesterov else "no Nesterov",
    "weight_decay": lambda spec: "own decay" if spec.weight_decay is None else f"decay {spec.weight_decay:g}",
    "loss": lambda spec: LOSS_NAMES[spec.loss],
    "delta": lambda spec: f"delta {spec.delta:g}",
    "batch_size": lambda spec: f"batches of {spec.batch_size:,}" if spec.batch_size else "all rows at once",
    "batch_seed": lambda spec: f"batch seed {spec.batch_seed}",
    "scheduler": lambda spec: SCHEDULERS[spec.scheduler],
    "scheduler_epochs": lambda spec: f"schedule of {spec.scheduler_epochs:,}",
    "scheduler_factor": lambda spec: f"factor {spec.scheduler_factor:g}",
    "epochs": lambda spec: f"{spec.epochs:,} epochs",
    "early_stop": lambda spec: f"patience {spec.early_stop:,}" if spec.early_stop else "no early stop",
    "min_delta": lambda spec: f"min delta {spec.min_delta:g}",
    "clip": lambda spec: f"clip {spec.clip:g}" if spec.clip else "no clip",
    "deterministic": lambda spec: "repeatable" if spec.deterministic else "not repeatable",
    "device": lambda spec: spec.device,
    "loop": lambda spec: _loop(spec.loop),
    "optimizer_over": lambda spec: "own optimizer" if spec.optimizer_over == "model" else "optimizer of another",
}
"""In the order in which a label has them."""


def labels(specs: Sequence[TrainSpec]) -> tuple[str, ...]:
    """A label for each of `specs`, such as `Adam lr 0.1`; settings that do nothing in one of them are left out there.

    Those that would be called the same are numbered.
    """
    differ = [name for name in _SAID if len({repr(getattr(spec, name)) for spec in specs}) > 1]
    found = [" ".join(_SAID[name](spec) for name in differ if _counts(name, spec)) for spec in specs]
    found = [label or OPTIMIZER_NAMES[spec.optimizer] for label, spec in zip(found, specs, strict=True)]
    return tuple(
        f"{label} ({found[: at + 1].count(label)})" if found.count(label) > 1 else label
        for at, label in enumerate(found)
    )


def _counts(name: str, spec: TrainSpec) -> bool:
    """Does this setting do anything in `spec`?"""
    if name in ("momentum", "nesterov", "weight_decay"):
        return name in OPTIMIZER_USES[spec.optimizer]
    if name == "delta":
        return name in LOSS_USES[spec.loss]
    if name == "batch_seed":
        return spec.batch_size > 0
    return not name.startswith("scheduler_") or name in SCHEDULER_USES[spec.scheduler]
