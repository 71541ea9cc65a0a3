"""What a headless training says: calm lines for people, or JSON lines for programs."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from workflow_core.protocol import Metrics
from workflow_core.sanitize import sanitize
from workflow_core.specs import DataSpec, WorkflowSpec

if TYPE_CHECKING:
    from workflow_core.steps.train import EpochRecord

LINES = 10
"""About so many epochs are shown where nobody says how many."""


class OutputError(Exception):
    """Standard output took no more: `error` is the OSError with which it said so."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True)
class Result:
    """How a training ended: its last epoch, the seconds its loop took, the metrics, and the file, if any."""

    last: EpochRecord
    elapsed: float
    metrics: dict[str, Metrics | None]
    data: DataSpec
    path: str | None
    reason: str


class PlainReport:
    """Lines for people, each written at once. `every` chooses the epochs that are shown, None about ten in all."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self._shown = -1

    def started(
        self, spec: WorkflowSpec, device: str, torch_version: str, rows: Mapping[str, int], initial: dict[str, float]
    ) -> None:
        """The settings, before the first epoch; `initial` holds the scalar parameters."""
        data, train = spec.data, spec.train
        self.every = self.every or max(1, train.epochs // LINES)
        noise = f" + {data.noise:g} noise (seed {data.seed})" if data.noise else ""
        order = f"shuffled with seed {data.split.seed}" if data.split.order == "shuffled" else "sequential"
        split = "/".join(map(str, rows.values()))
        line = f"y = {data.weight:g} x + {data.bias:g}{noise}"
        say(f"data      {sum(rows.values()):,} rows, {line}, split {split} {order}")
        say(f"model     {_pairs(initial)} (seed {spec.model.init.seed})")
        say(f"training  {train.loss}, {train.optimizer}, lr {train.learning_rate:g}, {train.epochs:,} epochs, {device}")
        say(f"torch     {torch_version}")
        say("")

    def epoch(self, record: EpochRecord) -> None:
        """Show the epoch where its turn has come."""
        if self.every and record.epoch % self.every == 0:
            self.last(record)

    def last(self, record: EpochRecord) -> None:
        """Show this epoch in any case, but not twice."""
        if record.epoch != self._shown:
            self._shown = record.epoch
            self._show(record)

    def _show(self, record: EpochRecord) -> None:
        say(
            f"epoch {record.epoch:<8}  train {_figure(record.train_loss)}  val {_figure(record.val_loss)}  "
            f"{_pairs(record.parameters)}"
        )

    def finished(self, result: Result) -> None:
        """The metrics of each split, the parameters beside the true ones, and the file."""
        say("")
        done = result.last.epoch + 1
        ended = {"epochs": "", "interrupted": "interrupted, "}.get(result.reason, f"{result.reason}, ")
        say(f"{ended}{done:,} epochs in {result.elapsed:.3g} s")
        say("")
        say(f"{'split':<12}{'rows':>8}  {'mse':<9}  {'mae':<9}  {'rmse':<9}  R2")
        for name, metrics in result.metrics.items():
            figures = (metrics.mse, metrics.mae, metrics.rmse, metrics.r2) if metrics else (None,) * 4
            cells = "  ".join(map(_figure, figures))
            say(f"{name:<12}{metrics.count if metrics else 0:>8}  {cells}".rstrip())
        say("")
        say(f"{'parameter':<12}{'true':<9}  {'learnt':<9}  gap")
        for name, value in result.last.parameters.items():
            true = float(getattr(result.data, name))
            say(f"{name:<12}{_figure(true)}  {_figure(value)}  {_figure(abs(true - value))}".rstrip())
        if result.path is not None:
            say("")
            say(f"saved {sanitize(result.path, 4096)}")


class JsonReport(PlainReport):
    """One JSON object a line; epochs only where `every` says which. NaN and infinity are null, which JSON lacks."""

    def started(
        self, spec: WorkflowSpec, device: str, torch_version: str, rows: Mapping[str, int], initial: dict[str, float]
    ) -> None:
        """The complete spec, so that the line alone is enough to repeat the training."""
        _emit(
            "started",
            spec=msgspec.to_builtins(spec),
            device=device,
            torch=torch_version,
            rows=dict(rows),
            parameters=initial,
        )

    def last(self, record: EpochRecord) -> None:
        """Show this epoch, but not twice, and none at all without `every`."""
        if self.every:
            super().last(record)

    def _show(self, record: EpochRecord) -> None:
        _emit(
            "epoch",
            epoch=record.epoch,
            train_loss=record.train_loss,
            val_loss=record.val_loss,
            parameters=record.parameters,
        )

    def finished(self, result: Result) -> None:
        """The last epoch's figures and the test metrics, null where there are no test rows."""
        test = result.metrics["test"]
        names = ("mse", "mae", "rmse", "r2")
        _emit(
            "finished",
            epochs=result.last.epoch + 1,
            elapsed=result.elapsed,
            train_loss=result.last.train_loss,
            val_loss=result.last.val_loss,
            test={name: getattr(test, name) if test else None for name in names},
            parameters=result.last.parameters,
            path=result.path,
            reason=result.reason,
        )


def prediction_line(x: float, y_pred: float, *, json: bool) -> str:
    """One prediction as a line of output: `x` reads back as it was given, `y_pred` as the float32 that it is."""
    return _json({"x": x, "y_pred": y_pred}) if json else f"{repr(x).removesuffix('.0')}  {y_pred:.9g}"


def say(line: str) -> None:
    """Write a line to standard output at once. Raises OutputError."""
    try:
        print(line, flush=True)
    except OSError as error:
        raise OutputError(error) from error


def _emit(event: str, **fields: Any) -> None:
    say(_json({"event": event, **fields}))


def _json(item: Any) -> str:
    return jsonlib.dumps(_finite(item), allow_nan=False)


def _finite(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _finite(part) for key, part in item.items()}
    return None if isinstance(item, float) and not math.isfinite(item) else item


def _figure(value: float | None) -> str:
    """Four significant digits, nine wide; a dash where there is no figure."""
    return f"{'-' if value is None else format(value, '#.4g').rstrip('.'):<9}"


def _pairs(parameters: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {_figure(value)}" for name, value in parameters.items()).rstrip()
