"""The loss over two parameters as a shaded map, with the path that the training walked and the minimum."""

from __future__ import annotations

import math
from collections.abc import Hashable

from workflow_core.protocol import ReadSurface, SurfaceAnswer
from workflow_core.sanitize import sanitize
from workflow_core.specs import LOSS_NAMES
from workflow_tui import figures
from workflow_tui.instruments.curves import at, nothing_yet
from workflow_tui.instruments.scene import Points, Scene
from workflow_tui.plots import path_points, surface_layers
from workflow_tui.state import State
from workflow_tui.widgets.chart import Chart

Axes = tuple[str, str]
HOW = {"closed form": "", "best point of the grid": " on this grid", "best point found": " found"}
"""How the least loss is known."""
HINT = "the loss over two parameters, and the path through it"
MOST = 120, 60
"""Columns and rows of the grid that are asked for at most."""


def scalars(state: State) -> tuple[str, ...]:
    """The names of the model's first scalars, as the engine knows them: `weight`, `0.weight[3,1]`; 64 at most."""
    names: list[str] = []
    for tensor in state.model.parameters if state.model is not None else ():
        for flat in range(min(math.prod(tensor.shape), 64 - len(names))):
            names.append(tensor.name + _index(tensor.shape, flat))
    return tuple(names)


def _index(shape: tuple[int, ...], flat: int) -> str:
    """The place of the number `flat` of a tensor, in its order in memory; axes of length 1 are left out."""
    places: list[int] = []
    for length in reversed(shape):
        flat, place = divmod(flat, length)
        places.insert(0, place)
    shown = [str(place) for place, length in zip(places, shape, strict=True) if length > 1]
    return f"[{','.join(shown)}]" if shown else ""


def chosen_axes(state: State, asked: Axes | None) -> Axes | None:
    """The two parameters of the map: those that were chosen, else the first two; None where there are no two."""
    if asked is not None:
        return asked
    names = scalars(state)
    return (names[0], names[1]) if len(names) > 1 else None


def question(scene: Scene, axes: Axes, columns: int, rows: int) -> tuple[Hashable, Hashable, ReadSurface]:
    """What to ask for a chart of this size: what it is about, what moves under that, and the question.

    Where the model has other parameters than these two the map is another one at every epoch.
    """
    training, model = scene.training, scene.state.model
    run = training.run if training is not None else 0
    only = model is not None and model.count <= 2
    epoch = None if only else scene.look.epoch
    columns, rows = min(columns, MOST[0]), min(rows, MOST[1])
    moves = None if only or training is None or epoch is not None else training.epoch
    state, spec = scene.state, training.spec if training is not None else scene.state.train_spec
    loss = spec.loss, spec.delta, state.train_spec.loss, state.train_spec.delta
    subject = (run, epoch, state.data_spec, state.model_spec, loss, axes, columns, rows, state.steps.train)
    return subject, moves, ReadSurface(x=axes[0], y=axes[1], columns=columns, rows=rows, epoch=epoch)


def show_surface(chart: Chart, scene: Scene, axes: Axes | None) -> None:
    """The map with the path, where it began, where it is and the least loss; what is not known yet is said."""
    chart.cursor = None
    chart.border_title = "Loss surface"
    answer = scene.surface
    if axes is None:
        nothing_yet(chart, "a model of one parameter has no surface")
        return
    if not isinstance(answer, SurfaceAnswer) or (answer.x, answer.y) != axes:
        nothing_yet(chart, sanitize(answer, 200) if isinstance(answer, str) else HINT)
        return
    training = scene.training
    spec = training.spec if training is not None else scene.state.train_spec
    x, y = sanitize(answer.x, 30), sanitize(answer.y, 30)
    loss = LOSS_NAMES[spec.loss]
    chart.border_title = f"{loss} over {x} →, {y} ↑" if scene.narrow else f"Loss surface · {loss} over {x} → and {y} ↑"
    path = walked(scene, axes) or [(px, py) for _, px, py in answer.path]
    drawn = surface_layers(answer, path, place_of(scene, axes))
    chart.show(drawn, x_range=answer.x_range, y_range=answer.y_range, x_label=x)
    chart.border_subtitle = caption(scene, answer, roomy=chart.size.width >= 50)


def caption(scene: Scene, answer: SurfaceAnswer, *, roomy: bool) -> str:
    """The loss here and at the minimum."""
    here = answer.now_loss
    if scene.past is not None and scene.past.train_loss is not None:
        here = scene.past.train_loss
    elif scene.look.epoch is None and scene.training is not None and scene.training.train_loss is not None:
        here = scene.training.train_loss
    least = f"least {figures.figure(answer.minimum_loss)}"
    where = f" at {figures.figure(answer.minimum[0])}, {figures.figure(answer.minimum[1])}" if roomy else ""
    there = "…" if scene.asking else figures.figure(here)
    return f"{at(scene)}here {there} · {least}{where}{HOW[answer.minimum_is]}"


def walked(scene: Scene, axes: Axes) -> Points:
    """The path so far, or up to the epoch looked at, of parameters that are tracked; empty for others."""
    if scene.training is None:
        return []
    stop = None if scene.look.epoch is None else scene.look.epoch + 1
    path = path_points(scene.state.history, *axes, stop)
    initial = scene.training.initial
    if axes[0] in initial and axes[1] in initial:
        path.insert(0, (initial[axes[0]], initial[axes[1]]))
    return path


def place_of(scene: Scene, axes: Axes) -> tuple[float, float] | None:
    """Where the two parameters are, now or at the epoch looked at; None where they are not tracked."""
    if scene.asking:
        return None
    values = scene.past.parameters if scene.past is not None else scene.training.parameters if scene.training else {}
    return (values[axes[0]], values[axes[1]]) if axes[0] in values and axes[1] in values else None
