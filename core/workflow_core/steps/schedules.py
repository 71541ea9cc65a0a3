"""The learning rate over the epochs: what the scheduler makes of it, and what the user changes while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, optim
from torch.optim import lr_scheduler

from workflow_core.specs import Scheduler, TrainSpec
from workflow_core.steps.tensors import on_cpu

AnyScheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau


def _plateau(spec: TrainSpec, optimizer: optim.Optimizer) -> AnyScheduler | None:
    if spec.scheduler_factor == 1.0:
        return None  # torch refuses a factor that changes nothing
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=spec.scheduler_factor, patience=spec.scheduler_epochs)


SCHEDULERS: dict[Scheduler, Callable[[TrainSpec, optim.Optimizer], AnyScheduler | None]] = {
    "none": lambda spec, optimizer: None,
    "step": lambda spec, optimizer: lr_scheduler.StepLR(
        optimizer, step_size=spec.scheduler_epochs, gamma=spec.scheduler_factor
    ),
    "cosine": lambda spec, optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=spec.epochs),
    "plateau": _plateau,
    "warmup": lambda spec, optimizer: lr_scheduler.LinearLR(
        optimizer, start_factor=spec.scheduler_factor, total_iters=spec.scheduler_epochs
    ),
}


class Schedule:
    """The learning rate of `optimizer`; make it before the first step, and `step` it after every epoch."""

    def __init__(self, spec: TrainSpec, optimizer: optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._scheduler = SCHEDULERS[spec.scheduler](spec, optimizer)
        if "step" not in spec.loop:
            # an experiment without steps of the optimizer: torch need not warn that there were none
            vars(optimizer)["_opt_called"] = True

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def idle(self) -> bool:
        """Is there nothing to be done after an epoch?"""
        return self._scheduler is None

    def step(self, loss: float | Tensor) -> None:
        """An epoch is over. Only `plateau` looks at `loss`, and then waits for the device that it is on."""
        if isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(loss)
        elif self._scheduler is not None:
            self._scheduler.step()

    def state(self) -> dict[str, Any] | None:
        """What its scheduler has to remember; the learning rates themselves are in the optimizer's state."""
        state: dict[str, Any] | None = on_cpu(self._scheduler.state_dict()) if self._scheduler is not None else None
        return state

    def load(self, state: dict[str, Any] | None) -> None:
        """Go on from there, with the optimizer's state loaded as well."""
        if self._scheduler is not None and state is not None:
            self._scheduler.load_state_dict(on_cpu(state))

    def set_learning_rate(self, learning_rate: float) -> None:
        """Go on with another learning rate; the schedule goes on from it, as if it had all been scaled to fit."""
        # torch's schedulers make every rate out of the one before: those after this one are scaled with it
        self._optimizer.param_groups[0]["lr"] = learning_rate
