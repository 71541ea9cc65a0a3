"""Instruments over the epochs: loss, learning rate, gradient norm, and the speed over the seconds."""

from __future__ import annotations

from workflow_core.protocol import SpeedAnswer
from workflow_core.sanitize import sanitize
from workflow_tui import figures, run_text
from workflow_tui.instruments.scene import Scene
from workflow_tui.plots import bad_mark, column_points
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer

PLAIN = "y shows a plain axis"
MARKS = 6
"""Learning rates set by hand that are marked at most; of more, the last ones."""


def show_over_epochs(chart: Chart, scene: Scene, drawn: list[Layer], *, log_y: bool = False) -> None:
    """Show layers over the epochs of the scene's window, with the cursor where it is and the first bad epoch marked."""
    training = scene.training
    bad = training.first_bad if training is not None else None
    start, stop = scene.window
    chart.show(
        drawn + bad_mark(bad), x_range=(start, stop), x_label="epoch", log_y=log_y, whole_x=True, plain_axis=PLAIN
    )
    chart.cursor = scene.cursor


def nothing_yet(chart: Chart, hint: str) -> None:
    """Leave a chart empty, with `hint` for what will be there."""
    chart.cursor = None
    chart.hint = hint
    chart.clear()
    chart.border_subtitle = ""


def show_loss(chart: Chart, scene: Scene) -> None:
    """Training and validation loss, earlier runs dimmed below them, the best epoch and learning rates set by hand."""
    training = scene.training
    chart.border_title = run_text.loss_title(scene.state, log=scene.log_loss, narrow=scene.narrow)
    if training is None or not training.epoch:
        unknown = training is None and scene.state.unknown
        nothing_yet(chart, "" if unknown else "space trains: the loss appears here")
        return
    drawn: list[Layer] = []
    for other in scene.earlier:
        if (columns := other.series.get("train_loss")) is not None:
            drawn.append(layers.Lines("earlier", other.label, column_points(columns), tag=str(other.run)))
    if "val_loss" in scene.state.history.series:
        drawn.append(layers.Lines("validation", "val", scene.points("val_loss")))
    drawn.append(layers.Lines("train", "train", scene.points("train_loss")))
    if training.best_epoch is not None and training.best_epoch < scene.done - 1:
        drawn.append(layers.Mark(float(training.best_epoch), "muted", "best"))
    drawn += [layers.Mark(float(epoch), "prediction", f"lr {rate:.3g}") for epoch, rate in training.lr_changes[-MARKS:]]
    show_over_epochs(chart, scene, drawn, log_y=scene.log_loss)
    chart.border_subtitle = loss_caption(scene, roomy=chart.size.width >= 50)


def loss_caption(scene: Scene, *, roomy: bool) -> str:
    """The losses now, or those of the epoch looked at."""
    training = scene.training
    assert training is not None
    if scene.look.epoch is None:
        return run_text.loss_text(training, roomy=roomy)
    if scene.past is None:
        return f"{at(scene)}…"
    text = f"{at(scene)}train {figures.figure(scene.past.train_loss)}"
    return text if scene.past.val_loss is None else f"{text} · val {figures.figure(scene.past.val_loss)}"


def show_learning_rate(chart: Chart, scene: Scene) -> None:
    """The learning rate of every epoch, as the schedule and a person made it."""
    chart.border_title = "Learning rate"
    if not scene.begun or scene.training is None:
        nothing_yet(chart, "the learning rate of every epoch")
        return
    show_over_epochs(chart, scene, [layers.Lines("prediction", "lr", scene.points("learning_rate"))])
    rate = scene.training.learning_rate if scene.past is None else scene.past.learning_rate
    chart.border_subtitle = f"{at(scene)}lr {'…' if scene.asking else figures.figure(rate)}"


def show_grad_norm(chart: Chart, scene: Scene) -> None:
    """The L2 norm of all gradients together, at the last step of every epoch, before clipping."""
    chart.border_title = "Gradient norm · L2, log y"
    if not scene.begun or scene.training is None:
        nothing_yet(chart, "the length of the gradient in every epoch")
        return
    drawn: list[Layer] = [layers.Lines("prediction", "grad norm", scene.points("grad_norm"))]
    if clip := scene.training.spec.clip:
        drawn.insert(0, layers.Horizontal("target", "clip", clip))
    show_over_epochs(chart, scene, drawn, log_y=True)
    norm = scene.training.grad_norm if scene.past is None else scene.past.grad_norm
    chart.border_subtitle = f"{at(scene)}grad norm {'…' if scene.asking else figures.figure(norm)}"


def at(scene: Scene) -> str:
    """Which epoch a caption is about, where it is not now; where there is no room for it the axis alone says so."""
    return "" if scene.look.epoch is None or scene.narrow else f"epoch {figures.whole(scene.look.epoch)}: "


def show_speed(chart: Chart, scene: Scene) -> None:
    """Epochs a second over the seconds of training."""
    chart.border_title = "Speed · epochs/s over seconds of training"
    answer = scene.speed
    if not isinstance(answer, SpeedAnswer) or not answer.rates:
        nothing_yet(chart, sanitize(answer, 200) if isinstance(answer, str) else "epochs a second, once it trains")
        return
    points = list(zip(answer.seconds, answer.rates, strict=True))
    end = max(answer.seconds[-1], 1.0)
    chart.cursor = None
    chart.show([layers.Lines("prediction", "epochs/s", points)], x_range=(0.0, end), x_label="s")
    chart.border_subtitle = speed_caption(answer, chart.size.width)


def speed_caption(answer: SpeedAnswer, width: int) -> str:
    """How long an epoch takes, and what the training takes of the machine, as far as `width` columns tell."""
    parts = [] if answer.epoch_ms is None else [f"{figures.milliseconds(answer.epoch_ms)} an epoch"]
    parts.append(f"{figures.rate(answer.rows)} rows/s")
    if width >= 70:
        parts.append(f"{answer.threads} thread{'s' * (answer.threads != 1)}")
    if width >= 50:
        parts.append(f"engine {figures.size(answer.memory)}")
        if answer.device_memory is not None:
            parts.append(f"device {figures.size(answer.device_memory)}")
    return " · ".join(parts)
