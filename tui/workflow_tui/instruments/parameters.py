"""Instruments of the parameters: on their way to their targets, as a table, and their gradients."""

from __future__ import annotations

import math

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import TrainingView
from workflow_core.sanitize import padded, sanitize, width
from workflow_tui import figures, run_text
from workflow_tui.instruments.curves import at, nothing_yet, show_over_epochs
from workflow_tui.instruments.scene import Scene
from workflow_tui.plots import told_apart, tracked_names
from workflow_tui.tables import Ink, labels
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer


def show_parameters(chart: Chart, scene: Scene) -> None:
    """The tracked values over the epochs, and dotted where they should arrive."""
    state, training = scene.state, scene.training
    chart.border_title = run_text.parameters_title(state, narrow=scene.narrow)
    if training is None or not training.epoch:
        nothing_yet(chart, "weight and bias on their way")
        return
    roles = told_apart(tracked_names(state.history, training), chart.size.width)
    targets, short = state.reference.targets, labels(roles, 14 if scene.narrow else 24)
    drawn: list[Layer] = [layers.Horizontal(role, "", targets[name]) for name, role in roles.items() if name in targets]
    drawn += [layers.Lines(role, short[name], scene.points(name)) for name, role in roles.items()]
    show_over_epochs(chart, scene, drawn)
    chart.border_subtitle = caption(scene, training, len(roles), chart.size.width - 2)


def caption(scene: Scene, training: TrainingView, drawn: int, room: int) -> str:
    """The values now with their gaps, or those after the epoch looked at."""
    if scene.look.epoch is None:
        return run_text.parameters_caption(scene.state, training.parameters, drawn, room)
    if scene.past is None:
        return f"{at(scene)}…"
    values = scene.past.parameters
    if len(values) > 2:
        return f"{at(scene)}v lists {len(values)} values"
    return at(scene) + " · ".join(f"{sanitize(name, 24)} {figures.figure(value)}" for name, value in values.items())


def gradients_text(widget: Widget, training: TrainingView | None) -> Text:
    """The gradient of each tracked value at the last step, and its size as a bar.

    Of a model with more numbers than are tracked it is the L2 norm of each tensor's gradient.
    """
    ink = Ink(widget)
    if training is None or not training.epoch:
        return Text("∂loss/∂ each parameter, once it trains", ink("muted"))
    if not training.gradients:
        if training.grad_norm:  # a run that was branched off, and has no step of its own yet
            known = f"L2 norm of all {figures.figure(training.grad_norm)}.\nEach of them is shown after the next step."
            return Text(known, ink("muted"))
        return Text("No gradient: .grad is None for every parameter.", ink("bad"))
    norms = not set(training.gradients) <= set(training.parameters)
    rows = max(widget.size.height - 2, 1)
    shown = list(training.gradients.items())
    left = max(len(shown) - rows, 0)
    shown = shown[: rows - 1] if left else shown
    short = labels((name for name, _ in shown), max(widget.size.width - 22, 8))
    wide = max(map(width, short.values()), default=8) + 1
    text = Text(f"{'':<{wide}}{'grad norm' if norms else 'gradient':>10}  size\n", ink("muted"))
    most = max((abs(value) for _, value in shown if math.isfinite(value)), default=0.0)
    room = max(widget.size.width - wide - 13, 4)
    for name, value in shown:
        text.append(padded(short[name], wide), ink.of(name))
        text.append(f"{figures.figure(value) if norms else figures.signed(value):>10}  ")
        filled = round(room * abs(value) / most) if most and math.isfinite(value) else 0
        text.append("━" * filled + "\n", ink("prediction"))
    if left:
        text.append(f"and {left + 1} more tensors\n", ink("muted"))
    return text.append(f"L2 norm of all {figures.figure(training.grad_norm)}, before clipping", ink("muted"))
