"""Step 4: measure the model on all three splits, and ask it for any x."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Grid, Vertical

from workflow_core.protocol import Evaluate, EvaluationView, Predictions
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import role_of
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import gaps_text, metrics_text, waiting
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.predictor import Predictor


class EvaluateScreen(StepScreen):
    """Metrics by split, predictions against truth, and a field for any x."""

    step = "evaluate"
    depends_on = ("train",)
    purpose = "Measure the model on rows it has not seen, with eval() and inference_mode()."
    commands = (
        Command("evaluate", "space", "space", "evaluate", "Measure the model as it is now on the three splits."),
        Command("settings", "i,enter", "enter", "predict x", "Go to the field for any x; escape comes back out."),
    )

    def __init__(self) -> None:
        super().__init__()
        self._answer: Predictions | None = None
        self._answered_for: object = None
        self._asked_of: object = None
        self._measured: object = None

    def instruments(self) -> ComposeResult:
        """Metrics on top, the chart and the predictor below."""
        yield Readout(id="metrics", classes="panel")
        with Grid(id="evaluate-grid"):
            yield Chart(id="truth", classes="panel", hint="every prediction against its true y")
            with Vertical(id="evaluate-right"):
                yield Readout(id="gaps", classes="panel")
                yield Predictor("trained", id="predictor")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#metrics").border_title = "Metrics"
        self.query_one("#truth").border_title = "y_pred against true y"
        self.query_one("#gaps").border_title = "Parameters"

    def on_screen_resume(self) -> None:
        """Measure at once where a trained model is waiting for it; each model once, whatever came of it."""
        state = self.owner.state
        fresh = state.steps.train != "stale" and not state.running
        if state.ready and state.trained and fresh and state.steps.evaluate == "open":
            model, self._measured = self._measured, _model(state)
            if model != self._measured:
                self.owner.send(Evaluate())

    def show(self, state: State) -> None:
        """Bring metrics, chart and predictor up to `state`."""
        metrics = self.query_one("#metrics", Readout)
        if state.evaluation is None:
            metrics.show(Text("MSE, MAE, RMSE and R² of training, validation and test rows"))
            self.query_one(Chart).clear()
        else:
            metrics.show(metrics_text(self, state.evaluation.metrics))
            metrics.caption(f"run {state.evaluation.run} after {figures.whole(state.evaluation.epoch)} epochs")
            self._show_truth(state.evaluation)
        stale = state.steps.evaluate == "stale"
        metrics.border_title = "Metrics (stale)" if stale else "Metrics"
        metrics.set_class(stale, "-stale")
        self.query_one(Chart).stale = stale
        parameters = state.training.parameters if state.training else {}
        self.query_one("#gaps", Readout).show(
            gaps_text(self, parameters, state.truth) if parameters else Text("each parameter, its true value, the gap")
        )
        if _model(state) != self._answered_for:
            self._answer = None
        self.query_one(Predictor).show(self._answer)

    def _show_truth(self, evaluation: EvaluationView) -> None:
        drawn: list[Layer] = []
        values: list[float] = []
        for name, predictions in evaluation.predictions.items():
            points = [(row.y, row.y_pred) for row in predictions]
            values += [row.y for row in predictions]
            if points:
                drawn.append(layers.Scatter(role_of(name), name, points))
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        perfect = layers.Lines("target", "y_pred = y", [(low, low), (high, high)])
        self.query_one(Chart).show([perfect, *drawn], x_range=(low, high), x_label="true y")

    def status(self, state: State) -> Text:
        """What the figures are of, and where to go next."""
        if not state.ready:
            return waiting(state)
        if not state.trained:
            return Text(" Nothing is trained yet: step 3 does that. space goes there and trains with its settings")
        if state.steps.train == "stale":
            return Text(" The training is stale: space goes to Train and runs it anew")
        if state.steps.evaluate == "done":
            more = " (train MSE here is after the last step, on Train before it)" if self.size.width >= 120 else ""
            return Text(f" enter predicts any x. 5 or n: save the model{more}")
        return Text(" space measures the model as it is now")

    async def action_evaluate(self) -> None:
        """Measure the model; without one, go and train it."""
        if self.owner.state.trained and self.owner.state.steps.train != "stale":
            self.owner.send(Evaluate())
        else:
            await self.owner.train_first()

    @on(Predictor.Asked)
    def _asked(self, event: Predictor.Asked) -> None:
        event.stop()
        training = self.owner.state.training
        if training is None or not training.epoch:
            self.owner.complain("Nothing is trained yet: press escape, then space to train first")
            return
        self._asked_of = (training.run, training.epoch)
        self.owner.predict(event.x, "trained", self._show_answer)

    def _show_answer(self, answer: Predictions) -> None:
        self._answer, self._answered_for = answer, self._asked_of
        self.refresh_state()

    @on(Predictor.Refused)
    def _refused(self, event: Predictor.Refused) -> None:
        event.stop()
        self.owner.complain(event.text)


def _model(state: State) -> tuple[int, int] | None:
    """Which model it is that is trained: the run and its epochs; None without one."""
    return (state.training.run, state.training.epoch) if state.training else None
