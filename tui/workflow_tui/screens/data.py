"""Step 1: make the data and deal it into splits."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from workflow_core.protocol import DataView, MakeData
from workflow_core.specs import MAX_SEED, DataSpec, SplitSpec
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import data_layers, data_range
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import rows_text, splits_text, waiting
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.form import Field, Form, Value
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import StepCode

FIELDS = (
    Field("weight", "weight", hint="slope", step=0.1),
    Field("bias", "bias", hint="y at x = 0", step=0.1),
    Field("start", "start", hint="first x", step=0.1),
    Field("stop", "stop", hint="x ends below", step=0.1),
    Field("step", "step", hint="between x", low=0, step=0.01),
    Field("noise", "noise", hint="std of y", low=0, step=0.01),
    Field("seed", "noise seed", "int", low=0, high=MAX_SEED, step=1),
    Field("split", "split", "text", hint="train/val/test"),
    Field("order", "order", "choice", choices=(("sequential", "sequential"), ("shuffled", "shuffled"))),
    Field("split_seed", "order seed", "int", low=0, high=MAX_SEED, step=1),
)


class DataScreen(StepScreen):
    """Settings of the line, its scatter, the splits and the first rows."""

    step = "data"
    purpose = "Make points of a line you know, so you can see whether the model finds it."
    commands = (
        Command("make", "space", "space", "make data", "Make the data with these settings."),
        Command("defaults", "r", "r", "defaults", "Go back to the course's settings."),
    )

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def instruments(self) -> ComposeResult:
        """Settings and rows on the left, scatter and splits on the right."""
        with Vertical(id="data-left"):
            yield Form(FIELDS, id="data-form", title="Settings")
            yield Readout(id="rows", classes="panel")
            yield StepCode("data")
        with Vertical(id="data-right"):
            yield Chart(id="scatter", classes="panel", hint="space makes the data and draws it here")
            yield Readout(id="splits", classes="panel")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#rows").border_title = "First rows"
        self.query_one("#splits").border_title = "Splits"
        self.query_one("#scatter").border_title = "y against X"

    def engine_ready(self, state: State) -> None:
        """A first visit does the step with the settings as they stand."""
        if state.data is None:
            self._begun = True
            self.owner.send(MakeData())

    def on_screen_resume(self) -> None:
        """Do the step where it is still open; once, for it resumes after every dialog, that of its failure too."""
        if self.owner.state.ready and not self._begun:
            self.engine_ready(self.owner.state)

    def show(self, state: State) -> None:
        """Bring settings, scatter and tables up to `state`."""
        self.query_one(StepCode).show(state.spec)
        self.query_one(Form).show(values(state.data_spec))
        if state.data is not None:
            self._show_scatter(state.data)
            rows, splits = self.query_one("#rows", Readout), self.query_one("#splits", Readout)
            rows.show(rows_text(rows, state.data))
            splits.show(splits_text(splits, state.data))
            X, y = state.data.X, state.data.y
            splits.caption(f"X {figures.shape(X.shape)} · y {figures.shape(y.shape)} · {X.dtype} · {X.device}")
        else:
            self.query_one("#rows", Readout).show(Text("the first rows of X and y"))
            self.query_one("#splits", Readout).show(Text("how many rows went to training, validation and test"))

    def _show_scatter(self, data: DataView) -> None:
        chart = self.query_one(Chart)
        chart.border_subtitle = f"{figures.whole(data.rows)} rows"
        chart.show(data_layers(data), x_range=data_range(data), x_label="X")

    def status(self, state: State) -> Text:
        """What was made, and where to go next."""
        if not state.ready:
            return waiting(state)
        if state.data is None:
            return Text(" space makes the data with these settings")
        if state.data.extrapolation:
            if self.size.width >= 150:
                return Text.assemble(" ", state.data.extrapolation, " 2 or n: build the model")
            return Text(" Some X lie outside train's range: predicting there is extrapolation. n: build")
        return Text(f" {figures.whole(state.data.rows)} rows made. 2 or n: build the model")

    def action_make(self) -> None:
        """Make the data with the settings as they stand."""
        self.owner.send(MakeData())

    def action_defaults(self) -> None:
        """Go back to the default settings."""
        self.owner.send(MakeData(spec=DataSpec()))

    @on(Form.Applied)
    def _applied(self, event: Form.Applied) -> None:
        event.stop()
        try:
            spec = spec_of(event.values)
        except ValueError as error:
            self.owner.complain(str(error))
            event.form.restore()
            return
        self.owner.send(MakeData(spec=spec))

    @on(Form.Refused)
    def _refused(self, event: Form.Refused) -> None:
        event.stop()
        self.owner.complain(event.text)


def values(spec: DataSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    flat: dict[str, Any] = {name: getattr(spec, name) for name in ("weight", "bias", "start", "stop", "step", "noise")}
    return flat | {
        "seed": spec.seed,
        "split": spec.split.text(),
        "order": spec.split.order,
        "split_seed": spec.split.seed,
    }


def spec_of(form: dict[str, Value]) -> DataSpec:
    """The spec the form's values describe. Raises ValueError with what does not fit."""
    form = dict(form)
    split = SplitSpec.parse(str(form.pop("split")), order=form.pop("order"), seed=form.pop("split_seed"))  # type: ignore[arg-type]
    try:
        return msgspec.convert({**form, "split": msgspec.to_builtins(split)}, DataSpec)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).removesuffix(".").partition(" - at `")[0]) from error
