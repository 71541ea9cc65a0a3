"""Step 2: build the model, and see what it predicts before it has learnt anything."""

from __future__ import annotations

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from workflow_core.protocol import BuildModel, ModelView
from workflow_core.scripts import MODEL_CLASS
from workflow_core.specs import MAX_SEED, InitSpec, ModelSpec
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import data_layers, data_range
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import parameters_text, waiting
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.form import Field, Form, Value
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import highlighted

FIELDS = (
    Field("seed", "init seed", "int", hint="draws weight, then bias", low=0, high=MAX_SEED, step=1),
    Field("weight", "weight", "text", hint="a number, or drawn"),
    Field("bias", "bias", "text", hint="a number, or drawn"),
)
DRAWN = "drawn"


class BuildScreen(StepScreen):
    """The model's class, its parameters, and its untrained line over the data."""

    step = "build"
    purpose = "Subclass nn.Module: training changes its parameters, forward predicts."
    commands = (
        Command("build", "space", "space", "build model", "Build a fresh model with these settings."),
        Command("defaults", "r", "r", "defaults", "Go back to the course's settings."),
    )

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def instruments(self) -> ComposeResult:
        """Class and settings above, parameters and the untrained line below."""
        with Horizontal(id="build-top"):
            yield Static("", id="class", classes="panel", markup=False)
            with Vertical(id="build-right"):
                yield Form(FIELDS, id="build-form", title="Where it starts")
                yield Readout(id="parameters", classes="panel")
        yield Chart(id="untrained", classes="panel", hint="space builds the model and draws its untrained line here")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#class").border_title = "The model"
        self.query_one("#parameters").border_title = "Parameters"
        self.query_one("#untrained").border_title = "Untrained prediction over the data"
        self._dark: bool | None = None

    def engine_ready(self, state: State) -> None:
        """A first visit does the step with the settings as they stand."""
        if state.model is None:
            self._begun = True
            self.owner.send(BuildModel())

    def on_screen_resume(self) -> None:
        """Do the step where it is still open; once, for it resumes after every dialog, that of its failure too."""
        if self.owner.state.ready and not self._begun:
            self.engine_ready(self.owner.state)

    def show(self, state: State) -> None:
        """Bring class, settings, parameters and line up to `state`."""
        self.query_one(Form).show(values(state.model_spec))
        dark = self.app.current_theme.dark
        if dark != self._dark:
            self._dark = dark
            self.query_one("#class", Static).update(highlighted(MODEL_CLASS.rstrip(), dark=dark))
        if state.model is None:
            self.query_one("#parameters", Readout).show(Text("name, shape, dtype, device and value of each parameter"))
            return
        self._show_model(state, state.model)

    def _show_model(self, state: State, model: ModelView) -> None:
        truth = state.data.truth if state.data else {}
        table = self.query_one("#parameters", Readout)
        table.show(parameters_text(table, model.parameters, truth))
        table.caption(f"{figures.whole(model.count)} parameters · {figures.size(model.size)}")
        chart = self.query_one(Chart)
        if model.untrained_loss is not None:
            chart.border_subtitle = (
                f"untrained train {state.train_spec.loss.upper()} {figures.figure(model.untrained_loss)}"
            )
        if state.data is not None:
            line = layers.Lines("prediction", "model", list(model.line))
            chart.show([*data_layers(state.data), line], x_range=data_range(state.data), x_label="X")

    def status(self, state: State) -> Text:
        """What was built, and where to go next."""
        if not state.ready:
            return waiting(state)
        if state.model is None:
            return Text(" space builds the model with these settings")
        return Text(f" {state.model.class_name} built. 3 or n: train it")

    def action_build(self) -> None:
        """Build the model with the settings as they stand."""
        self.owner.send(BuildModel())

    def action_defaults(self) -> None:
        """Go back to the default settings."""
        self.owner.send(BuildModel(spec=ModelSpec()))

    @on(Form.Applied)
    def _applied(self, event: Form.Applied) -> None:
        event.stop()
        try:
            spec = spec_of(event.values)
        except ValueError as error:
            self.owner.complain(str(error))
            event.form.restore()
            return
        self.owner.send(BuildModel(spec=spec))

    @on(Form.Refused)
    def _refused(self, event: Form.Refused) -> None:
        event.stop()
        self.owner.complain(event.text)


def values(spec: ModelSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    given = spec.init.values
    shown: dict[str, Value] = {"seed": spec.init.seed}
    for name in ("weight", "bias"):
        shown[name] = repr(given[name]).removesuffix(".0") if name in given else DRAWN
    return shown


def spec_of(form: dict[str, Value]) -> ModelSpec:
    """The spec the form's values describe. Raises ValueError with what does not fit."""
    given: dict[str, float] = {}
    for name in ("weight", "bias"):
        text = str(form[name]).strip()
        if text and text != DRAWN:
            given |= InitSpec.parse(f"{name}={text}")
    try:
        return msgspec.convert({"init": {"seed": form["seed"], "values": given}}, ModelSpec)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).removesuffix(".").partition(" - at `")[0]) from error
