"""The five lines of the loop: which one comes next, and what each of them made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import LoopView, MadeView, PastView, TrainingView
from workflow_core.sanitize import cut, sanitize, width
from workflow_core.scripts.train import codes
from workflow_core.specs import LINES, LOSS_NAMES, Line, TrainSpec
from workflow_tui import figures
from workflow_tui.instruments.scene import Scene
from workflow_tui.tables import Ink

INDENT = 3
"""Columns before a line of code: the mark of the next one, and its number."""
FEW = 4
"""Values of a tensor that a line has room for at most."""


@dataclass(frozen=True)
class Row:
    """A line of the loop as it is shown: `made` are lines below it, most important first.

    `brief` is what it made in a few characters, to stand beside it where there is no room for more.
    """

    line: Line
    code: str
    mark: str
    lit: bool
    made: tuple[str, ...] = ()
    brief: str = ""


def loop_text(widget: Widget, scene: Scene) -> Text:
    """The lines in their order, the next one marked, and below each what it made as far as there is room.

    A pass that is made one line at a time shows every tensor; else the figures are those of the last epoch.
    """
    ink, loop = Ink(widget), scene.state.loop
    width, height = widget.size
    rows = [
        _packed(row, width - INDENT)
        for row in (_stepped(loop, spec_of(scene)) if loop is not None else _resting(scene))
    ]
    room = max(height - len(rows) - bool(loop is not None and loop.fault), 0)
    shares = _shares(rows, room)
    text = Text()
    for number, (row, share) in enumerate(zip(rows, shares, strict=True), start=1):
        off = row.mark == "off"
        text.append("▶" if row.mark == "next" else " ", ink("accent", "bold"))
        text.append("– " if off else f"{number} ", ink("muted"))
        style = ink("muted", "strike") if off else "bold" if row.lit else ""
        text.append(row.code, style)
        free = width - INDENT - len(row.code) - 2
        beside = next((told for told in (*row.made[:1], row.brief) if told and len(told) <= free), "")
        if beside and not share:
            text.append(f"  {beside:>{free}}", ink("foreground" if row.lit else "muted"))
        text.append("\n")
        for made in row.made[:share]:
            text.append(" " * INDENT + f"{_cut(made, width - INDENT)}\n", ink("train" if row.lit else "muted"))
    if loop is not None and loop.fault:
        text.append(f"  {_cut(sanitize(loop.fault, 300), width - 2)}", ink("bad", "bold"))
    text.rstrip()
    return text


def spec_of(scene: Scene) -> TrainSpec:
    """The settings of the run that is there, or of the next one."""
    return scene.training.spec if scene.training is not None else scene.state.train_spec


def _packed(row: Row, room: int) -> Row:
    """What it made, as many things on a line as there is room for."""
    packed: list[str] = []
    for made in row.made:
        if packed and len(packed[-1]) + 2 + len(made) <= room:
            packed[-1] += f"  {made}"
        else:
            packed.append(made)
    return replace(row, made=tuple(packed))


def _shares(rows: list[Row], room: int) -> list[int]:
    """How many lines below each row may tell what it made: the one that ran last first, then one each, then more."""
    shares = [0] * len(rows)
    if room < sum(bool(row.made) for row in rows):
        order = sorted(range(len(rows)), key=lambda i: (not rows[i].lit, -i))
        for index in order:
            wanted = len(rows[index].made) if rows[index].lit else min(len(rows[index].made), 1)
            shares[index] = min(room, wanted)
            room -= shares[index]
        return shares
    while room:
        wanting = [i for i, row in enumerate(rows) if shares[i] < len(row.made)]
        if not wanting:
            break
        index = min(wanting, key=lambda i: (shares[i], not rows[i].lit))
        shares[index] += 1
        room -= 1
    return shares


def _cut(text: str, room: int) -> str:
    return text if width(text) <= room else cut(text, max(room - 1, 0)) + "…"


def _stepped(loop: LoopView, spec: TrainSpec) -> list[Row]:
    last = loop.next - 1
    rows = []
    for index, view in enumerate(loop.lines):
        mark = "next" if index == loop.next and not loop.fault else "done" if view.done else ""
        made = tuple(made_text(one) for one in view.made) if view.done else ()
        brief = _brief(view.line, view.made) if view.done else ""
        rows.append(Row(view.line, sanitize(view.code, 200), mark, index == last, made, brief))
    return rows + [_off(line, spec) for line in loop.off]


def _off(line: Line, spec: TrainSpec) -> Row:
    return Row(line, codes(spec)[line], "off", lit=False)


def _resting(scene: Scene) -> list[Row]:
    """The lines with what is known of the last epoch, or of the one looked at."""
    training, past, spec = scene.training, scene.past, spec_of(scene)
    made: dict[Line, tuple[str, ...]] = {}
    brief: dict[Line, str] = {}
    if training is not None and training.epoch:
        name = LOSS_NAMES[spec.loss]
        rows = (
            next((split.count for split in scene.state.data.splits if split.name == "train"), 0)
            if (scene.state.data is not None)
            else 0
        )
        batch = min(spec.batch_size or rows, rows)
        norms = not set(training.gradients) <= set(training.parameters)
        gradients = [
            f"‖∂{sanitize(key, 30)}‖ {figures.figure(value)}"
            if norms
            else f"∂{sanitize(key, 30)} {figures.signed(value)}"
            for key, value in training.gradients.items()
        ]
        now = training.parameters if past is None else past.parameters
        values = [f"{sanitize(key, 30)} {figures.figure(value)}" for key, value in now.items()]
        loss = training.train_loss if past is None else past.train_loss
        made = {
            "forward": (f"y_pred {figures.shape((batch, 1))}",) if batch else (),
            "loss": (f"{name} {figures.figure(loss)}",),
            "zero_grad": (".grad is None",),
            "backward": (_backward(gradients, training.grad_norm if past is None else past.grad_norm, past),),
            "step": (_several(values),),
        }
        if past is None and training.held is not None and training.held < training.epoch:
            made["step"] = (f"put back, as after {figures.epochs(training.held)}:", *made["step"])
        brief = {
            "forward": figures.shape((batch, 1)) if batch else "",
            "zero_grad": ".grad None",
            "backward": _brief_backward(training, past),
            "step": " ".join(figures.figure(value) for value in now.values()) if training.held is None else "put back",
        }
    rows_shown = [
        Row(line, codes(spec)[line], "", False, made.get(line, ()), brief.get(line, "")) for line in spec.loop
    ]
    return rows_shown + [_off(line, spec) for line in LINES if line not in spec.loop]


def _backward(gradients: list[str], norm: float | None, past: PastView | None) -> str:
    """What it made; of an epoch looked at, and of a run that was branched off and has no step of its own, the norm."""
    if norm is not None and (past is not None or (norm > 0 and not gradients)):
        return f"gradient norm {figures.figure(norm)}"
    return _several(gradients) or ".grad is None"


def _brief_backward(training: TrainingView, past: PastView | None) -> str:
    if past is None and training.gradients and set(training.gradients) <= set(training.parameters):
        return " ".join(map(figures.figure, training.gradients.values()))
    norm = training.grad_norm if past is None else past.grad_norm
    return "" if norm is None else f"norm {figures.figure(norm)}"


def _brief(line: Line, made: Sequence[MadeView]) -> str:
    """What a line made, in a few characters: the shape of predictions, or single numbers as they are after it."""
    if line == "forward":
        return figures.shape(made[0].shape) if made else ""
    if line == "step":  # which tells of the gradients that it clips, and of how often it searched, too
        made = [one for one in made if one.before is not None and not one.label.endswith(".grad, clipped")]
    single = [one.after for one in made if math.prod(one.shape) == 1]
    if not made or len(single) < len(made) or line == "loss":
        return ""
    return " ".join("None" if after is None else figures.figure(after[0]) for after in single)


def _several(parts: list[str]) -> str:
    return "  ".join(parts[:FEW]) + (f"  and {len(parts) - FEW} more" if len(parts) > FEW else "")


def made_text(made: MadeView) -> str:
    """A tensor before and after a line, in one line: its shape, its first values, and by how much they changed."""
    label = sanitize(made.label, 60)
    several = made.shape not in ((), (1,)) and math.prod(made.shape) > 1
    name = f"{label} {figures.shape(made.shape)}" if several else label
    if made.before == made.after or (made.before is None and not label.endswith(".grad")):
        return f"{name} {_values(made.after, several)}"
    text = f"{name} {_values(made.before, several)} → {_values(made.after, several)}"
    if made.before and made.after and len(made.before) == len(made.after) == 1:
        text += f" ({figures.signed(made.after[0] - made.before[0])})"
    return text


def _values(values: tuple[float, ...] | None, several: bool) -> str:
    if values is None:
        return "None"
    shown = " ".join(figures.figure(value) for value in values[:FEW])
    return f"{shown} …" if several and len(values) > FEW else shown


def loop_title(scene: Scene) -> str:
    """Which epoch and batch the lines are of, and whether they are the textbook's."""
    loop, training, spec = scene.state.loop, scene.training, spec_of(scene)
    title = "The loop · EXPERIMENT" if spec.experiment else "The loop"
    if loop is not None:
        title += f" · epoch {figures.whole(loop.epoch)}"
        if loop.batches > 1:
            title += f" · batch {figures.whole(loop.batch)} of {figures.whole(loop.batches)}"
        return title
    if training is not None and training.epoch:
        title += f" · epoch {figures.whole(training.epoch - 1 if scene.past is None else scene.past.epoch)}"
    return title


def experiment_text(spec: TrainSpec) -> str:
    """What is different in an experiment with the loop, in one sentence; empty for the textbook's."""
    parts = [f"{line} is switched off" for line in LINES if line not in spec.loop]
    kept = tuple(line for line in LINES if line in spec.loop)
    if spec.loop != kept:
        parts.append(f"the order is {', '.join(spec.loop)}")
    if spec.optimizer_over != "model":
        parts.append("the optimizer holds the parameters of another model")
    return f"Experiment: {'; '.join(parts)}. e changes it." if parts else ""
