"""Step 2: build the model, and see what it predicts before it has learnt anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import wrap

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Static

from workflow_core.protocol import BuildModel, ModelView, Reference
from workflow_core.protocol import Command as EngineCommand
from workflow_core.sanitize import sanitize
from workflow_core.scripts import lines
from workflow_core.specs import LOSS_NAMES, ModelSpec
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.dialogs.files import PYTHON
from workflow_tui.dialogs.pick import PickOne
from workflow_tui.plots import data_layers, data_range, pair_layers
from workflow_tui.screens.base import StepScreen
from workflow_tui.settings import whole_path
from workflow_tui.settings.build import DRAWN, FIELDS, classes_in, spec_of, values
from workflow_tui.state import State
from workflow_tui.tables import fitted, parameters_text, waiting
from workflow_tui.widgets.chart import Chart, Lines
from workflow_tui.widgets.form import Form, Values
from workflow_tui.widgets.frame import LongReadout, Readout
from workflow_tui.widgets.side_panel import highlighted

MAX_SOURCE = 1_000_000
"""Characters of a Python file that are looked through for classes."""


class BuildScreen(StepScreen):
    """The model's class, its parameters, and its untrained prediction over the data."""

    step = "build"
    purpose = "Subclass nn.Module: training changes its parameters, forward predicts."
    commands = (
        Command("build", "space", "space", "build model", "Build a fresh model with these settings."),
        Command("choose_file", "f", "f", "your class…", "Choose a Python file with an nn.Module of your own."),
        Command(
            "defaults", "r", "r", "defaults", "Go back to the course's settings; asks first where yours would be lost."
        ),
    )

    def instruments(self) -> ComposeResult:
        """Class and settings above, parameters and the untrained line below."""
        with Horizontal(id="build-top"):
            with VerticalScroll(id="class", classes="panel"):
                yield Static("", id="source", markup=False)
            with Vertical(id="build-right"):
                yield Form(FIELDS, values(ModelSpec()), id="build-form", title="Model")
                yield LongReadout(id="parameters")
        yield Chart(id="untrained", classes="panel", hint="space builds the model and draws its untrained line here")
        yield Readout(id="reference", classes="-wrap")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#class").border_title = "The model"
        self.query_one("#parameters").border_title = "Parameters"
        self.query_one("#untrained", Chart).border_title = "Untrained prediction over the data"
        self._source: object = None

    def first_command(self, state: State) -> EngineCommand | None:
        """Build the model where there is none."""
        return BuildModel() if state.model is None else None

    def show(self, state: State) -> None:
        """Bring class, settings, parameters and line up to `state`."""
        self.query_one(Form).show(values(state.model_spec))
        old = self.overtaken(self.query_one(Form))
        self._show_source(state, old)
        self.query_one("#reference").display = state.model is not None and bool(state.model.reference.closed_form)
        if state.model is None:
            self.query_one("#parameters", LongReadout).show(
                Text("name, shape, dtype, device and value of each parameter")
            )
            return
        self._show_model(state, state.model, old)
        self._show_untrained(state, state.model)
        self.query_one(Chart).stale = old

    def _show_source(self, state: State, old: bool) -> None:
        model = state.model
        own = model.source if model is not None and model.spec == state.model_spec else ""
        shown = (own, state.spec, old, self.app.current_theme.dark)
        if shown != self._source:
            self._source = shown
            source = own.expandtabs(4) or lines("build", state.spec)
            clean = "\n".join(sanitize(line, 400) for line in source.rstrip().splitlines())
            self.query_one("#class").set_class(old, "-stale")
            self.query_one("#source").set_class(old, "-stale")
            self.query_one("#source", Static).update(Text(clean) if old else highlighted(clean, dark=shown[-1]))

    def _show_model(self, state: State, model: ModelView, old: bool) -> None:
        panel = self.query_one("#parameters", LongReadout)
        reference = model.reference
        known = "closed" if reference.targets_are == "closed form" else "true"
        standardised = state.data is not None and bool(state.data.scaling)
        units = ", std." if self.has_class("-narrow") else ", standardised"
        panel.border_title = "Parameters" + (units if standardised and reference.targets else "")
        for field in self.query("#field-values").results(Input):
            field.placeholder = f"{sanitize(model.parameters[0].name, 60)}=0" if model.parameters else ""
        panel.show(parameters_text(panel.inner, model.parameters, reference.targets, known), stale=old)
        tensors = (
            f" in {len(model.parameters)} tensors"
            if len(model.parameters) > 4 and not self.has_class("-narrow")
            else ""
        )
        panel.caption(f"{figures.whole(model.count)} parameters{tensors} · {figures.size(model.size)}")
        line = self.query_one("#reference", Readout)
        most = 1 if self.has_class("-low") else 2
        line.tell(reference_text(reference, line.size.width, most, own_units=standardised), most=most, stale=old)

    def _show_untrained(self, state: State, model: ModelView) -> None:
        chart = self.query_one(Chart)
        chart.border_subtitle = (
            ""
            if model.untrained_loss is None
            else f"untrained train {LOSS_NAMES[state.train_spec.loss]} {figures.figure(model.untrained_loss)}"
            + (", standardised" if state.data is not None and state.data.scaling else "")
        )
        data = state.data
        if data is None:
            chart.clear()
        elif model.pairs:
            chart.border_title = "Untrained prediction against y (training rows)"
            layers, span = pair_layers(model.pairs)
            chart.show(layers, x_range=span, x_label=sanitize(data.target, 30))
        else:
            chart.border_title = "Untrained prediction over the data"
            line = Lines("prediction", "model", list(model.line))
            chart.show([*data_layers(data), line], x_range=data_range(data), x_label=sanitize(data.features[0], 30))

    def status(self, state: State) -> Text:
        """What was built, and where to go next."""
        if not state.ready:
            return waiting(state)
        if self.query_one(Form).pending:
            return Text(" These settings are not in effect: mend them, space tries again, r takes the course's")
        if state.model is None:
            return Text(" space builds the model with these settings")
        return Text(f" {sanitize(state.model.class_name, 60)} built. 3 or n: train it")

    def command_of(self, values: Values) -> EngineCommand:
        """Build the model these settings describe."""
        return BuildModel(spec=spec_of(values))

    def changed(self, form: Form, name: str) -> None:
        """Apply; another kind of model has other parameters, and a class of one's own is chosen first."""
        if name == "kind" and form.values["kind"] == "custom" and not form.values["class_name"]:
            form.pending = True
            self.action_choose_file()
        elif name == "kind" and any(form.values[field] != start for field, start in NO_VALUES.items()):
            form.put(NO_VALUES)
        else:
            self.apply(form, name)

    def keeps(self, values: Values) -> bool:
        """A class that is refused may only need other arguments, or an edit of its file."""
        return values["kind"] == "custom"

    def action_build(self) -> None:
        """Build the model with the settings as they stand."""
        self.apply_again(self.query_one(Form), BuildModel())

    def action_defaults(self) -> None:
        """Go back to the default settings."""
        self.defaults(self.query_one(Form), values(ModelSpec()), BuildModel(spec=ModelSpec()))

    def action_choose_file(self) -> None:
        """Choose a class of one's own."""
        self.owner.start_work(self._choose_class, "dialogs", exclusive=True)

    async def _choose_class(self) -> None:
        form = self.query_one(Form)
        path = await self.owner.files.open("Open a Python file", PYTHON, whole_path(str(form.values["file"])))
        if path is None:
            if form.pending:
                self.owner.complain("Which model? f chooses its .py file, or type the path")
            return
        try:
            names = await asyncio.to_thread(_classes, path)
        except ValueError as error:
            self.owner.complain(f"{path.name}: {error}")
            return
        name = names[0] if len(names) == 1 else await self.app.push_screen_wait(PickOne("Which class?", names))
        if name is not None:
            form.put({"kind": "custom", "file": str(path), "class_name": name, **NO_VALUES})


NO_VALUES: Values = {"weight": DRAWN, "bias": DRAWN, "values": ""}
"""No parameter is given a value: another model has other ones."""


FULL = ("Largest stable learning rate", "Least squares on the training rows", ", in your units")
SHORT = ("Largest stable lr", "least squares", " in your units")
SHORTEST = ("Stable lr", "closed form", ", own units")
"""Words for the largest stable learning rate, least squares, and the units of these."""
MOST = 8
"""Coefficients of least squares that are shown at most."""


def _classes(path: Path) -> list[str]:
    """The classes of a file. Raises ValueError with half a sentence."""
    if not path.is_file():  # a pipe would keep who opens it waiting
        raise ValueError("it is no file")
    try:
        with path.open(encoding="utf-8") as file:
            names = classes_in(file.read(MAX_SOURCE))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"it cannot be read: {reason}") from error
    if not names:
        raise ValueError("there is no class in it that has a base such as nn.Module")
    return names


def reference_text(reference: Reference, width: int, lines: int, *, own_units: bool = False) -> str:
    """How large a step gradient descent takes without diverging, and what least squares gives on the training rows.

    In `lines` lines of `width` columns: shorter words first, then fewer coefficients, and how many are left out.
    `own_units` says that these are not the standardised ones which the model holds.
    """
    values = [f"{fitted(name, 20)} {figures.figure(value)}" for name, value in reference.closed_form.items()]
    text = ""
    for count in range(min(len(values), MOST), 0, -1):
        left = f" +{len(values) - count} more" if count < len(values) else ""
        for words in (FULL, SHORT, SHORTEST):
            text = _reference(words, reference.stable_lr, ", ".join(values[:count]) + left, own_units)
            if len(wrap(text, max(width, 20))) <= lines:
                return text
    return text


def _reference(words: tuple[str, str, str], stable_lr: float | None, values: str, own_units: bool) -> str:
    rate, squares, units = words
    text = f"{squares}{units if own_units else ''}: {values}"
    return text if stable_lr is None else f"{rate} {figures.figure(stable_lr)} · {text}"
