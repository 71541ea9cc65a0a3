"""Step 1: make the data, or read a table, and deal it into splits."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical

from workflow_core.protocol import Command as EngineCommand
from workflow_core.protocol import DataView, InspectTable, MakeData, TableAnswer
from workflow_core.sanitize import sanitize
from workflow_core.specs import DataSpec
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import data_layers, data_range
from workflow_tui.screens.base import StepScreen
from workflow_tui.settings import whole_path
from workflow_tui.settings.data import FIELDS, spec_of, values
from workflow_tui.state import State
from workflow_tui.tables import fitted_start, rows_text, scaling_text, splits_text, waiting
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.form import Form, Values
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import StepCode


class DataScreen(StepScreen):
    """Settings of the data, its scatter, the splits and the first rows."""

    step = "data"
    purpose = "Make points of a line you know, or bring your own table."
    commands = (
        Command("make", "space", "space", "make data", "Make the data with these settings."),
        Command("choose_file", "f", "f", "table…", "Choose a table of your own: CSV, TSV or Parquet."),
        Command(
            "columns", "v", "v", "columns", "Choose which columns of the table are features, and which the target."
        ),
        Command(
            "defaults", "r", "r", "defaults", "Go back to the course's settings; asks first where yours would be lost."
        ),
    )

    def instruments(self) -> ComposeResult:
        """Settings and rows on the left, scatter and splits on the right."""
        with Vertical(id="data-left"):
            yield Form(FIELDS, values(DataSpec()), id="data-form", title="Settings")
            yield Readout(id="rows", classes="panel")
            yield StepCode("data", brief=True)
        with Vertical(id="data-right"):
            yield Chart(id="scatter", classes="panel", hint="space makes the data and draws it here")
            yield Readout(id="splits", classes="panel")
            yield Readout(id="scaling", classes="panel")
            yield Readout(id="notes", classes="panel -wrap")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#rows").border_title = "First rows"
        self.query_one("#splits").border_title = "Splits"
        self.query_one("#scatter", Chart).border_title = "y against x"
        self.query_one("#scaling").border_title = "Standardised by train's"
        self.query_one("#notes").border_title = "Notes"

    def first_command(self, state: State) -> EngineCommand | None:
        """Make the data where there are none."""
        return MakeData() if state.data is None else None

    def show(self, state: State) -> None:
        """Bring settings, scatter and tables up to `state`."""
        self.query_one(StepCode).show(state.spec)
        self.query_one(Form).show(values(state.data_spec))
        data, old = state.data, self.overtaken(self.query_one(Form))
        self.query_one("#scaling").display = data is not None and bool(data.scaling)
        self.query_one("#notes").display = data is not None and bool(data.notes)
        if data is not None:
            self._show_scatter(data)
            self._show_tables(data, old)
            self.query_one(Chart).stale = old
        else:
            self.query_one("#rows", Readout).show(Text("the first rows of X and y"))
            self.query_one("#splits", Readout).show(Text("how many rows went to training, validation and test"))

    def _show_tables(self, data: DataView, old: bool) -> None:
        rows, splits = self.query_one("#rows", Readout), self.query_one("#splits", Readout)
        text, left = rows_text(rows, data)
        rows.show(text, stale=old)
        rows.caption(f"+{left} more features" if left else "")
        splits.show(splits_text(splits, data), stale=old)
        splits.caption(
            f"X {figures.shape(data.X.shape)} · y {figures.shape(data.y.shape)} · {data.X.dtype} · {data.X.device}"
        )
        scaling, notes = self.query_one("#scaling", Readout), self.query_one("#notes", Readout)
        if data.scaling:
            room = 3 if self.has_class("-low") else 12
            scaling.styles.height = min(len(data.scaling) + 1, room) + 2
            left = len(data.scaling) + 1 - room
            scaling.show(scaling_text(scaling, data), stale=old)
            scaling.caption(f"+{left} more columns" if left > 0 else "")
        if data.notes:
            notes.show(Text("\n".join(sanitize(note, 400) for note in data.notes)), stale=old)

    def _show_scatter(self, data: DataView) -> None:
        chart = self.query_one(Chart)
        first, several = fitted_start(data.features[0], 24), len(data.features) > 1
        chart.border_title = f"{fitted_start(data.target, 24)} against {first}" + (
            f", 1 of {len(data.features)} features" if several else ""
        )
        rows = f"{figures.whole(data.rows)} row{'s' * (data.rows != 1)}"
        formula = sanitize(data.formula, 200)
        roomy = len(formula) + len(rows) + 8 < chart.size.width
        chart.border_subtitle = f"{formula} · {rows}" if formula and roomy else rows
        chart.show(data_layers(data), x_range=data_range(data), x_label=first)

    def status(self, state: State) -> Text:
        """What was made, and where to go next."""
        if not state.ready:
            return waiting(state)
        if self.query_one(Form).pending:
            return Text(" These settings are not in effect: mend them, space tries again, r takes the course's")
        if state.data is None:
            return Text(" space makes the data with these settings")
        if state.data.extrapolation:
            if self.size.width >= 150:
                return Text.assemble(" ", sanitize(state.data.extrapolation, 400), " 2 or n: build the model")
            return Text(" Some rows lie outside train's range: extrapolation. 2 or n: build the model")
        return Text(f" {figures.whole(state.data.rows)} rows made. 2 or n: build the model")

    def command_of(self, values: Values) -> EngineCommand:
        """Make the data these settings describe."""
        return MakeData(spec=spec_of(values))

    def changed(self, form: Form, name: str) -> None:
        """Apply; another file has other columns, and a table without one is chosen first."""
        if name == "file" and (form.values["features"] or form.values["target"]):
            form.put({"features": (), "target": ""})
        elif name == "kind" and form.values["kind"] == "table" and not form.values["file"]:
            form.pending = True
            self.action_choose_file()
        else:
            self.apply(form, name)

    def keeps(self, values: Values) -> bool:
        """A table that is refused may only need other columns, or a word on missing values."""
        return values["kind"] == "table"

    def action_make(self) -> None:
        """Make the data with the settings as they stand."""
        self.apply_again(self.query_one(Form), MakeData())

    def action_defaults(self) -> None:
        """Go back to the default settings."""
        self.defaults(self.query_one(Form), values(DataSpec()), MakeData(spec=DataSpec()))

    def action_choose_file(self) -> None:
        """Choose a table of one's own."""
        self.owner.start_work(self._choose_file, "dialogs", exclusive=True)

    async def _choose_file(self) -> None:
        from workflow_tui.dialogs.files import TABLES

        form = self.query_one(Form)
        path = await self.owner.files.open("Open a table", TABLES, whole_path(str(form.values["file"])))
        if path is not None:
            form.put({"kind": "table", "file": str(path), "features": (), "target": ""})
        elif form.pending:
            self.owner.complain("Which table? f chooses its file, or type the path")

    def action_columns(self) -> None:
        """Choose features and target by name."""
        form = self.query_one(Form)
        if form.values["kind"] == "table" and form.values["file"]:
            self.owner.start_work(self._choose_columns, "dialogs", exclusive=True)
        else:
            self.owner.complain("Columns are chosen from a table of your own: f opens one")

    async def _choose_columns(self) -> None:
        from workflow_tui.dialogs.pick import PickColumns

        form = self.query_one(Form)
        table = form.values
        answer, _ = await self.owner.link.ask(
            InspectTable(path=whole_path(str(table["file"])), header=bool(table["header"]))
        )
        if not isinstance(answer, TableAnswer):
            return
        features, target = table["features"], str(table["target"])
        assert isinstance(features, tuple)
        dialog = PickColumns(answer.columns, answer.rows, [str(name) for name in features], target)
        picked = await self.app.push_screen_wait(dialog)
        if picked is not None:
            form.put({"features": picked[0], "target": picked[1]})
