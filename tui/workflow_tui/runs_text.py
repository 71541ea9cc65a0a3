"""What is said of a kept run beside its settings: how it ended, what its losses are of, how long ago it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from workflow_core.protocol import LaneView, RunView, TrainingView
from workflow_core.sanitize import sanitize
from workflow_core.specs import LOSS_NAMES
from workflow_tui import figures
from workflow_tui.run_settings import Settings, summary_text
from workflow_tui.run_text import PLAIN_ENDS, own_delta
from workflow_tui.state import State

NAME = 60
"""Characters that the name of a run may have."""
STATES = {"ready": "not begun", "stopped": "stopped", "interrupted": "interrupted"}
ROLES = {"running": "accent", "diverged": "bad", "failed": "bad", "interrupted": "bad"}


def live(state: State) -> tuple[RunView, ...]:
    """The kept runs, those under way as they stand at this moment; newest first."""
    fresh: dict[int, TrainingView | LaneView] = {}
    if state.race is not None:
        fresh |= {lane.run: lane for lane in state.race.lanes}
    if state.training is not None:
        fresh[state.training.run] = state.training
    runs = tuple(_at_present(run, fresh[run.run]) if run.run in fresh else run for run in state.runs)
    if state.lost:
        runs = tuple(replace(run, state="interrupted") if run.state == "running" else run for run in runs)
    return tuple(sorted(runs, key=lambda run: run.run, reverse=True))


def _at_present(run: RunView, view: TrainingView | LaneView) -> RunView:
    if view.epoch < run.epochs:
        return run  # it was reset since, and its next epoch will have another number
    now = replace(
        run,
        state="stopped" if run.state == "stopped" and view.state == "finished" else view.state,
        reason=view.reason or run.reason,
        epochs=view.epoch,
        train_loss=view.train_loss,
        val_loss=view.val_loss,
        best_epoch=view.best_epoch,
        best_loss=view.best_loss,
        parameters=view.parameters,
    )
    if isinstance(view, TrainingView):
        now = replace(now, elapsed=view.elapsed, lr_changes=view.lr_changes)
    return now


def engaged(state: State) -> set[int]:
    """The runs that are there: the one that the other steps are about, and those of a race."""
    if state.race is not None:
        return {lane.run for lane in state.race.lanes}
    return {state.training.run} if state.training is not None else set()


def name_of(text: str) -> str:
    """A name as somebody typed it, as it can be shown and kept; empty for none."""
    return sanitize(text.strip(), NAME).strip()


def title(run: RunView, room: int = NAME) -> str:
    """The run's number, and its name where it has one."""
    name = sanitize(run.name, room)
    return f"run {run.run}" + (f" ({name})" if name else "")


def titles(runs: Sequence[RunView], most: int) -> str:
    """Several runs in a sentence, `most` of them by their names."""
    shown = [title(run, 30) for run in runs[:most]]
    left = len(runs) - len(shown)
    if left:
        return f"{', '.join(shown)} and {figures.whole(left)} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def state_text(run: RunView) -> str:
    """How it stands or ended, in a word or two."""
    if run.state == "finished" and run.reason not in PLAIN_ENDS:
        return "stopped early" if run.reason.startswith("stopped early") else "stopped"
    return STATES.get(run.state, sanitize(run.state, 20))


def state_role(run: RunView) -> str:
    """The role that colours its state."""
    return ROLES.get(run.state, "")


def unit(run: RunView) -> str:
    """What its losses are of: `MSE`, or `MSE std.` of standardised data."""
    return LOSS_NAMES[run.spec.train.loss] + (" std." if run.spec.data.standardize else "")


def epochs_text(run: RunView) -> str:
    """Epochs done of those planned."""
    return f"{figures.whole(run.epochs)}/{figures.whole(run.spec.train.epochs)}"


def best_text(run: RunView) -> str:
    """The least loss and its epoch: of the validation, or where there is none said so, of the training."""
    if run.best_epoch is None or run.best_loss is None:
        return "–"
    which = "" if run.val_loss is not None else " train"
    return f"{figures.figure(run.best_loss)} @ {figures.whole(run.best_epoch)}{which}"


def when_text(begun: float, now: datetime | None) -> str:
    """When it began: the time of day today and yesterday, as seen from `now` in its zone, else the date.

    Without `now` date and time of day, in the zone of this machine.
    """
    try:
        then = datetime.fromtimestamp(begun).astimezone() if now is None else datetime.fromtimestamp(begun, now.tzinfo)
    except (OverflowError, OSError, ValueError):
        return "–"
    if now is None:
        return f"{then.date().isoformat()} {then:%H:%M}"
    day = {now.date(): "today", now.date() - timedelta(days=1): "yesterday"}.get(then.date())
    return f"{day} {then:%H:%M}" if day else then.date().isoformat()


def losses_text(run: RunView) -> str:
    """Its losses in words, with what they are of, and what makes them the user's own."""
    if not run.epochs:
        return "no epoch yet"
    parts = [f"train {figures.figure(run.train_loss)}"]
    if run.val_loss is not None:
        parts.append(f"val {figures.figure(run.val_loss)}")
    if run.best_epoch is not None:
        which = "val" if run.val_loss is not None else "train"
        among = f"{figures.whole(run.best_epoch)} of 0–{figures.whole(run.epochs - 1)}"
        parts.append(f"best {which} {figures.figure(run.best_loss)} at epoch {among}")
    kind = LOSS_NAMES[run.spec.train.loss] + (" standardised" if run.spec.data.standardize else "")
    if run.spec.data.standardize and run.loss_scale is not None:
        parts.append(f"times {figures.figure(run.loss_scale)} in own units{own_delta(run)}")
    return f"{kind}: {' · '.join(parts)}"


def origin_text(run: RunView) -> str:
    """What it came out of; empty where it began by itself."""
    parts = []
    if run.parent:
        parts.append(f"goes on from run {run.parent} after {figures.epochs(run.parent_epoch)}")
    if run.race:
        parts.append(f"a lane of race {run.race}")
    return " · ".join(parts)


def details(run: RunView, settings: Settings, usual: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Everything about a run that a table has no room for, a line each: which, its settings, its losses, its end."""
    head = f"{title(run)} · {state_text(run)} · {figures.whole(run.epochs)} of {figures.epochs(run.spec.train.epochs)}"
    head += f" in {figures.duration(run.elapsed)} · begun {when_text(run.begun, None)}"
    reason = "" if run.reason in PLAIN_ENDS else sanitize(run.reason, 300)
    end = " · ".join(part for part in (reason, origin_text(run)) if part)
    return head, summary_text(settings, usual, run.lr_changes), losses_text(run), end
