"""What looks wrong in a training while it runs, and why one went astray: out of its recorded figures, in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from workflow_core.history import RECORDED, HistoryData
from workflow_core.specs import Line, TrainSpec
from workflow_core.steps.linear import decay
from workflow_core.views import Reference, TrainingView

STILL = 20
"""So many epochs without any change are no coincidence."""
WINDOW = 24
RISE = 10
"""Epochs in a row in which the loss must rise before that is said."""
CONVERGED = 1e-4
"""The part of the way to the least loss that may be left where a training counts as converged."""
VANISHED = 1e-6
"""The part of the first loss that counts as none."""
FLAT = 1e-4
"""The square of the gradient norm, as a part of the loss, below which that is near a minimum."""
WORSE = 1.2
"""Times the least validation loss: what is said to be worse."""
ROWS_EACH = 5
"""Training rows for every number of a model beside which it can hardly fit them too closely."""
LONG = 100
"""Epochs since the least validation loss before that is said: momentum comes back sooner."""
STEEP = 0.01
"""Where no larger learning rate than that is stable, features that are not standardised are the likely reason."""
SAFE = 0.7
"""A learning rate to try is at most this part of the largest stable one: just below that, it takes for ever."""


@dataclass(frozen=True)
class Known:
    """What is known of a training beside its figures.

    `numbers` are the trainable ones of the model. `held` says whether the optimizer holds any parameter of it, `relu`
    whether it has any ReLU, `standardized` whether it sees standardised columns. `reference` gives where the training
    should end; the first time that may take a while.
    """

    spec: TrainSpec
    rows: int
    numbers: int
    dtype: str
    held: bool
    relu: bool
    standardized: bool
    reference: Callable[[], Reference]


class Divergence(NamedTuple):
    """Why a training probably diverged, what to do, and a learning rate to try, where another one is the remedy."""

    cause: str
    advice: str
    try_lr: float | None


class Figures(msgspec.Struct):
    """What is kept of all figures so far: a few numbers, however many epochs there are. A copy stays as it is."""

    epochs: int = 0
    first_loss: float = math.nan
    first_val: float = math.nan
    first_norm: float = math.nan
    losses: list[float] = []
    val_losses: list[float] = []
    best_val: float = math.inf
    best_epoch: int = 0
    loss_at_best: float = math.nan
    norm: float = 0.0
    same_loss: int = 0
    same_weights: int = 0
    no_gradient: int = 0
    weights: dict[str, float] = {}

    def go_on(self, history: HistoryData, best: tuple[int, float] | None, at_best: float) -> None:
        """Take over what is kept of another run; `at_best` is the training loss of its `best` epoch."""
        first = {name: series.first[0] for name, series in history.series.items() if series.first}
        self.epochs = history.epochs
        self.first_loss, self.first_norm = first.get("train_loss", math.nan), first.get("grad_norm", math.nan)
        self.first_val = first.get("val_loss", math.nan)
        if best is not None and "val_loss" in first:
            (self.best_epoch, self.best_val), self.loss_at_best = best, at_best

    def note(self, series: Mapping[str, Sequence[float]]) -> None:
        """Take over the figures of the next epochs, a column each."""
        losses, norms, val_losses = series["train_loss"], series["grad_norm"], series.get("val_loss", ())
        if not losses:
            return
        if not self.epochs:
            self.first_loss, self.first_norm = losses[0], norms[0]
            self.first_val = val_losses[0] if val_losses else math.nan
        self.same_loss = _same(self.same_loss, self.losses[-1] if self.losses else math.nan, losses)
        self.no_gradient = _same(self.no_gradient, 0.0, norms) if norms[-1] == 0 else 0
        self.norm = next((norm for norm in reversed(norms) if math.isfinite(norm)), self.norm)
        weights = {name: column for name, column in series.items() if name not in RECORDED}
        same = (_same(self.same_weights, self.weights.get(name, math.nan), column) for name, column in weights.items())
        self.same_weights = min(same, default=0)
        self.weights = {name: column[-1] for name, column in weights.items()}
        least = min((value for value in val_losses if not math.isnan(value)), default=math.inf)
        if least < self.best_val:
            at = val_losses.index(least)
            self.best_val, self.best_epoch, self.loss_at_best = least, self.epochs + at, losses[at]
        self.losses = [*self.losses, *losses][-WINDOW:]
        self.val_losses = [*self.val_losses, *val_losses][-WINDOW:]
        self.epochs += len(losses)


def _same(count: int, last: float, column: Sequence[float]) -> int:
    """For how many epochs now a figure has not changed, which it had not for `count` at `last` before these."""
    end = column[-1]
    if end == last and column.count(end) == len(column):
        return count + len(column)
    return next((at for at, value in enumerate(reversed(column)) if value != end), len(column))


def findings(figures: Figures, known: Known, view: TrainingView) -> tuple[str, ...]:
    """What looks wrong, in a few sentences; nothing where all is well, as far as the figures tell."""
    if not figures.epochs:
        return ()
    found = (
        _mistake(known) or _still(figures, known, view) or _rising(figures, known, view) or _overfitting(figures, known)
    )
    return (found,) if found else ()


def _mistake(known: Known) -> str:
    """What is wrong with the loop or the optimizer, whatever the figures are."""
    if not known.held:
        return (
            "The optimizer holds no parameter of this model: step() moves others, and nothing is learnt. "
            "Make it with the model's own parameters."
        )
    return loop_mistake(known.spec.loop)


def loop_mistake(loop: Sequence[Line]) -> str:
    """What these lines, run in this order again and again, do that the textbook's do not; empty where it is the same.

    Only what a loop that runs without an error can do; the lines are those of full passes.
    """
    if "step" not in loop:
        return "The loop has no optimizer.step(): there are gradients, but no parameter moves by them."
    if "backward" not in loop:
        return "The loop has no loss.backward(): there are no gradients, and step() moves nothing without them."
    if "zero_grad" not in loop:
        return (
            "The loop has no optimizer.zero_grad(): gradients add up, and every step goes by the sum of all so far, "
            "as with a momentum that never fades."
        )
    after = _cycle(loop, "backward")
    if after.index("zero_grad") < after.index("step"):
        return (
            "The loop has optimizer.zero_grad() between loss.backward() and optimizer.step(): step() finds no "
            "gradients, and moves nothing."
        )
    if "forward" in loop and after.index("forward") < after.index("step"):
        return (
            "The loop has optimizer.step() before loss.backward(): every step goes by the gradients of the last pass."
        )
    return ""


def _cycle(loop: Sequence[Line], first: Line) -> list[Line]:
    """The lines in the order in which they follow on `first`."""
    at = loop.index(first)
    return [*loop[at + 1 :], *loop[: at + 1]]


def _still(figures: Figures, known: Known, view: TrainingView) -> str:
    """That nothing changes any more though the loss is not at its least, and why."""
    if max(figures.same_loss, figures.same_weights) < STILL or _converged(figures, known):
        return ""
    loss = figures.losses[-1]
    stands = (
        f"The loss has stayed at {loss:.4g} for {figures.same_loss:,} epochs"
        if figures.same_loss >= STILL
        else f"No parameter has moved for {figures.same_weights:,} epochs, and the loss is {loss:.4g}"
    )
    if _constant(view):
        why = (
            "the ReLUs are probably dead, with no input above 0"
            if known.relu
            else "nothing of the features gets through"
        )
        remedy = ", a smaller learning rate, or tanh" if known.relu else ", or other initial values"
        return f"{stands}, and the prediction is the same for every row: {why}. Try another seed{remedy}."
    if figures.no_gradient >= STILL:
        never_moved = loss >= 0.99 * figures.first_loss
        return f"{stands}: all gradients are zero, so that no parameter moves." if never_moved else ""
    # with weight decay gradients do not vanish where it holds them in balance
    moves = figures.norm**2 > FLAT * loss and not decay(known.spec)
    if figures.same_weights >= STILL and moves:
        less = known.spec.scheduler != "none" and view.learning_rate < 0.01 * known.spec.learning_rate
        why = ", to which the schedule has taken it" if less else ""
        other = " or float64" if known.dtype == "float32" else ""
        return (
            f"{stands}: at a learning rate of {view.learning_rate:.4g}{why}, steps are too small for {known.dtype} to "
            f"add to the weights. Try a larger one{other}."
        )
    return ""


def _converged(figures: Figures, known: Known) -> bool:
    loss = figures.losses[-1]
    if loss <= VANISHED * figures.first_loss:
        return True
    least = known.reference().loss
    return least is not None and loss - least <= CONVERGED * max(figures.first_loss - least, least)


def _constant(view: TrainingView) -> bool:
    """Does the model predict one and the same number?"""
    predictions = {y_pred for _, y_pred in (view.line or view.pairs)}
    return len(view.line or view.pairs) > 1 and len(predictions) == 1


def _rising(figures: Figures, known: Known, view: TrainingView) -> str:
    """That the training loss has grown for some time, beyond what it was at first."""
    losses = figures.losses
    last = losses[-1]
    if not last > figures.first_loss or len(losses) <= RISE:
        return ""
    steady = all(after > before for before, after in zip(losses[-RISE - 1 :], losses[-RISE:], strict=False))
    third = WINDOW // 3
    parts = [sum(losses[at : at + third]) / third for at in range(0, WINDOW, third)] if len(losses) == WINDOW else []
    in_all = bool(parts) and 1.5 * parts[0] < parts[1] and 1.5 * parts[1] < parts[2]
    if not (steady and last > 1.05 * losses[-RISE - 1]) and not in_all:
        return ""
    rises = f"The training loss rises: it was {figures.first_loss:.4g} at first, and is {last:.4g} now."
    stable = known.reference().stable_lr
    if stable is not None and view.learning_rate > stable:
        return (
            f"{rises} The learning rate, {view.learning_rate:.4g}, is above {stable:.4g}, the largest that is stable."
        )
    return f"{rises} The learning rate, {view.learning_rate:.4g}, is probably too large."


def _overfitting(figures: Figures, known: Known) -> str:
    """That the validation loss is higher than in its best epoch long ago, and the training loss lower."""
    losses, val_losses = figures.losses, figures.val_losses
    since = figures.epochs - 1 - figures.best_epoch
    few = known.rows > ROWS_EACH * known.numbers
    if few or len(val_losses) < WINDOW or since < max(LONG, figures.epochs / 2):
        return ""
    loss, val_loss = sum(losses) / WINDOW, sum(val_losses) / WINDOW
    if loss > 0.98 * figures.loss_at_best or val_loss < max(WORSE * figures.best_val, 0.01 * figures.first_val):
        return ""
    return (
        f"The validation loss was least in epoch {figures.best_epoch:,}, {figures.best_val:.4g}, and is {val_loss:.4g} "
        "now, while the training loss has fallen further: the model may fit its training rows too closely. Early "
        "stopping would keep the weights of that epoch."
    )


def divergence(figures: Figures, known: Known, learning_rate: float, *, by_hand: bool = False) -> Divergence:
    """Why a training whose last epoch has a NaN or infinite figure probably went astray, and what to do.

    `learning_rate` is that of its last step; `by_hand` says that a person, not the schedule alone, made it so.
    """
    spec = known.spec
    if not math.isfinite(figures.first_loss):
        return Divergence(
            f"the loss of the untrained model is {figures.first_loss:g} already: y is too large for {known.dtype}, or "
            "the initial weights are",
            "Standardise the data (step 1), or choose float64.",
            None,
        )
    if known.spec.experiment and (mistake := _mistake(known)):
        return Divergence(
            f"{mistake[0].lower()}{mistake[1:].rstrip('.')}", "Put the lines of the loop back as they belong.", None
        )
    stable = known.reference().stable_lr
    if stable is None or learning_rate <= stable:
        return _unexplained(figures, known, learning_rate, stable, by_hand)
    cause = f"the learning rate, {learning_rate:g}, is above {stable:.4g}, the largest that is stable here"
    to_try = _for_spec(round_below(SAFE * stable), learning_rate, spec, by_hand)
    advice = f"Set a learning rate below {stable:.4g}, the largest that is stable here; {learning_rate:g} is above it."
    if known.standardized or stable > STEEP:
        return Divergence(cause, advice, to_try)
    cause += ": features of this size that are not standardised make the loss that steep"
    return Divergence(cause, f"Standardise the data (step 1). {advice}", to_try)


def _unexplained(
    figures: Figures, known: Known, learning_rate: float, stable: float | None, by_hand: bool
) -> Divergence:
    """The same where no known bound was passed."""
    spec = known.spec
    to_try = _for_spec(round_below(learning_rate / 10), learning_rate, spec, by_hand)
    clip = "" if spec.optimizer == "lbfgs" or spec.clip else ", or limit the gradients (clip)"
    advice = f"Set a learning rate below {learning_rate:g}, for example {to_try:g}{clip}."
    if stable is not None and spec.batch_size and spec.batch_size < known.rows:
        cause = (
            f"batches of {spec.batch_size:,} rows can be steeper than all rows together, for which a learning rate up "
            f"to {stable:.4g} would be stable"
        )
    elif spec.optimizer == "lbfgs":
        cause = f"a step of lbfgs was too long: it goes the whole of its learning rate, {learning_rate:g}, untried"
    else:
        cause = f"the learning rate, {learning_rate:g}, is probably too large"
        if math.isfinite(figures.norm) and figures.norm > 10 * figures.first_norm > 0:
            cause += f": the gradient norm grew from {figures.first_norm:.4g} to {figures.norm:.4g}"
    return Divergence(cause, advice, to_try)


def round_below(rate: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `rate`."""
    power = math.floor(math.log10(rate))
    steps = (float(f"{factor}e{power + more}") for more in (0, 1) for factor in (1, 2, 5))
    return max((step for step in steps if step <= rate * (1 + 1e-9)), default=float(f"5e{power - 1}"))


def _for_spec(rate: float, learning_rate: float, spec: TrainSpec, by_hand: bool) -> float:
    """The learning rate to set so that, where a schedule made `learning_rate` of that of the settings, it is `rate`."""
    if spec.scheduler == "none" or not learning_rate or by_hand:
        return rate
    return round_below(rate * spec.learning_rate / learning_rate)
