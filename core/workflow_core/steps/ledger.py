"""The figures of every epoch, and what follows from them: the best epoch, an early stop, the last good weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.specs import TrainSpec
from workflow_core.steps.snapshot import Snapshot
from workflow_core.steps.tracked import MAX_SCALARS, Tracked

EARLY_STOP = "early stop"
DIVERGED = "diverged"
FAILED = "failed"


class Ledger(ABC):
    """What both kinds of ledger share.

    A row is train_loss, val_loss (with validation rows only), learning_rate, grad_norm, then the tracked values.
    `ended` is "" while the training goes on; it becomes EARLY_STOP, the model then holding the weights whose loss was
    best, or DIVERGED, the model then holding the last good weights, those from before the epoch `first_bad`.
    The validation loss of an epoch is that of the weights after it; its training loss is that of forward passes before
    each update. So without validation rows the weights put back are those from before the best epoch.

    The best epoch has the least validation loss (training loss, without validation rows). With early stopping only
    one that is lower by more than `min_delta` counts as better, so that `best` is always what would be put back.
    """

    _waited: Any

    def __init__(self, model: nn.Module, spec: TrainSpec, validates: bool, epoch: int) -> None:
        self._model = model
        self.tracked = Tracked(model)
        self.names = ("train_loss", *(("val_loss",) if validates else ()), "learning_rate", "grad_norm")
        self.names += self.tracked.names
        self.ended = ""
        self.best: tuple[int, float] | None = None
        self.first_bad: int | None = None
        self._watched = int(validates)
        self._rate_at = 1 + validates
        self._patience = spec.early_stop
        self._min_delta = spec.min_delta if spec.early_stop else 0.0
        self._best_weights = Snapshot(model) if spec.early_stop else None
        self._wants_before = spec.early_stop > 0 and not validates
        self._epoch = epoch
        self._waited = 0
        self._rows: list[list[float]] = []

    @abstractmethod
    def settle(self) -> int:
        """Judge all epochs noted so far, and how many of them do not count."""

    def take(self) -> dict[str, list[float]]:
        """The columns of all epochs settled since the last time, by name, oldest first."""
        rows, self._rows = self._rows, []
        if not rows:
            return {name: [] for name in self.names}
        return dict(zip(self.names, map(list, zip(*rows, strict=True)), strict=True))

    def state(self) -> dict[str, Any]:
        """All that the judgement of epochs to come depends on, once those noted are settled."""
        return {
            "epoch": self._epoch,
            "ended": self.ended,
            "best": list(self.best) if self.best is not None else None,
            "first_bad": self.first_bad,
            "waited": int(self._waited),
            "rows": torch.tensor(self._rows, dtype=torch.float64).view(-1, len(self.names)),
            "good": self._good(),
            "best_weights": self._best_weights.state() if self._best_weights is not None else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on as the ledger of which this is the `state`."""
        self._epoch, self.ended, self.first_bad = state["epoch"], state["ended"], state["first_bad"]
        self.best = (state["best"][0], state["best"][1]) if state["best"] is not None else None
        self._rows = state["rows"].tolist()
        self._load_good(state["good"])
        if self._best_weights is not None and state["best_weights"] is not None:
            self._best_weights.load(state["best_weights"])

    @abstractmethod
    def _good(self) -> list[Tensor]:
        """The last good weights, on the CPU."""

    @abstractmethod
    def _load_good(self, good: list[Tensor]) -> None:
        """Take them over."""

    def _diverged(self, epoch: int) -> None:
        self.first_bad = epoch
        self.ended = DIVERGED

    def _stopped(self) -> None:
        assert self._best_weights is not None
        self._best_weights.put_back()
        self.ended = EARLY_STOP


class HostLedger(Ledger):
    """On a CPU, where a figure can be read at once: every epoch is judged as soon as it is over."""

    def __init__(self, model: nn.Module, spec: TrainSpec, validates: bool, epoch: int) -> None:
        super().__init__(model, spec, validates, epoch)
        self._least = math.inf
        # a model that is tracked to the last number needs no copy: its last good weights are in the last good row
        scalars = sum(parameter.numel() for parameter in model.parameters())
        whole = scalars <= MAX_SCALARS and not any(True for _ in model.buffers())
        self._good_weights = None if whole and not self._wants_before else Snapshot(model)
        self._good_row = [0.0] * (self._rate_at + 2) + [tensor.item() for tensor in self.tracked.tensors()]

    def note(self, losses: list[float], learning_rate: float, grad_norm: float) -> None:
        """An epoch is over; `losses` are those of training and, with validation rows, validation."""
        row = [*losses, learning_rate, grad_norm, *[tensor.item() for tensor in self.tracked.tensors()]]
        epoch = self._epoch
        self._epoch += 1
        self._rows.append(row)
        # one sum tells nearly always: with a NaN or infinity in it, it is not finite
        if not math.isfinite(sum(row)) and not all(map(math.isfinite, row)):
            self._diverged(epoch)
            self._put_back_good()
            return
        better = row[self._watched] < self._least - self._min_delta
        if better:
            self._least, self._waited = row[self._watched], 0
            self.best = epoch, self._least
            if self._best_weights is not None:
                self._best_weights.take(self._good_weights if self._wants_before else None)
        if self._good_weights is None:
            self._good_row = row
        else:
            self._good_weights.take()
        if self._patience and not better:
            self._waited += 1
            if self._waited >= self._patience:
                self._stopped()

    def settle(self) -> int:
        """None: they were judged when they were noted."""
        return 0

    def load(self, state: dict[str, Any]) -> None:
        """As that of the other kind, too."""
        super().load(state)
        self._waited = state["waited"]
        self._least = self.best[1] if self.best is not None else math.inf

    def _good(self) -> list[Tensor]:
        if self._good_weights is not None:
            return self._good_weights.state()
        values = iter(self._good_row[self._rate_at + 2 :])
        return [
            torch.tensor([next(values) for _ in range(parameter.numel())], dtype=parameter.dtype).view(parameter.shape)
            for parameter in self._model.parameters()
        ]

    def _load_good(self, good: list[Tensor]) -> None:
        if self._good_weights is not None:
            self._good_weights.load(good)
        else:
            values = [value for tensor in good for value in tensor.flatten().tolist()]
            self._good_row = [0.0] * (self._rate_at + 2) + values

    def break_off(self) -> None:
        """The training has FAILED in the middle of an epoch: the model gets the weights from before it back."""
        self.ended = FAILED
        self._put_back_good()

    def _put_back_good(self) -> None:
        if self._good_weights is not None:
            self._good_weights.put_back()
            return
        for tensor, value in zip(self.tracked.tensors(), self._good_row[self._rate_at + 2 :], strict=True):
            tensor.fill_(value)


class DeviceLedger(Ledger):
    """On an accelerator, where reading a figure waits for the device: figures, decisions and copies stay there.

    An epoch is judged on the device by the same rules, which freezes the copies of the weights at the end of the
    training; that it is over is known only at the next `fetch`, which drops what was trained beyond it.
    """

    def __init__(self, model: nn.Module, spec: TrainSpec, validates: bool, epoch: int) -> None:
        super().__init__(model, spec, validates, epoch)
        self._noted: list[Tensor] = []
        self._rates: list[float] = []
        self._good_weights = Snapshot(model)
        device = next(model.parameters()).device
        self._going = torch.ones((), dtype=torch.bool, device=device)
        self._waited = torch.zeros((), dtype=torch.int64, device=device)
        self._least: Tensor | None = None

    def break_off(self) -> None:
        """As on a CPU."""
        self.ended = FAILED
        self._good_weights.put_back()

    def note(self, losses: list[Tensor], learning_rate: float, grad_norm: Tensor) -> None:
        """An epoch is over, and so on as on a CPU; the tensors, of shape [], are copied."""
        row = torch.stack([*losses, grad_norm, *self.tracked.tensors()])
        self._epoch += 1
        self._rates.append(learning_rate)
        self._going = self._going & row.isfinite().all()
        if self._best_weights is None:
            self._good_weights.take_where(self._going)
            self._noted.append(row)
            return
        loss = row[self._watched]
        if self._least is None:
            self._least = torch.full_like(loss, self.best[1] if self.best is not None else math.inf)
        better = self._going & (loss < self._least - self._min_delta)
        self._least = torch.where(better, loss, self._least)
        self._best_weights.take_where(better, self._good_weights if self._wants_before else None)
        self._good_weights.take_where(self._going)
        self._waited = torch.where(better, 0, self._waited + 1)
        self._going = self._going & (self._waited < self._patience)
        self._noted.append(torch.cat([row, torch.stack([better, self._going]).to(row.dtype)]))

    def settle(self) -> int:
        """In one transfer; what was trained beyond the end does not count."""
        rows, rates, self._noted, self._rates = self._noted, self._rates, [], []
        start = self._epoch - len(rows)
        counted: list[list[float]] = []
        values = torch.stack(rows).tolist() if rows else []
        for figures, rate in zip(values, rates, strict=True):
            counted.append([*figures[: self._rate_at], rate, *figures[self._rate_at : len(self.names) - 1]])
            self._judge(start + len(counted) - 1, figures)
            if self.ended:
                break
        dropped = len(rows) - len(counted)
        self._epoch -= dropped
        self._rows += counted
        return dropped

    def load(self, state: dict[str, Any]) -> None:
        """As that of the other kind, too."""
        super().load(state)
        self._waited = torch.full_like(self._waited, state["waited"])
        self._going = torch.full_like(self._going, not self.ended)
        self._least = None

    def _good(self) -> list[Tensor]:
        return self._good_weights.state()

    def _load_good(self, good: list[Tensor]) -> None:
        self._good_weights.load(good)

    def _judge(self, epoch: int, figures: list[float]) -> None:
        """Follow what was decided on the device."""
        count, loss = len(self.names) - 1, figures[self._watched]
        if not all(map(math.isfinite, figures[:count])):
            self._diverged(epoch)
            self._good_weights.put_back()
        elif self._best_weights is not None:
            better, going = figures[count:]
            if better:
                self.best = epoch, loss
            if not going:
                self._stopped()
        elif self.best is None or loss < self.best[1]:
            self.best = epoch, loss


def make_ledger(
    model: nn.Module, spec: TrainSpec, validates: bool, epoch: int, host: bool
) -> HostLedger | DeviceLedger:
    """The ledger of a training that has `epoch` epochs behind it; read at once on a `host`."""
    return (HostLedger if host else DeviceLedger)(model, spec, validates, epoch)
