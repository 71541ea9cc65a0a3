"""How fast a run trains, where the time of an epoch goes, and what memory it takes."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from workflow_core.engine.pace import Rates
from workflow_core.engine.slow import InPieces, Slow
from workflow_core.engine.travel import twin
from workflow_core.protocol import SpeedAnswer, TrainingView
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
FRESH = 30.0
"""Seconds for which the times of the lines are taken for true."""
MAX_NUMBERS = 2**26
"""Of a model with more numbers no second one is made to time the lines with."""


class Speed:
    """The epochs a second of one run over the seconds that it trained, and what its lines take, timed seldom."""

    def __init__(self, epoch: int = 0) -> None:
        self._rates = Rates(epoch)
        self._lines: dict[str, float] = {}
        self._timed_at = -FRESH

    def note(self, elapsed: float, position: float) -> None:
        """After `elapsed` seconds of training so many epochs are done, the part of that under way with them."""
        self._rates.note(elapsed, position)

    def answer(self, trainer: Trainer, view: Callable[[], TrainingView]) -> Slow:
        """All of it, for the run as `view` has it in the end."""
        return InPieces(self._look(trainer), lambda lines: self._answer(trainer, view(), lines))

    def _look(self, trainer: Trainer) -> Work[dict[str, float]]:
        if time.monotonic() - self._timed_at >= FRESH:
            self._lines = yield from time_lines(trainer)
            self._timed_at = time.monotonic()
        return self._lines

    def _answer(self, trainer: Trainer, view: TrainingView, lines: dict[str, float]) -> SpeedAnswer:
        seconds, rates = self._rates.series()
        rate = view.rate if view.state == "running" else rates[-1] if rates else 0.0
        return SpeedAnswer(
            run=view.run,
            seconds=seconds,
            rates=rates,
            epoch_ms=1000 / view.capacity if view.capacity else None,
            line_ms=lines,
            rows=rate * trainer.batches.rows,
            threads=torch.get_num_threads(),
            memory=resident(),
            device_memory=torch.cuda.memory_allocated(trainer.device) if trainer.device.type == "cuda" else None,
        )


def time_lines(trainer: Trainer) -> Work[dict[str, float]]:
    """Milliseconds of an epoch that each line of the loop takes, and the `validation`: medians of some passes.

    Nothing of the training is touched. Empty where they cannot be told apart (an accelerator does its work later than
    it is told to, lbfgs runs the lines by itself), and where there is no second model to be had.
    """
    large = sum(parameter.numel() for parameter in trainer.model.parameters()) > MAX_NUMBERS
    if large or trainer.device.type != "cpu" or trainer.spec.optimizer == "lbfgs":
        return {}
    taken: list[dict[str, float]] = []
    spent = 0.0
    try:
        laps = Laps(trainer)
        yield
        while len(taken) < MOST + WARM_UP and (len(taken) < FEWEST + WARM_UP or spent < ENOUGH):
            taken.append((yield from laps.run()))
            spent += sum(taken[-1].values())
    except Exception:  # what a class of the user's own makes of being copied, or a loop that cannot run
        return {}
    medians = {name: 1000 * statistics.median(lap[name] for lap in taken[WARM_UP:]) for name in taken[0]}
    return {name: each * (1 if name == "validation" else trainer.batches.count) for name, each in medians.items()}


class Laps:
    """Passes through the loop of `trainer` on a model and an optimizer like its own."""

    def __init__(self, trainer: Trainer) -> None:
        self._spec = trainer.spec
        self._model = twin(trainer.model).train()
        optimizer = make_optimizer(trainer.spec, self._model)
        load_state(optimizer, trainer.optimizer.state_dict())
        self._optimizer = LeanOptimizer(optimizer)
        self._criterion = trainer.criterion
        size = trainer.batches.batch_size
        X, y = torch.split(trainer.batches.X, size), torch.split(trainer.batches.y, size)
        self._batches = list(zip(X, y, strict=True))
        self._validation = (trainer.X_val, trainer.y_val) if trainer.validates else None
        self._count = 0
        self._y_pred: Any = None
        self._loss: Any = None

    def run(self) -> Work[dict[str, float]]:
        """Seconds that each line took in a pass over the next batch, and the validation after it."""
        X, y = self._batches[self._count % len(self._batches)]
        self._count += 1
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


def resident() -> int:
    """Bytes of memory that this process holds now; where the system does not tell, the most it ever held."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
