"""What the Train screen says of a run in words and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import RunView, TrainingView
from workflow_core.sanitize import sanitize
from workflow_core.specs import LOSS_NAMES, LOSS_USES, OPTIMIZER_NAMES, TrainSpec
from workflow_tui import figures
from workflow_tui.settings.train import SCHEDULER_NAMES
from workflow_tui.state import State
from workflow_tui.tables import Ink, coefficients_text, gaps_text

BAR = 16
"""Columns of the progress bar."""
MOST = 8
"""Lines that each of the two tables of values takes at most beside the charts."""
NARROWEST = 36
"""Columns that the lines of the run have at the smallest size all of them are made for."""
ENDED = ("finished", "diverged", "failed")
"""States of a run that has ended by itself."""
PLAIN_ENDS = ("", "epochs")
"""Why a run ended, where nothing needs to be said of it."""


def state_role(training: TrainingView) -> str:
    """The role that colours a run's state."""
    return "bad" if training.state in ("diverged", "failed") else "accent" if training.state == "running" else "muted"


def pace_text(pace: float | None) -> str:
    """A pace as people say it."""
    return "flat out" if pace is None else f"{figures.short(pace)} epochs/s"


def loss_title(state: State, *, log: bool, narrow: bool) -> str:
    """Which loss the chart shows, and in which units."""
    spec = state.training.spec if state.training else state.train_spec
    units = "" if not state.standardized else ", std." if narrow else ", standardised"
    return f"Loss · {LOSS_NAMES[spec.loss]}{units}" + (" · log y" if log else "")


def loss_text(training: TrainingView, *, roomy: bool) -> str:
    """The latest losses, named; where they are standardised, what makes them the user's own."""
    text = f"train {figures.figure(training.train_loss)}"
    if training.val_loss is not None:
        text += f" · val {figures.figure(training.val_loss)}"
    if roomy and training.loss_scale not in (None, 1.0):
        text += f" · times {figures.figure(training.loss_scale)} in own units{own_delta(training)}"
    return text


def own_delta(training: TrainingView | RunView) -> str:
    """Which delta the loss in own units has, of a loss that has one: that of the settings is of standardised values."""
    spec = training.spec if isinstance(training, TrainingView) else training.spec.train
    if training.loss_scale is None or "delta" not in LOSS_USES[spec.loss]:
        return ""
    std = training.loss_scale if spec.loss == "smooth_l1" else math.sqrt(training.loss_scale)
    return f", delta {figures.figure(std * spec.delta)}"


def rate_text(training: TrainingView) -> str:
    """The learning rate of a run; where it was changed by hand, the first and the last one."""
    if not training.lr_changes:
        return f"lr {training.learning_rate or training.spec.learning_rate:.4g}"
    epoch, rate = training.lr_changes[-1]
    others = len(training.lr_changes) - 1
    text = f"lr {training.spec.learning_rate:.4g}, {rate:.4g} from epoch {figures.whole(epoch)}"
    return text + (f" +{others} more" if others else "")


def spec_text(spec: TrainSpec, rate: str = "") -> str:
    """The settings of a run in one line, its learning rate, as it is or in words, first."""
    parts = [rate or f"lr {spec.learning_rate:.4g}", OPTIMIZER_NAMES[spec.optimizer], LOSS_NAMES[spec.loss]]
    parts.append(f"{figures.whole(spec.epochs)} epochs")
    if spec.batch_size:
        parts.append(f"batch {figures.whole(spec.batch_size)}")
    if spec.scheduler != "none":
        parts.append(SCHEDULER_NAMES[spec.scheduler])
    if spec.early_stop:
        parts.append(f"early stop {figures.whole(spec.early_stop)}")
    if spec.clip:
        parts.append(f"clip {figures.short(spec.clip)}")
    return " · ".join(parts)


def run_text(widget: Widget, state: State, *, settings: bool) -> Text:
    """The run in three lines: its state, its settings, and how it goes, or that the next one differs.

    Beside the `settings` of the next one it says nothing of those.
    """
    ink = Ink(widget)
    training = state.training
    if training is None and state.unknown:
        return Text("the engine starts:\na run that was kept comes back", ink("muted"))
    if training is None:
        return Text(f"no run yet: space starts one\n{spec_text(state.train_spec)}", ink("muted"))
    text = Text().append(f"run {training.run}  ", "bold")
    text.append("interrupted" if state.lost else training.state, ink("bad" if state.lost else state_role(training)))
    text.append(f"  {training.device} · {figures.duration(training.elapsed)}")
    if training.parent:
        text.append(f" · from run {training.parent}, epoch {figures.whole(training.parent_epoch - 1)}", ink("muted"))
    text.append("\n")
    text.append(spec_text(training.spec, rate_text(training)) + "\n")
    changed = training.spec != state.train_spec
    if not settings and changed:
        return text.append(changed_text(state, training), ink("muted"))
    return text.append(progress_text(training, max(widget.size.width, NARROWEST)))


def settings_title(state: State) -> str:
    """What the settings below are: of the next run, and how that begins where they are not those of the one there."""
    training = state.training
    changed = training is not None and training.spec != state.train_spec
    return changed_text(state, training) if training is not None and changed else "settings of the next run"


def changed_text(state: State, training: TrainingView) -> str:
    """What becomes of settings that are not those of the run that is there."""
    if state.lost or training.state == "running":
        return "settings changed: for the next run"
    if state.stake is not None:
        return "settings changed: space asks"
    if training.state == "paused" and state.steps.train != "stale":
        return "settings changed: space goes on"
    return "settings changed: space begins anew"


def progress_text(training: TrainingView, room: int) -> str:
    """The gradient's norm and the best epoch so far, out of which ones it is and its loss as far as there is `room`."""
    norm = "" if training.grad_norm is None else f"grad norm {figures.figure(training.grad_norm)} · "
    if training.best_epoch is None:
        return norm.removesuffix(" · ")
    best = f"best epoch {figures.whole(training.best_epoch)}"
    among = f" of 0–{figures.whole(training.epoch - 1)}"
    loss = f", {'val' if training.val_loss is not None else 'train'} {figures.figure(training.best_loss)}"
    texts = norm + best + among + loss, norm + best + among, norm.replace(" norm", "") + best + among, norm + best
    return next((text for text in texts if len(text) <= room), best)


def ended_text(training: TrainingView) -> str:
    """Why the run ended, what has probably brought that about and what to try; empty where nothing is to be said."""
    if training.state not in ENDED or training.reason in PLAIN_ENDS:
        return ""
    key = "" if training.try_lr is None else f"T trains with lr {training.try_lr:.4g}"
    return _sentences(training.reason, training.cause, training.advice, key)


def findings_text(training: TrainingView) -> str:
    """What looks wrong while all figures are finite."""
    return _sentences(*training.findings)


def _sentences(*parts: str) -> str:
    """Texts as sentences behind each other, each with a full stop."""
    shown = [sanitize(part, 300).rstrip(". ") for part in parts]
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in shown if part)


def looking_text(widget: Widget, state: State, training: TrainingView, epoch: int) -> Text:
    """Which epoch is looked at, and the ways on and back."""
    ink = Ink(widget)
    text = Text().append(" ◆ ", ink("accent")).append(f"looking at epoch {figures.whole(epoch)}", "bold")
    text.append(f" of 0–{figures.whole(max(state.history.epochs - 1, 0))}")
    if training.state == "running":
        text.append(f" · it goes on: {figures.whole(training.epoch)} done", ink("muted"))
    return text.append(" · k goes on from here · escape is now", ink("muted"))


def wants_values(state: State) -> bool:
    """Are there more figures than the frame of the chart has room for?"""
    training = state.training
    return training is not None and bool(training.epoch) and (state.standardized or len(training.parameters) > 2)


def values_text(
    widget: Widget, state: State, training: TrainingView, rows: int, *, own_only: bool = False, when: str = "now"
) -> Text:
    """The tracked values as the model holds them, `rows` lines at most.

    Where it is linear and standardised, its coefficients in the user's own units stand above them, as many lines
    again; with `own_only` nothing else does.
    """
    text = Text()
    ink = Ink(widget)
    if state.standardized:
        if training.coefficients:
            text.append("in your own units\n", ink("accent"))
            closed = state.reference.closed_form
            text.append_text(coefficients_text(widget, training.coefficients, state.truth, closed, rows))
        if training.loss_scale is not None and training.train_loss is not None:
            loss = LOSS_NAMES[training.spec.loss]
            own = figures.figure(training.train_loss * training.loss_scale)
            text.append(f"train {loss} {own} in your own units{own_delta(training)}\n")
        if own_only and training.coefficients:
            return text
        text.append("as the model holds them, standardised\n", ink("accent"))
    reference = state.reference
    known = "closed" if reference.targets_are == "closed form" else "true"
    return text.append_text(gaps_text(widget, training.parameters, reference.targets, known, rows, when))


def values_height(state: State, training: TrainingView) -> int:
    """Lines that `values_text` takes with MOST rows a table."""
    lines = 1 + min(len(training.parameters), MOST)
    if state.standardized:
        lines += 2
        if training.coefficients:
            lines += 2 + min(len(training.coefficients), MOST)
    return lines


def parameters_title(state: State, *, narrow: bool) -> str:
    """What the chart of the tracked values shows, and where the dotted lines come from."""
    goal = {"": "", "true": " → true", "closed form": " → closed form"}[state.reference.targets_are]
    units = "" if not state.standardized else ", std." if narrow else ", standardised"
    return f"Parameters{units}{goal}"


def parameters_caption(state: State, values: Mapping[str, float], drawn: int, room: int) -> str:
    """The figures of one or two tracked values in `room` columns; of more, how many there are, and are drawn."""
    targets = state.reference.targets
    if len(values) > 2:
        some = f", {drawn} drawn" if drawn < len(values) else ""
        return f"{len(values)} tracked{some} · v lists them"
    texts = [" · ".join(_with_gap(form, name, value, targets) for name, value in values.items()) for form in _GAPS]
    if any(name in targets for name in values):
        texts[-1] = f"gap {texts[-1]}"
    return next((text for text in texts if len(text) <= room), texts[-1])


_GAPS = ("{name} {value} gap {gap}", "{name} {value} ({gap})", "{name} {value} ({short})", "{name} {short}")
"""How a value stands there with its gap, the longest form first."""


def _with_gap(form: str, name: str, value: float, targets: Mapping[str, float]) -> str:
    label = sanitize(name, 24)
    if name not in targets:
        return f"{label} {figures.figure(value)}"
    gap = value - targets[name]
    short = f"{gap:+.0e}" if 0 < abs(gap) < 0.0005 else figures.signed(gap)
    return form.format(name=label, value=figures.figure(value), gap=figures.signed(gap), short=short)


def status_text(widget: Widget, state: State, training: TrainingView, pace: float | None, *, narrow: bool) -> Text:
    """Epoch, progress and speed; what to press next once it rests."""
    ink = Ink(widget)
    total = training.spec.epochs
    text = Text().append(f" {'▶' if training.state == 'running' else '■'} ", ink(state_role(training)))
    text.append(figures.whole(training.epoch).rjust(len(figures.whole(total))), "bold")
    text.append(f" / {figures.epochs(total)} ")
    length = BAR // 2 if narrow else BAR
    filled = min(int(training.epoch / total * length), length)
    text.append("━" * filled, ink("accent")).append("━" * (length - filled), ink("border-blurred"))
    text.append(f" {100 * training.epoch // total:>3}%  ")
    if training.state != "running":
        return text.append(_next(state, training, pace, narrow=narrow))
    left = (total - training.epoch) / training.rate if training.rate else float("inf")
    asked = "flat out" if training.pace is None else f"pace {figures.short(training.pace)}"
    text.append(f"{figures.rate(training.rate):>6}{'/s' if narrow else ' epochs/s'}, {asked}")
    if training.pace is not None and training.capacity and not narrow:
        text.append(f" (flat out {figures.rate(training.capacity)})")
    return text.append(f"  ETA {figures.duration(left)}", ink("muted"))


def _next(state: State, training: TrainingView, pace: float | None, *, narrow: bool) -> str:
    if state.steps.train == "stale":
        return "space starts a new run"
    if state.given_up is not None:
        return "paused. Settings changed: space asks" + ("" if narrow else " whether a new run begins")
    if training.spec != state.train_spec and training.state == "ready":
        return "ready. Settings changed: space begins with them"
    if training.state == "finished":
        why = sanitize(training.reason.partition(":")[0], 40) or "finished"
        return f"{'finished' if training.reason in PLAIN_ENDS else why}. 4 or n: evaluate it"
    if training.state in ("diverged", "failed"):
        where = "" if training.first_bad is None else f": NaN or infinite from epoch {training.first_bad:,} on"
        if training.try_lr is not None:
            return f"{training.state}{where}. T tries another rate"
        return f"{training.state}{where}" + ("" if training.advice else ". Try a smaller learning rate")
    where = f" in batch {training.batch} of {training.batches}" if training.batch else ""
    return f"{training.state}{where}. space runs it, {pace_text(pace)}"
