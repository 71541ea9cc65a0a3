"""How fast a run trains and what it takes: rates over the time it has trained, the lines of the loop, and memory."""

from __future__ import annotations

import copy
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workflow_core.engine.errands import Errand
from workflow_core.engine.runner import Runner
from workflow_core.protocol import SpeedAnswer
from workflow_core.specs import Line
from workflow_core.steps.optimizers import LeanOptimizer, load_state, make_optimizer
from workflow_core.steps.plane import Work
from workflow_core.steps.train import Trainer

ENOUGH = 0.03
"""Seconds for which the lines are timed."""
FEWEST, MOST = 5, 200
"""Passes through the loop, whatever time they take."""
WARM_UP = 2
"""The first ones find nothing in the caches, and are not counted."""
STALE = 60.0
"""Seconds after which the lines are timed anew."""
MAX_NUMBERS = 2**26
"""Of a model with more numbers no second one is made to time the lines with."""


class SpeedReader:
    """Sets out to answer `ReadSpeed`; the lines are timed once in a while, on a copy of model and optimizer."""

    def __init__(self) -> None:
        self._timed: tuple[Runner, float, dict[str, float]] | None = None

    def of_run(self, runner: Runner) -> Errand:
        """What is known of the speed of this run."""
        now = time.monotonic()
        if self._timed is None or self._timed[0] is not runner or now - self._timed[1] > STALE:
            self._timed = runner, now, (yield from time_lines(runner.trainer))
        view, trainer = runner.view, runner.trainer
        seconds, rates = runner.rates.series()
        rate = view.rate if runner.running else rates[-1] if rates else 0.0
        return SpeedAnswer(
            run=view.run,
            seconds=seconds,
            rates=rates,
            epoch_ms=1000 / view.capacity if view.capacity else None,
            line_ms=self._timed[2],
            rows=rate * trainer.batches.rows,
            threads=torch.get_num_threads(),
            memory=memory(),
            device_memory=torch.cuda.memory_allocated(trainer.device) if trainer.device.type == "cuda" else None,
        )


def time_lines(trainer: Trainer) -> Work[dict[str, float]]:
    """Milliseconds of an epoch that each line of the loop takes, and the `validation`: medians of some passes.

    Nothing of the training is touched. Empty where they cannot be told apart: an accelerator does not do them one after
    the other, lbfgs runs them by itself; and where there is no second model to be had.
    """
    parameters = list(trainer.model.parameters())
    large = sum(parameter.numel() for parameter in parameters) > MAX_NUMBERS
    if large or trainer.device.type != "cpu" or trainer.spec.optimizer == "lbfgs":
        return {}
    try:
        laps = Laps(trainer)
        taken: list[dict[str, float]] = []
        spent = 0.0
        while len(taken) < MOST + WARM_UP and (len(taken) < FEWEST + WARM_UP or spent < ENOUGH):
            taken.append((yield from laps.run()))
            spent += sum(taken[-1].values())
    except Exception:  # what a class of the user's own makes of being copied, or a loop that cannot run
        return {}
    batches = trainer.batches.count
    return {
        name: 1000 * statistics.median(lap[name] for lap in taken[WARM_UP:]) * (1 if name == "validation" else batches)
        for name in taken[0]
    }


class Laps:
    """Passes through the loop of `trainer` on a model and an optimizer like its own."""

    def __init__(self, trainer: Trainer) -> None:
        self._spec = trainer.spec
        self._model = copy.deepcopy(trainer.model).train()
        optimizer = make_optimizer(trainer.spec, self._model)
        load_state(optimizer, trainer.optimizer.state_dict())
        self._optimizer = LeanOptimizer(optimizer)
        self._criterion = trainer.criterion
        size = trainer.batches.batch_size
        X, y = torch.split(trainer.batches.X, size), torch.split(trainer.batches.y, size)
        self._batches = list(zip(X, y, strict=True))
        self._validation = (trainer.X_val, trainer.y_val) if trainer.validates else None
        self._at = 0
        self._y_pred: Any = None
        self._loss: Any = None

    def run(self) -> Work[dict[str, float]]:
        """Seconds that each line took in a pass over the next batch."""
        X, y = self._batches[self._at % len(self._batches)]
        self._at += 1
        lines: dict[Line, Callable[[], object]] = {
            "forward": lambda: setattr(self, "_y_pred", self._model(X)),
            "loss": lambda: setattr(self, "_loss", self._criterion(self._y_pred, y)),
            "zero_grad": self._optimizer.zero_grad,
            "backward": lambda: self._loss.backward(),
            "step": self._step,
        }
        taken: dict[str, float] = {}
        for line in self._spec.loop:
            taken[line] = _timed(lines[line])
            yield
        if self._validation is not None:
            taken["validation"] = _timed(self._validate)
            yield
        return taken

    def _step(self) -> None:
        if self._spec.clip:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._spec.clip)
        self._optimizer.step()

    def _validate(self) -> None:
        assert self._validation is not None
        X_val, y_val = self._validation
        self._model.eval()
        with torch.inference_mode():
            self._criterion(self._model(X_val), y_val).item()
        self._model.train()


def _timed(work: Callable[[], object]) -> float:
    """Seconds that it takes; torch's random numbers go on afterwards as if it had drawn none."""
    with torch.random.fork_rng([]):
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun


def memory() -> int:
    """Bytes of memory that this process has now; where the system does not tell, the most that it has had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
