"""Step 3: train the model and watch loss, parameters and fit while it learns."""

from __future__ import annotations

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Grid, Vertical

from workflow_core.protocol import Pause, Reset, Run, SetTraining, TrainingView
from workflow_core.specs import LOSSES, MAX_EPOCHS, OPTIMIZERS, TrainSpec
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import bad_mark, data_layers, data_range, role_of, series_points
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import Ink, waiting
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer
from workflow_tui.widgets.form import Field, Form, Value
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import StepCode

PACES: tuple[float | None, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, None)
NAMES = {
    "mse": "MSE",
    "l1": "L1",
    "huber": "Huber",
    "smooth_l1": "Smooth L1",
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
}
FIELDS = (
    Field("learning_rate", "learning rate", low=0, high=1e6),
    Field("epochs", "epochs", "int", low=1, high=MAX_EPOCHS, step=10),
    Field("loss", "loss", "choice", choices=tuple((NAMES[name], name) for name in LOSSES)),
    Field("optimizer", "optimizer", "choice", choices=tuple((NAMES[name], name) for name in OPTIMIZERS)),
    Field("device", "device", "text", hint="auto, cpu, cuda, mps"),
)
BAR = 16
"""Columns of the progress bar."""


class TrainScreen(StepScreen):
    """Loss, parameters against their targets, the fit, and the settings of the run."""

    step = "train"
    purpose = "Forward, loss, zero_grad, backward, step: each epoch moves the line closer."
    lesson_at_start = False
    commands = (
        Command("run_pause", "space", "space", "run/pause", "Run the training, or pause it."),
        Command("one_epoch", "full_stop,s", ".", "one epoch", "Train one epoch, then pause."),
        Command("faster", "plus,equals_sign", "+", "faster", "Raise the pace, up to flat out."),
        Command("slower", "minus", "-", "slower", "Lower the pace, down to 1 epoch a second."),
        Command("flat_out", "g", "g", "flat out", "As fast as it goes.", bar=False),
        Command("reset", "r", "r", "reset", "Back to epoch 0 with the same initial weights."),
        Command("log", "l", "l", "log y", "Show the loss on a logarithmic axis, or a plain one."),
    )

    def __init__(self) -> None:
        super().__init__()
        self.log_loss = True  # a plain axis shows the first epochs and nothing of the rest

    def instruments(self) -> ComposeResult:
        """Four panels in two rows."""
        with Grid(id="train-grid"):
            yield Chart(id="loss", classes="panel", hint="space trains: the loss appears here")
            yield Chart(id="parameters", classes="panel", hint="weight and bias on their way")
            yield Chart(id="fit", classes="panel", hint="the model's line over the data")
            with Vertical(id="train-run", classes="panel"):
                yield Readout(id="run")
                yield Form(FIELDS, id="train-form")
                yield StepCode("train", title="Every epoch", only=("y_pred =", "model.eval()"))

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#parameters").border_title = "Parameters → target"
        self.query_one("#fit").border_title = "Fit"
        panel = self.query_one("#train-run")
        panel.border_title, panel.border_subtitle = "Run and settings", "enter edits"
        form = self.query_one(Form)
        form.remove_class("panel")
        form.border_title = form.border_subtitle = None

    def show(self, state: State) -> None:
        """Bring the four panels up to `state`."""
        self.query_one(StepCode).show(state.spec)
        self.query_one(Form).show(values(state.train_spec))
        self._show_loss(state)
        self._show_parameters(state)
        self._show_fit(state)
        self.query_one("#run", Readout).show(self._run_text(state))
        for chart in self.query(Chart):
            chart.stale = state.steps.train == "stale"

    def _epochs(self, state: State) -> int:
        return state.training.spec.epochs if state.training else state.train_spec.epochs

    def _show_loss(self, state: State) -> None:
        chart = self.query_one("#loss", Chart)
        training = state.training
        loss = NAMES[training.spec.loss if training else state.train_spec.loss]
        chart.border_title = f"Loss · {loss}" + (" · log y" if self.log_loss else "")
        if training is None or not training.epoch:
            chart.clear()
            chart.border_subtitle = ""
            return
        epochs, history = self._epochs(state), state.history
        drawn: list[Layer] = []
        if "val_loss" in history.series:
            drawn.append(layers.Lines("validation", "val", series_points(history, "val_loss", 0, epochs)))
        drawn.append(layers.Lines("train", "train", series_points(history, "train_loss", 0, epochs)))
        chart.show(drawn + bad_mark(training.first_bad), x_range=(0, epochs), x_label="epoch", log_y=self.log_loss)
        chart.border_subtitle = loss_text(training)

    def _show_parameters(self, state: State) -> None:
        chart = self.query_one("#parameters", Chart)
        training = state.training
        truth = state.truth
        if training is None or not training.epoch:
            chart.clear()
            chart.border_subtitle = ""
            return
        epochs = self._epochs(state)
        drawn: list[Layer] = [
            layers.Horizontal(role_of(name), "", value) for name, value in truth.items() if name in training.parameters
        ]
        drawn += [
            layers.Lines(role_of(name), name, series_points(state.history, name, 0, epochs))
            for name in training.parameters
        ]
        chart.show(drawn + bad_mark(training.first_bad), x_range=(0, epochs), x_label="epoch")
        lead = "gap " if truth and self.has_class("-narrow") else ""
        chart.border_subtitle = lead + " · ".join(
            self._parameter_text(name, value, truth) for name, value in training.parameters.items()
        )

    def _parameter_text(self, name: str, value: float, truth: dict[str, float]) -> str:
        if name not in truth:
            return f"{name} {figures.figure(value)}"
        gap = f"gap {figures.signed(value - truth[name])}"
        if self.has_class("-narrow"):
            return f"{name} {figures.signed(value - truth[name])}"
        return f"{name} {figures.figure(value)} {gap}"

    def _show_fit(self, state: State) -> None:
        chart = self.query_one("#fit", Chart)
        if state.data is None:
            chart.clear()
            return
        line = state.training.line if state.training else state.model.line if state.model else ()
        drawn = data_layers(state.data)
        if line:
            drawn.insert(0, layers.Lines("prediction", "model", list(line)))
        chart.show(drawn, x_range=data_range(state.data), x_label="X")
        epoch = state.training.epoch if state.training else 0
        chart.border_subtitle = f"after {figures.whole(epoch)} epochs" if line else ""

    def _run_text(self, state: State) -> Text:
        ink = Ink(self)
        training = state.training
        if training is None:
            return Text("no run yet: space starts one\nwith the settings below\n", ink("muted"))
        spec = training.spec
        text = Text().append(f"run {training.run}  ", "bold")
        text.append("interrupted" if state.lost else training.state, ink("bad" if state.lost else state_role(training)))
        text.append(f"  {training.device} · {figures.duration(training.elapsed)}\n")
        text.append(
            f"lr {figures.short(spec.learning_rate)} · {NAMES[spec.optimizer]} · {NAMES[spec.loss]} · "
            f"{figures.whole(spec.epochs)} epochs\n"
        )
        changed = spec != state.train_spec
        text.append("changed: space starts a new run with" if changed else "settings of the next run", ink("muted"))
        return text

    def status(self, state: State) -> Text:
        """Epoch, progress, losses and speed."""
        training = state.training
        if not state.ready and (training is None or not state.lost):
            return waiting(state)
        if state.lost and training is not None:
            return Text(
                f" epoch {training.epoch:,} of {training.spec.epochs:,} was the last heard. a starts the engine again"
            )
        if training is None:
            return Text(f" space runs {figures.whole(state.train_spec.epochs)} epochs, {pace_text(self.owner.pace)}")
        ink = Ink(self)
        total = training.spec.epochs
        done = training.epoch / total
        text = Text().append(f" {'▶' if training.state == 'running' else '■'} ", ink(state_role(training)))
        text.append("epoch ").append(figures.whole(training.epoch).rjust(len(figures.whole(total))), "bold")
        text.append(f" / {figures.whole(total)} ")
        length = BAR // 2 if self.has_class("-narrow") else BAR
        filled = int(done * length)
        text.append("━" * filled, ink("accent")).append("━" * (length - filled), ink("border-blurred"))
        text.append(f" {100 * training.epoch // total:>3}%  ")
        if training.state == "running":
            left = (total - training.epoch) / training.rate if training.rate else float("inf")
            pace = "flat out" if training.pace is None else f"pace {figures.short(training.pace)}"
            text.append(f"{figures.rate(training.rate):>6} epochs/s, {pace}")
            text.append(f"  ETA {figures.duration(left)}", ink("muted"))
        else:
            text.append(self._next(state, training))
        return text

    def _next(self, state: State, training: TrainingView) -> str:
        if state.steps.train == "stale":
            return "space starts a new run"
        if training.state == "finished":
            return "finished. 4 or n: evaluate it"
        if training.state in ("diverged", "failed"):
            where = "" if training.first_bad is None else f": NaN or infinite from epoch {training.first_bad:,} on"
            return f"{training.state}{where}. Try a smaller learning rate"
        return f"{training.state}. space runs it, {pace_text(self.owner.pace)}"

    def action_run_pause(self) -> None:
        """Run, or pause what runs."""
        if self.owner.state.running or self.owner.link.waits_for(Run):
            self.owner.send(Pause())
        else:
            self.owner.run_training()

    def action_one_epoch(self) -> None:
        """Train a single epoch."""
        self.owner.run_training(epochs=1)

    def action_faster(self) -> None:
        """The next higher pace."""
        self._change_pace(1)

    def action_slower(self) -> None:
        """The next lower pace."""
        self._change_pace(-1)

    def action_flat_out(self) -> None:
        """No pace at all."""
        self.owner.set_pace(None)

    def _change_pace(self, by: int) -> None:
        pace = self.owner.pace
        at = PACES.index(pace) if pace in PACES else sum(p is not None and p < (pace or 0) for p in PACES)
        self.owner.set_pace(PACES[min(max(at + by, 0), len(PACES) - 1)])

    def action_reset(self) -> None:
        """Back to the same initial weights."""
        if self.owner.state.running:
            self.owner.complain("It runs: space pauses it, then r resets")
        else:
            self.owner.send(Reset())

    def action_log(self) -> None:
        """Switch the loss axis."""
        self.log_loss = not self.log_loss
        self.refresh_state()

    @on(Form.Applied)
    def _applied(self, event: Form.Applied) -> None:
        event.stop()
        try:
            spec = msgspec.convert(event.values, TrainSpec)
        except msgspec.ValidationError as error:
            self.owner.complain(str(error).removesuffix("."))
            event.form.restore()
            return
        self.owner.send(SetTraining(spec=spec))

    @on(Form.Refused)
    def _refused(self, event: Form.Refused) -> None:
        event.stop()
        self.owner.complain(event.text)


def values(spec: TrainSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    return dict(msgspec.to_builtins(spec))


def state_role(training: TrainingView) -> str:
    """The role that colours a run's state."""
    return "bad" if training.state in ("diverged", "failed") else "accent" if training.state == "running" else "muted"


def loss_text(training: TrainingView) -> str:
    """The latest losses, named."""
    text = f"train {figures.figure(training.train_loss)}"
    return text if training.val_loss is None else f"{text} · val {figures.figure(training.val_loss)}"


def pace_text(pace: float | None) -> str:
    """A pace as people say it."""
    return "flat out" if pace is None else f"{figures.short(pace)} epochs/s"
