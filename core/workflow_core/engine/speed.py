"""How fast a run trains, where the time of a step goes, and what memory it takes."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable

import torch

from workflow_core.engine.travel import twin
from workflow_core.errors import WorkflowError
from workflow_core.protocol import SpeedAnswer, TrainingView
from workflow_core.specs import LINES, Line
from workflow_core.steps.optimizers import make_optimizer
from workflow_core.steps.train import Trainer

MOST = 512
"""Samples of the rate that are kept; beyond that each covers twice as many seconds."""
PASSES = 5
"""Passes through the loop that are timed; the first one is not counted."""
ENOUGH = 0.02
"""Seconds after which no further pass is timed."""
FRESH = 5.0
"""Seconds for which the times of the lines are taken for true."""


class Speed:
    """The epochs a second of one run over the seconds that it trained, in bounded memory."""

    def __init__(self, epoch: int = 0) -> None:
        self._apart = 0.05
        self._at, self._epoch = 0.0, float(epoch)
        self.seconds: list[float] = []
        self.rates: list[float] = []
        self._lines: dict[str, float] = {}
        self._timed_at = -FRESH

    def note(self, elapsed: float, epoch: float) -> None:
        """After `elapsed` seconds of training so many epochs are done, the part of that under way with them."""
        if elapsed - self._at < self._apart:
            return
        self.seconds.append(elapsed)
        self.rates.append((epoch - self._epoch) / (elapsed - self._at))
        self._at, self._epoch = elapsed, epoch
        if len(self.rates) > MOST:
            self._apart *= 2
            self.rates = [(a + b) / 2 for a, b in zip(self.rates[::2], self.rates[1::2], strict=False)]
            self.seconds = self.seconds[1::2]

    def answer(self, trainer: Trainer, view: TrainingView) -> SpeedAnswer:
        """All of it, for the run as it is now."""
        if time.monotonic() - self._timed_at >= FRESH:
            self._lines, self._timed_at = line_times(trainer), time.monotonic()
        cuda = trainer.device.type == "cuda"
        return SpeedAnswer(
            run=view.run,
            seconds=tuple(self.seconds),
            rates=tuple(self.rates),
            epoch_ms=1000 / view.capacity if view.capacity else None,
            line_ms=self._lines,
            rows=view.rate * trainer.batches.rows,
            threads=torch.get_num_threads(),
            memory=resident(),
            device_memory=torch.cuda.memory_allocated(trainer.device) if cuda else None,
        )


def line_times(trainer: Trainer) -> dict[str, float]:
    """Milliseconds that each line of the loop takes, on a copy of the model: the training itself is not touched.

    Empty on an accelerator, which does its work later than it is told to, for lbfgs, which calls the lines by itself,
    and where the model cannot be copied or does not take a step.
    """
    if trainer.device.type != "cpu" or trainer.spec.optimizer == "lbfgs" or not trainer.batches.rows:
        return {}
    size = min(trainer.batches.batch_size, trainer.batches.rows)
    X, y = trainer.batches.X[:size], trainer.batches.y[:size]
    try:
        model = twin(trainer.model).train()
        optimizer = make_optimizer(trainer.spec, model)
        made: dict[str, torch.Tensor] = {}

        def forward() -> None:
            made["y_pred"] = model(X)

        def loss() -> None:
            made["loss"] = trainer.criterion(made["y_pred"], y)

        lines: dict[Line, Callable[[], object]] = {
            "forward": forward,
            "loss": loss,
            "zero_grad": optimizer.zero_grad,
            "backward": lambda: torch.autograd.backward(made["loss"]),
            "step": optimizer.step,
        }
        with torch.random.fork_rng(devices=[]):
            return _timed([(line, lines[line]) for line in LINES])
    except (WorkflowError, RuntimeError):
        return {}


def _timed(lines: list[tuple[Line, Callable[[], object]]]) -> dict[str, float]:
    sums = dict.fromkeys((line for line, _ in lines), 0.0)
    begun = time.perf_counter()
    counted = 0
    for number in range(PASSES):
        times = {}
        for line, call in lines:
            start = time.perf_counter()
            call()
            times[line] = time.perf_counter() - start
        if number or time.perf_counter() - begun >= ENOUGH:
            counted += 1
            for line, seconds in times.items():
                sums[line] += seconds
        if time.perf_counter() - begun >= ENOUGH:
            break
    return {line: 1000 * seconds / counted for line, seconds in sums.items()}


def resident() -> int:
    """Bytes of memory that this process holds now; where the system does not tell, the most it ever held."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
