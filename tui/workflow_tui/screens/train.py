"""Step 3: train the model and watch it learn, line by line, epoch by epoch, or run beside run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msgspec import structs
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from workflow_core.protocol import Command as EngineCommand
from workflow_core.protocol import ReadSeries, ReadSpeed, SeriesAnswer, SetTraining, SpeedAnswer, SurfaceAnswer
from workflow_core.specs import LINES, TrainSpec
from workflow_tui import figures, run_text, runs_text
from workflow_tui.commands import Command
from workflow_tui.dialogs.axes import AxesDialog
from workflow_tui.earlier import difference
from workflow_tui.instruments import curves, fit, loop, parameters, race, surface
from workflow_tui.instruments.control import CONTROL, ControlScreen
from workflow_tui.instruments.looking import KEYS, LOOKING, ZOOMED
from workflow_tui.instruments.lookups import Lookup
from workflow_tui.instruments.scene import Earlier, Scene
from workflow_tui.plots import COLUMNS
from workflow_tui.run_text import pace_text
from workflow_tui.settings.train import FIELDS, spec_of, values
from workflow_tui.state import State
from workflow_tui.tables import Ink, waiting
from workflow_tui.widgets.cell_text import CellText
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_legend import GUTTER
from workflow_tui.widgets.form import Form, Values
from workflow_tui.widgets.frame import KeyBar, Readout

SLOTS = ("#loss", "#parameters", "#fit", "#train-run")
"""The four panels: left and right above, left and right below."""
VIEWS: tuple[tuple[str, ...], ...] = (
    ("loss", "learning rate", "gradient norm", "speed"),
    ("parameters", "gradients"),
    ("fit", "surface"),
    ("loop", "settings"),
)
"""What each panel can show, in the order in which `f` goes through them."""
CURVES: dict[str, Callable[[Chart, Scene], None]] = {
    "loss": curves.show_loss,
    "learning rate": curves.show_learning_rate,
    "gradient norm": curves.show_grad_norm,
    "speed": curves.show_speed,
}
LOOP_KEYS = "s next line · e experiment · enter settings"
BOTH = 24
"""Lines of the last panel from which on the loop and the settings both have room."""


RUNS = (
    Command("runs", "u", "u", "runs", "Every run that is kept: sort, pin, rename, compare, restore, export, delete."),
    Command("race", "R", "R", "race", "Train by several learning rates or optimizers at once.", bar=False),
)
PANELS = (
    Command("view(1)", "f", "f", "view", "Show something else in the panel that is marked."),
    Command("view(-1)", "F", "F", "view back", "Show what this panel showed before.", bar=False),
    Command("panel(1)", "tab", "tab", "panel", "Mark the next panel: f, F and z are about it.", bar=False),
    Command("panel(-1)", "shift+tab", "shift+tab", "panel back", "Mark the panel before.", bar=False),
    Command("full", "z", "z", "full screen", "Give the marked panel all the room, or give it back.", bar=False),
    Command("values", "v", "v", "values", "Show the parameters as figures, or as curves.", bar=False),
    Command("log", "y", "y", "log y", "Show the loss on a logarithmic axis, or a plain one.", bar=False),
    Command("axes", "A", "A", "axes", "Choose the two parameters of the loss surface.", bar=False),
)


def when(scene: Scene) -> str:
    """Which epoch a table is about; until that one is known it shows what is."""
    return "now" if scene.past is None else f"after epoch {figures.whole(scene.past.epoch)}"


class TrainScreen(ControlScreen):
    """Loss, parameters against their targets, the fit, the loop and the settings of the run."""

    step = "train"
    purpose = "Forward, loss, zero_grad, backward, step: each epoch moves the line closer."
    lesson_at_start = False
    commands = (*CONTROL, *RUNS, *PANELS, *LOOKING)

    def __init__(self) -> None:
        super().__init__()
        self.add_class("-shared", update=False)
        self.log_loss = True  # a plain axis shows the first epochs and nothing of the rest
        self.show_values: bool | None = None
        self.views = [0, 0, 0, 0]
        self.marked = 0
        self.full_screen = False
        self.axes: surface.Axes | None = None
        self._surface = Lookup(self, "the surface")
        self._speed = Lookup(self, "the speed", fresh=1.0)
        self._series: dict[int, Lookup] = {}
        self._charts: list[Chart] = []

    def instruments(self) -> ComposeResult:
        """Loss and fit on the left, parameters, loop and settings on the right."""
        with Horizontal(id="train-columns"):
            with Vertical(id="train-left"):
                yield Chart(id="loss", classes="panel -marked")
                yield Chart(id="fit", classes="panel")
            with Vertical(id="train-right"):
                yield Chart(id="parameters", classes="panel")
                yield CellText(id="values", classes="panel")
                with Vertical(id="train-run", classes="panel"):
                    yield Readout(id="run")
                    yield CellText(id="loop")
                    yield Readout(id="next")
                    yield Form(FIELDS, values(TrainSpec()), id="train-form", title="")

    def on_mount(self) -> None:
        """Remember the charts; the first panel is the marked one."""
        self._charts = list(self.query(Chart))

    @classmethod
    def sections(cls) -> tuple[tuple[str, tuple[Command, ...]], ...]:
        """Training, panels, and looking at an epoch."""
        return ("Training", CONTROL), ("Runs", RUNS), ("Panels", PANELS), ("Looking at an epoch", LOOKING)

    def columns(self) -> int:
        """Columns of data in the chart of the loss, or in the one that has all the room."""
        charts = [chart for chart in self._charts if chart.display and chart.plot_columns]
        return max((chart.plot_columns for chart in charts), default=1)

    # --- showing --------------------------------------------------------------------------------

    def show(self, state: State) -> None:
        """Bring the panels up to `state`."""
        self.query_one(Form).show(values(state.train_spec))
        if self.has_class("-race") != (state.race is not None):
            self.set_class(state.race is not None, "-race")
            self._mark()
            self.call_after_refresh(self.refresh_state)  # what has another size now is drawn for it
        looking = KEYS if self.look.epoch is not None else ZOOMED if not self.look.now else ()
        self.query_one(KeyBar).instead = race.keys(state.race) if state.race is not None else looking
        scene = self._scene(state)
        old = state.steps.train == "stale"
        if state.race is not None:
            self._show_race(scene)
        else:
            CURVES[self._view(0)](self.query_one("#loss", Chart), scene)
            self._show_parameters(scene, old)
            self._show_third(scene)
            self._show_loop(scene, old)
        for chart in self._charts:
            chart.stale = old and state.race is None

    def _view(self, slot: int) -> str:
        return VIEWS[slot][self.views[slot]]

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state,
            self.look,
            past=self.past(state),
            earlier=self._kept(state),
            lanes=self._lanes(state),
            speed=self._asked_speed(state),
            log_loss=self.log_loss,
            narrow=self.has_class("-narrow"),
            low=self.has_class("-low"),
        )
        scene = replace(scene, look=self.look)  # an epoch that cannot be had is no longer looked at
        detail = self.detail(scene)
        scene = replace(scene, detail=detail.series if detail is not None else None)
        return replace(scene, surface=self._asked_surface(scene))

    def _asked_speed(self, state: State) -> SpeedAnswer | str | None:
        if self._view(0) != "speed" or state.training is None or state.race is not None:
            return None
        run = state.training.run
        self._speed.want(run, ReadSpeed(), moves=(state.training.epoch, state.training.state))
        answer: SpeedAnswer | str | None = self._speed.latest(run, SpeedAnswer)
        return answer

    def _asked_surface(self, scene: Scene) -> SurfaceAnswer | str | None:
        axes = surface.chosen_axes(scene.state, self.axes)
        if self._view(2) != "surface" or axes is None or scene.state.model is None or scene.state.race is not None:
            return None
        chart = self.query_one("#fit", Chart)
        columns, rows = chart.size.width - GUTTER - 1, chart.size.height - 3
        if columns < 2 or rows < 2:
            return None
        subject, moves, command = surface.question(scene, axes, columns, rows)
        self._surface.want(subject, command, moves=moves)
        # of a map that changes with every epoch the last one that is known stands until the next
        answer: SurfaceAnswer | str | None = self._surface.latest(subject, SurfaceAnswer)
        return answer

    def _kept(self, state: State) -> tuple[Earlier, ...]:
        """The earlier runs that lie below this one, with the losses that are known of them."""
        if state.training is None or self._view(0) != "loss" or state.race is not None:
            return ()
        earlier = self.owner.earlier
        return tuple(
            Earlier(
                run.run,
                f"{runs_text.title(run, 16)} train{difference(run, state)}",
                {"train_loss": earlier.columns(run)},
            )
            for run in earlier.under(state)
        )

    def _lanes(self, state: State) -> tuple[Earlier, ...]:
        """The lanes of the race, read again and again while it runs."""
        if state.race is None or not state.race.epoch:
            return ()
        start, stop = self.look.shown(state.race.epochs, state.race.epoch)
        found = []
        for lane in state.race.lanes:
            lookup = self._series.setdefault(lane.run, Lookup(self, f"run {lane.run}", fresh=0.2))
            question = ReadSeries(run=lane.run, start=start, stop=stop, columns=COLUMNS, names=race.LOSSES)
            lookup.want((start, stop), question, moves=(lane.epoch, lane.state))
            # of another window until this one is known: the axis says which epochs are which
            if isinstance(lookup.newest, SeriesAnswer):
                found.append(Earlier(lane.run, lane.label, lookup.newest.series))
        return tuple(found)

    def forget(self) -> None:
        """Forget what was asked of another run."""
        super().forget()
        for lookup in (self._surface, self._speed, *self._series.values()):
            lookup.forget()
        self._series.clear()

    def _show_race(self, scene: Scene) -> None:
        state = scene.state
        assert state.race is not None
        race.show_race(self.query_one("#loss", Chart), scene)
        panel = self.query_one("#values", CellText)
        panel.border_title = "Lanes, best first"
        panel.border_subtitle = race.unit(state.race)
        panel.remove_class("-hidden")
        panel.styles.height = "1fr"
        panel.show(race.lanes_text(panel, state.race))

    def _show_parameters(self, scene: Scene, old: bool) -> None:
        """The curves, the table of values beside or in place of them, or the gradients."""
        panel, chart = self.query_one("#values", CellText), self.query_one("#parameters", Chart)
        state, training, low = scene.state, scene.training, scene.low
        gradients = self._view(1) == "gradients"
        wanted = run_text.wants_values(state) and not low if self.show_values is None else self.show_values
        table = gradients or wanted
        alone = gradients or (wanted and low)
        panel.set_class(not table, "-hidden")
        chart.set_class(alone, "-hidden")
        self.set_class(table and not alone, "-values")
        if not alone:
            parameters.show_parameters(chart, scene)
        if not table:
            return
        panel.border_subtitle = ""
        asked = " now" if self.look.epoch is not None else ""
        panel.border_title = f"Gradients{asked}, at the last step" if gradients else f"Parameters {when(scene)}"
        height = 0 if training is None else run_text.values_height(state, training)
        panel.styles.height = "1fr" if alone else height + 2
        text = parameters.gradients_text(panel, training) if gradients else self._values(panel, scene, low)
        panel.show(text, stale=old)

    def _values(self, panel: Widget, scene: Scene, low: bool) -> Text:
        state, training, past = scene.state, scene.training, scene.past
        if training is not None and past is not None:
            training = structs.replace(
                training, parameters=past.parameters, coefficients=past.coefficients, train_loss=past.train_loss
            )
        if training is None:
            return Text("each parameter, where it should arrive, the gap")
        rows = max(panel.size.height - (3 if state.standardized else 1), 1) if low else run_text.MOST
        when = "now" if past is None else "then"
        return run_text.values_text(panel, state, training, rows, own_only=low, when=when)

    def _show_third(self, scene: Scene) -> None:
        chart = self.query_one("#fit", Chart)
        if self._view(2) == "surface":
            surface.show_surface(chart, scene, surface.chosen_axes(scene.state, self.axes))
        else:
            fit.show_fit(chart, scene)

    def _show_loop(self, scene: Scene, old: bool) -> None:
        panel, lines = self.query_one("#train-run"), self.query_one("#loop", CellText)
        run, form = self.query_one("#run", Readout), self.query_one(Form)
        both = panel.size.height >= BOTH
        inside = self.focused is not None and form in self.focused.ancestors
        settings = self._view(3) == "settings" or inside or self.has_class("-editing")
        form.display = settings or both  # at once: who goes into a field right after needs it there
        lines.set_class(settings and not both, "-hidden")
        panel.border_title = "Run and settings" if settings and not both else loop.loop_title(scene)
        lines.styles.height = 13 if both else "1fr"
        # the lines of the loop come first: they are what an experiment is about
        room = 3 if settings or both else min(panel.size.height - len(LINES), 3)
        run.set_class(room < 1 or (scene.low and not settings and scene.state.loop is not None), "-hidden")
        run.styles.height = max(room, 1)
        above = self.query_one("#next", Readout)
        above.set_class(not (settings or both), "-hidden")
        above.show(Text(run_text.settings_title(scene.state), Ink(self)("muted")))
        if not (settings and not both):
            lines.show(loop.loop_text(lines, scene), stale=old)
            panel.border_subtitle = "s next line · enter settings" if scene.narrow else LOOP_KEYS
            if both and "more" in (below := form.sign.partition(" · ")[0]):
                panel.border_subtitle = f"{LOOP_KEYS} · {below}"
        else:
            panel.border_subtitle = form.sign
        state, training = scene.state, scene.training
        if training is not None and self.look.epoch is not None:  # that of the epoch in the title
            norm = None if scene.past is None else scene.past.grad_norm
            state = replace(state, training=structs.replace(training, grad_norm=norm))
        run.show(run_text.run_text(run, state, settings=settings or both), stale=old)

    def remark(self, state: State) -> str:
        """Why the run ended and what to try, what looks wrong, or that this is an experiment."""
        training = state.training
        if state.race is not None:
            return next((text for lane in state.race.lanes if (text := loop.experiment_text(lane.spec))), "")
        if training is None:
            return loop.experiment_text(state.train_spec)
        return (
            run_text.ended_text(training)
            or run_text.findings_text(training)
            or loop.experiment_text(training.spec if state.running else state.train_spec)
        )

    def status(self, state: State) -> Text:
        """Epoch, progress, losses and speed; or where one looks."""
        training = state.training
        if state.lost and (state.race is not None or training is not None):
            done = (state.race.epoch, state.race.epochs) if state.race is not None else (0, 0)
            if state.race is None and training is not None:
                done = training.epoch, training.spec.epochs
            return Text(f" {done[0]:,} of {figures.epochs(done[1])} done when last heard. a starts the engine again")
        if not state.ready:
            return waiting(state)
        if state.race is not None:
            return race.race_status(self, state.race)
        if training is None:
            return Text(f" space runs {figures.epochs(state.train_spec.epochs)}, {pace_text(self.owner.pace)}")
        if self.look.epoch is not None:
            return run_text.looking_text(self, state, training, self.look.epoch)
        return run_text.status_text(self, state, training, self.owner.pace, narrow=self.has_class("-narrow"))

    # --- settings -------------------------------------------------------------------------------

    def command_of(self, values: Values) -> EngineCommand:
        """Keep these settings for the next run; an experiment with the loop stays what it is."""
        now = self.owner.state.train_spec
        return SetTraining(spec=spec_of({**values, "loop": now.loop, "optimizer_over": now.optimizer_over}))

    def action_settings(self) -> None:
        """Go into the settings; of a race that is over, take a lane on."""
        state = self.owner.state
        if state.race is not None:
            if state.racing:
                self.owner.complain("A race is under way: space pauses it, S ends it")
            else:
                self.owner.runs.adopt()
            return
        self.query_one(Form).display = True
        if self.full_screen and self.marked != 3:
            self.marked = 3
            self._mark()
        super().action_settings()

    def action_runs(self) -> None:
        """The table of runs."""
        self.owner.runs.open()

    def action_race(self) -> None:
        """Set up a race."""
        self.owner.runs.race()

    # --- panels ---------------------------------------------------------------------------------

    def _mark(self) -> None:
        marked = {name: slot == self.marked for slot, name in enumerate(SLOTS)} | {"#values": self.marked == 1}
        for name, on in marked.items():
            panel = self.query_one(name)
            if panel.has_class("-marked") != on:
                # its border alone: what is in it, all the settings for one, has the same styles
                panel.set_class(on, "-marked", update=False)
                self.app.stylesheet.update_nodes([panel])
        for slot in range(len(SLOTS)):
            alone = self.full_screen and slot == self.marked and not self.has_class("-race")
            self.set_class(alone, f"-full-{slot}")
        self.set_class(not self.full_screen, "-shared")

    def _changed(self) -> None:
        self._mark()
        self.refresh_state()
        self.call_after_refresh(self.refresh_state)  # what has another size now is drawn for it

    def action_panel(self, by: int) -> None:
        """Mark the next panel; in a form, go to the next field."""
        if self.focused is not None:
            (self.focus_next if by > 0 else self.focus_previous)()
            return
        if self.refuses_race():
            return
        self.marked = (self.marked + by) % len(SLOTS)
        self._changed()

    def action_view(self, by: int) -> None:
        """Show something else in the marked panel."""
        if self.refuses_race():
            return
        slot = self.marked
        if slot == 3 and self.query_one("#train-run").size.height >= BOTH:
            self.owner.complain("The loop and the settings are both there: enter goes to the settings")
            return
        self.views[slot] = (self.views[slot] + by) % len(VIEWS[slot])
        self._changed()
        self.owner.complain(f"{VIEWS[slot][self.views[slot]].capitalize()}: f goes on, tab marks another panel")

    def action_full(self) -> None:
        """All the room for the marked panel."""
        if self.refuses_race():
            return
        self.full_screen = not self.full_screen
        self._changed()

    def action_values(self) -> None:
        """Figures or curves; the figures where there were gradients."""
        if self.refuses_race():
            return
        self.show_values = self.views[1] != 0 or self.query_one("#values").has_class("-hidden")
        self.views[1] = 0
        self._changed()

    def action_log(self) -> None:
        """Switch the loss axis."""
        self.log_loss = not self.log_loss
        self.refresh_state()

    def action_axes(self) -> None:
        """Choose what the surface is over."""
        if self.refuses_race():
            return
        if self.owner.state.model is None:
            self.owner.complain("There is no model yet: space makes one and trains it")
        else:
            self.owner.start_work(self._choose_axes, "dialogs", exclusive=True)

    async def _choose_axes(self) -> None:
        model = self.owner.state.model
        if model is None:
            return
        now = surface.chosen_axes(self.owner.state, self.axes)
        chosen = await self.app.push_screen_wait(AxesDialog(model.parameters, now))
        if chosen is not None:
            self.axes = chosen
            self.views[2] = VIEWS[2].index("surface")
            self.marked = 2
            self._changed()

    def key_escape(self) -> None:
        """Out of what has all the room, where nothing else is to be left."""
        if self.focused is None and self.look.now and self.full_screen and not self.side_panel.content:
            self.action_full()
        else:
            super().key_escape()
