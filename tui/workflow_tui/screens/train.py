"""Step 3: train the model and watch loss, parameters and fit while it learns."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from workflow_core.protocol import Command as EngineCommand
from workflow_core.protocol import Pause, Reset, Run, SetLearningRate, SetTraining
from workflow_core.sanitize import sanitize
from workflow_core.specs import TrainSpec
from workflow_tui import figures, run_text
from workflow_tui.commands import Command
from workflow_tui.dialogs.number import NumberDialog
from workflow_tui.plots import (
    bad_mark,
    data_layers,
    data_range,
    pair_layers,
    series_points,
    told_apart,
    tracked_names,
)
from workflow_tui.run_text import pace_text
from workflow_tui.screens.base import StepScreen
from workflow_tui.settings.train import FIELDS, spec_of, values
from workflow_tui.state import State
from workflow_tui.tables import labels, waiting
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer
from workflow_tui.widgets.form import Form, Values
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import StepCode

PACES: tuple[float | None, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, None)


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
        Command("learning_rate", "l", "l", "lr", "Change the learning rate of this run, from its next step on."),
        Command("reset", "r", "r", "reset", "Back to epoch 0, the first one, with the same initial weights."),
        Command("view", "v", "v", "values", "Show the parameters as figures, or as curves.", bar=False),
        Command("log", "y", "y", "log y", "Show the loss on a logarithmic axis, or a plain one.", bar=False),
    )

    def __init__(self) -> None:
        super().__init__()
        self.log_loss = True  # a plain axis shows the first epochs and nothing of the rest
        self.show_values: bool | None = None

    def instruments(self) -> ComposeResult:
        """Loss and fit on the left, parameters, run and settings on the right."""
        with Horizontal(id="train-columns"):
            with Vertical(id="train-left"):
                yield Chart(id="loss", classes="panel", hint="space trains: the loss appears here")
                yield Chart(id="fit", classes="panel", hint="the model's line over the data")
            with Vertical(id="train-right"):
                yield Chart(id="parameters", classes="panel", hint="weight and bias on their way")
                yield Readout(id="values", classes="panel")
                with Vertical(id="train-run", classes="panel"):
                    yield Readout(id="run")
                    yield Form(FIELDS, values(TrainSpec()), id="train-form", title="")
                    yield StepCode("train", title="Every epoch", only=("y_pred =", "model.eval()"))

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#values").border_title = "Parameters now"
        self.query_one("#train-run").border_title = "Run and settings"

    def show(self, state: State) -> None:
        """Bring the panels up to `state`."""
        self.query_one(StepCode).show(state.spec)
        self.query_one(Form).show(values(state.train_spec))
        self._show_loss(state)
        self._show_parameters(state)
        self._show_values(state)
        self._show_fit(state)
        run = self.query_one("#run", Readout)
        old = state.steps.train == "stale"
        run.show(run_text.run_text(run, state), stale=old)
        for chart in self.query(Chart):
            chart.stale = old

    def _epochs(self, state: State) -> int:
        return state.training.spec.epochs if state.training else state.train_spec.epochs

    def _show_loss(self, state: State) -> None:
        chart = self.query_one("#loss", Chart)
        training = state.training
        chart.border_title = run_text.loss_title(state, log=self.log_loss, narrow=self.has_class("-narrow"))
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
        chart.border_subtitle = run_text.loss_text(training, roomy=chart.size.width >= 50)

    def _show_parameters(self, state: State) -> None:
        chart = self.query_one("#parameters", Chart)
        training, history = state.training, state.history
        chart.border_title = run_text.parameters_title(state, narrow=self.has_class("-narrow"))
        if training is None or not training.epoch:
            chart.clear()
            chart.border_subtitle = ""
            return
        epochs = self._epochs(state)
        roles = told_apart(tracked_names(history, training), chart.size.width)
        targets, short = state.reference.targets, labels(roles, 14 if self.has_class("-narrow") else 24)
        drawn: list[Layer] = [
            layers.Horizontal(role, "", targets[name]) for name, role in roles.items() if name in targets
        ]
        drawn += [
            layers.Lines(role, short[name], series_points(history, name, 0, epochs)) for name, role in roles.items()
        ]
        chart.show(drawn + bad_mark(training.first_bad), x_range=(0, epochs), x_label="epoch")
        chart.border_subtitle = run_text.parameters_caption(
            state, history, len(roles), narrow=self.has_class("-narrow")
        )

    def _show_values(self, state: State) -> None:
        """The table of values: beside the chart where there is room, in its place where a key asks for it."""
        panel, chart = self.query_one("#values", Readout), self.query_one("#parameters", Chart)
        low = self.has_class("-low")
        wanted = run_text.wants_values(state) and not low if self.show_values is None else self.show_values
        panel.set_class(not wanted, "-hidden")
        chart.set_class(wanted and low, "-hidden")
        self.set_class(wanted, "-values")
        if not wanted:
            return
        training = state.training
        if training is None:
            panel.show(Text("each parameter, where it should arrive, the gap"))
            return
        height = run_text.values_height(state, training)
        panel.styles.height = "1fr" if low else height + 2
        rows = max(panel.size.height - (3 if state.standardized else 1), 1) if low else run_text.MOST
        values = run_text.values_text(panel, state, training, rows, own_only=low)
        panel.show(values, stale=state.steps.train == "stale")

    def _show_fit(self, state: State) -> None:
        chart = self.query_one("#fit", Chart)
        if state.data is None:
            chart.clear()
            return
        shown = state.training or state.model
        after = f"after {figures.epochs(state.held_epochs)}"
        chart.border_subtitle = after if shown is not None and (shown.line or shown.pairs) else ""
        if shown is not None and shown.pairs:
            chart.border_title = "Fit · y_pred against y (train)"
            drawn, span = pair_layers(shown.pairs)
            chart.show(drawn, x_range=span, x_label=sanitize(state.data.target, 30))
            return
        chart.border_title = "Fit"
        drawn = data_layers(state.data)
        if shown is not None and shown.line:
            drawn.insert(0, layers.Lines("prediction", "model", list(shown.line)))
        chart.show(drawn, x_range=data_range(state.data), x_label=sanitize(state.data.features[0], 30))

    def remark(self, state: State) -> str:
        """Why the run ended, and what to try."""
        return run_text.ended_text(state.training) if state.training is not None else ""

    def status(self, state: State) -> Text:
        """Epoch, progress, losses and speed."""
        training = state.training
        if not state.ready and (training is None or not state.lost):
            return waiting(state)
        if state.lost and training is not None:
            return Text(
                f" {training.epoch:,} of {figures.epochs(training.spec.epochs)} done when last heard. "
                "a starts the engine again"
            )
        if training is None:
            return Text(f" space runs {figures.epochs(state.train_spec.epochs)}, {pace_text(self.owner.pace)}")
        return run_text.status_text(self, state, training, self.owner.pace, narrow=self.has_class("-narrow"))

    def command_of(self, values: Values) -> EngineCommand:
        """Keep these settings for the next run."""
        return SetTraining(spec=spec_of(values))

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

    def action_learning_rate(self) -> None:
        """Change the learning rate of the run that is there."""
        training = self.owner.state.training
        if training is None:
            self.owner.complain("There is no run yet: the learning rate of the next one is a setting, enter goes there")
        elif training.state in run_text.ENDED:
            self.owner.complain("This run has ended: the learning rate of the next one is a setting, enter goes there")
        else:
            self.owner.start_work(self._change_learning_rate, "dialogs", exclusive=True)

    async def _change_learning_rate(self) -> None:
        training = self.owner.state.training
        if training is None:
            return
        rate = await self.app.push_screen_wait(
            NumberDialog(
                "Learning rate of this run",
                "It holds from the next step on; a schedule goes on from there. The settings of the next run stay.",
                "learning rate",
                training.learning_rate or training.spec.learning_rate,
                low=0,
                high=1e6,
            )
        )
        if rate is not None:
            self.owner.send(SetLearningRate(learning_rate=rate))

    def action_reset(self) -> None:
        """Back to the same initial weights."""
        if self.owner.state.running:
            self.owner.complain("It runs: space pauses it, then r resets")
        else:
            self.owner.send(Reset())

    def action_view(self) -> None:
        """Figures or curves."""
        self.show_values = self.query_one("#values").has_class("-hidden")
        self.refresh_state()
        self.call_after_refresh(self.refresh_state)  # the table is as long as its panel is high

    def action_log(self) -> None:
        """Switch the loss axis."""
        self.log_loss = not self.log_loss
        self.refresh_state()
