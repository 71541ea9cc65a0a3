"""What a headless training says: calm lines for people, or JSON lines for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import msgspec

from workflow_core.protocol import Metrics
from workflow_core.sanitize import padded, sanitize, width
from workflow_core.saying import json_line, say
from workflow_core.specs import Dtype, TrainSpec, WorkflowSpec

if TYPE_CHECKING:
    from workflow_core.steps.train import EpochRecord

LINES = 10
"""About so many epochs are shown where nobody says how many."""
FEW = 4
"""Up to so many tracked values fit into a line."""
MAX_COEFFICIENTS = 20
WIDTH = 100
"""Sentences are broken into lines of so many characters."""
WORSE = 1.01
"""An end whose loss is greater than the least by this factor is worth a line."""
METRICS = ("mse", "mae", "rmse", "r2")
SIGNIFICANT = {"float32": 7, "float64": 13}
"""The digits of coefficients that a dtype can tell apart, with little room for rounding."""

Numbers = float | list[Any]
"""What a parameter holds: a number, or nested lists of them."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SIGNS = str.maketrans({"·": "*", "π": "*pi", "−": "-", "…": "..."})


@dataclass(frozen=True)
class Start:
    """What is known before the first epoch.

    `source` says in one line where the data come from, `notes` what was done to them; `scaled` whether the model sees
    standardised columns. `count` is the number of trainable scalars, `tracked` the values that are followed, and
    `parameters` all of them (None where they are too many).
    """

    spec: WorkflowSpec
    device: str
    torch: str
    rows: Mapping[str, int]
    source: str
    notes: Sequence[str]
    scaled: bool
    model: str
    count: int
    tracked: Mapping[str, float]
    parameters: Mapping[str, Numbers] | None


@dataclass(frozen=True)
class Fit:
    """How near a model that is linear in its parameters came: coefficients in the user's own units.

    `closed_form` is empty where least squares have no single answer, `true` where the data come from no formula.
    """

    true: Mapping[str, float]
    learnt: Mapping[str, float]
    closed_form: Mapping[str, float]
    convergence: str


@dataclass(frozen=True)
class Result:
    """How a training ended: its last epoch, the seconds its loop took, what the model holds, the metrics, the file.

    A signal may have ended it after `batch` of the `batches` of another epoch, perhaps of the first one.
    `best` is the epoch with the least validation loss (without validation rows, training loss), and that loss.
    """

    last: EpochRecord | None
    elapsed: float
    reason: str
    best: tuple[int, float] | None
    parameters: Mapping[str, Numbers] | None
    metrics: Mapping[str, Metrics | None]
    fit: Fit | None
    stable_learning_rate: float | None
    path: str | None
    batch: int = 0
    batches: int = 1

    @property
    def epochs(self) -> int:
        """How many epochs were completed."""
        return self.last.epoch + 1 if self.last is not None else 0

    @property
    def epochs_per_second(self) -> float:
        """The rate of the whole loop."""
        return (self.epochs + self.batch / self.batches) / max(self.elapsed, 1e-9)


class PlainReport:
    """Lines for people, each written at once. `every` chooses the epochs that are shown, None about ten in all."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self._shown = -1
        self._scheduled = False
        self._tracks = False
        self._digits = SIGNIFICANT["float32"]

    def started(self, start: Start) -> None:
        """The settings, before the first epoch."""
        spec, split = start.spec, start.spec.data.split
        self.every = self.every or max(1, spec.train.epochs // LINES)
        self._scheduled = spec.train.scheduler != "none"
        self._digits = SIGNIFICANT[spec.data.dtype]
        order = f"shuffled with seed {split.seed}" if split.order == "shuffled" else "sequential"
        rows = "/".join(map(str, start.rows.values()))
        say(f"data      {sum(start.rows.values()):,} rows, {ascii_formula(start.source)}, split {rows} {order}")
        for note in start.notes:
            say(f"          {sanitize(note, 400)}")
        if start.scaled:
            say("          standardised for the model: losses and parameters are of standardised values")
        self._tracks = start.count <= FEW and len(start.tracked) <= FEW
        values = f": {_pairs(start.tracked)}" if self._tracks else ""
        count = f"{start.count:,} parameter{'s' * (start.count != 1)}"
        say(f"model     {sanitize(start.model, 80)}, {count} (seed {spec.model.init.seed}){values}")
        say(f"training  {_training(spec.train)}, {start.device}")
        say(f"torch     {start.torch}")
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
        values = dict(record.parameters) if self._tracks else {"gradient": record.grad_norm}
        if self._scheduled:
            values = {"lr": record.learning_rate, **values}
        say(
            f"epoch {record.epoch:<8}  train {_figure(record.train_loss)}  val {_figure(record.val_loss)}  "
            f"{_pairs(values)}".rstrip()
        )

    def finished(self, result: Result) -> None:
        """How it ended, the metrics of each split, the coefficients beside the true ones, and the file."""
        say("")
        ended = "" if result.reason == "epochs" else f"{result.reason}, "
        rate = result.epochs_per_second
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        epochs = f"{result.epochs:,} epoch{'s' * (result.epochs != 1)}"
        if result.batch:
            epochs += f" and {result.batch:,} of {result.batches:,} batches"
        say(f"{ended}{epochs} in {result.elapsed:.3g} s ({shown} a second)")
        if (kept := _kept(result)) is not None:
            say(kept)
        say("")
        say(f"{'split':<12}{'rows':>8}  {'mse':<10}  {'mae':<10}  {'rmse':<10}  R2")
        for name, metrics in result.metrics.items():
            cells = "  ".join(_figure(getattr(metrics, each, None)) for each in METRICS)
            say(f"{name:<12}{metrics.count if metrics else 0:>8}  {cells}".rstrip())
        if result.fit is not None:
            self._coefficients(result.fit)
        if result.path is not None:
            say("")
            say(f"saved {sanitize(result.path, 4096)}")

    def _coefficients(self, fit: Fit) -> None:
        """True, learnt and closed-form coefficients side by side, as far as there are any."""
        columns = {"true": fit.true, "learnt": fit.learnt, "closed form": fit.closed_form}
        columns = {title: values for title, values in columns.items() if values}
        names = list(dict.fromkeys([*fit.learnt, *fit.true]))
        shown = {name: sanitize(name, 40) for name in names[:MAX_COEFFICIENTS]}
        room = max(map(width, ("coefficient", *shown.values())))
        digits = self._digits
        say("")
        say("  ".join([f"{'coefficient':<{room}}", *(f"{title:<{digits + 6}}" for title in columns)]).rstrip())
        for name, text in shown.items():
            # a formula without a term has 0 of it
            cells = [
                _figure(values.get(name, 0.0 if values is fit.true else None), digits) for values in columns.values()
            ]
            say("  ".join([padded(text, room), *cells]).rstrip())
        if len(names) > len(shown):
            say(f"and {len(names) - len(shown):,} more")
        for line in wrap(fit.convergence, WIDTH):
            say(line)


class JsonReport(PlainReport):
    """One JSON object a line; epochs only where `every` says which. NaN and infinity are null, which JSON lacks."""

    def started(self, start: Start) -> None:
        """The complete spec, so that the line alone is enough to repeat the training."""
        _emit(
            "started",
            spec=msgspec.to_builtins(start.spec),
            device=start.device,
            torch=start.torch,
            rows=dict(start.rows),
            notes=list(start.notes),
            parameters=start.parameters,
        )

    def last(self, record: EpochRecord) -> None:
        """Show this epoch, but not twice, and none at all without `every`."""
        if self.every:
            super().last(record)

    def _show(self, record: EpochRecord) -> None:
        _emit("epoch", **msgspec.structs.asdict(record))

    def finished(self, result: Result) -> None:
        """The last epoch's losses, what the model holds now, and the metrics of each split: null without rows."""
        epoch, loss = result.best or (None, None)
        fit = result.fit
        linear: dict[str, Any] = {}
        if fit is not None:
            linear = {
                "coefficients": fit.learnt,
                "closed_form": fit.closed_form or None,
                "convergence": fit.convergence or None,
            }
        _emit(
            "finished",
            reason=result.reason,
            epochs=result.epochs,
            batch=result.batch,
            batches=result.batches,
            elapsed=result.elapsed,
            epochs_per_second=result.epochs_per_second,
            train_loss=result.last.train_loss if result.last is not None else None,
            val_loss=result.last.val_loss if result.last is not None else None,
            best_epoch=epoch,
            best_loss=loss,
            stable_learning_rate=result.stable_learning_rate,
            **{
                split: {name: getattr(found, name, None) for name in METRICS} for split, found in result.metrics.items()
            },
            parameters=result.parameters,
            **linear,
            path=result.path,
        )


def prediction_line(x: Sequence[float], y_pred: float, dtype: Dtype, *, json: bool) -> str:
    """One prediction of a model of `dtype` as a line of output: the features as they were given, then y_pred.

    Nine digits tell any float32 from its neighbours, seventeen any float64.
    """
    if json:
        return json_line({"x": x[0] if len(x) == 1 else list(x), "y_pred": y_pred})
    figure = f"{y_pred:.9g}" if dtype == "float32" else repr(y_pred).removesuffix(".0")
    return f"{','.join(repr(each).removesuffix('.0') for each in x)}  {figure}"


def ascii_formula(text: str) -> str:
    """A formula in characters that every terminal and log file has: `x²` is `x^2`."""
    powers = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"^{found.group().translate(_SUPERSCRIPTS)}", text)
    return powers.translate(_SIGNS)


def _training(train: TrainSpec) -> str:
    """How it is trained, in one line: only what is not left as it is by default goes beside the main figures."""
    extras = [f"momentum {train.momentum:g}"] if train.momentum and train.optimizer in ("sgd", "rmsprop") else []
    extras += ["nesterov"] if train.nesterov and train.optimizer == "sgd" else []
    if train.weight_decay is not None and train.optimizer != "lbfgs":
        extras += [f"weight decay {train.weight_decay:g}"]
    optimizer = f"{train.optimizer} ({', '.join(extras)})" if extras else train.optimizer
    schedule = "" if train.scheduler == "none" else f" ({train.scheduler})"
    parts = [train.loss, optimizer, f"lr {train.learning_rate:g}{schedule}"]
    parts += [f"batches of {train.batch_size:,}"] if train.batch_size else []
    parts += [f"gradients clipped at {train.clip:g}"] if train.clip else []
    if train.experiment:
        over = ", optimizer over another model" if train.optimizer_over == "another" else ""
        parts += [f"an experiment ({' '.join(train.loop)}{over})"]
    parts += ["repeatable"] if train.deterministic else []
    parts += [f"{train.epochs:,} epoch{'s' * (train.epochs != 1)}"]
    parts += [f"early stop after {train.early_stop:,} without progress"] if train.early_stop else []
    return ", ".join(parts)


def _kept(result: Result) -> str | None:
    """Which epoch was best, where the end was clearly worse, and whose weights the model has, where not the last's."""
    if result.reason.startswith("diverged"):
        return "what follows is of the weights from before that epoch"
    if result.best is None or result.last is None:
        return None
    which, last = "validation", result.last.val_loss
    if last is None:
        which, last = "training", result.last.train_loss
    epoch, loss = result.best
    stopped = result.reason == "early stop"
    if not stopped and not last > WORSE * loss:
        return None
    weights = ", whose weights the model has" if stopped else ""
    return f"the {which} loss was least at epoch {epoch:,}{weights}: {_figure(loss).rstrip()}"


def _emit(event: str, **fields: Any) -> None:
    say(json_line({"event": event, **fields}))


def _figure(value: float | None, digits: int = 4) -> str:
    """So many significant digits, in a column of six more; a dash where there is no figure."""
    return f"{'-' if value is None else format(value, f'#.{digits}g').rstrip('.'):<{digits + 6}}"


def _pairs(parameters: Mapping[str, float]) -> str:
    return "  ".join(f"{sanitize(name, 40)} {_figure(value)}" for name, value in parameters.items()).rstrip()
