"""The fit over the data: the model's line, or of several features its predictions against the truth."""

from __future__ import annotations

from workflow_core.sanitize import sanitize
from workflow_tui import figures
from workflow_tui.instruments.curves import nothing_yet
from workflow_tui.instruments.scene import Scene
from workflow_tui.plots import data_layers, data_range, pair_layers
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart


def show_fit(chart: Chart, scene: Scene) -> None:
    """What the model predicts now, or did after the epoch looked at."""
    state, data = scene.state, scene.state.data
    chart.cursor = None
    if data is None:
        chart.border_title = "Fit"
        nothing_yet(chart, "the model's line over the data")
        return
    shown = scene.past or state.training or state.model
    after = fit_caption(scene)
    chart.border_subtitle = after if shown is not None and (shown.line or shown.pairs) else ""
    if shown is not None and shown.pairs:
        chart.border_title = "Fit · y_pred against y (train)"
        drawn, span = pair_layers(shown.pairs)
        chart.show(drawn, x_range=span, x_label=sanitize(data.target, 30))
        return
    chart.border_title = "Fit"
    drawn = data_layers(data)
    if shown is not None and shown.line:
        drawn.insert(0, layers.Lines("prediction", "model", list(shown.line)))
    chart.show(drawn, x_range=data_range(data), x_label=sanitize(data.features[0], 30))


def fit_caption(scene: Scene) -> str:
    """How many epochs are behind what is shown."""
    if scene.look.epoch is None:
        training = scene.training
        if training is not None and training.held is not None and training.held < training.epoch:
            return f"weights put back: after {figures.epochs(training.held)}"
        more = f" and {training.batch} of {training.batches} batches" if training is not None and training.batch else ""
        return f"after {figures.epochs(scene.state.held_epochs)}{more}"
    if scene.past is None:
        return f"asking for epoch {figures.whole(scene.look.epoch)} …"
    how = (
        ""
        if not scene.past.replayed
        else ", trained again: equal"
        if scene.past.equal
        else ", trained again: not the same"
    )
    return f"as after epoch {figures.whole(scene.past.epoch)}{how}"
