"""Step 4: measure the model on all three splits, and ask it for any x."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Grid, Vertical

from workflow_core.protocol import Evaluate, EvaluationView
from workflow_core.sanitize import sanitize
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.plots import SHORT, role_of
from workflow_tui.run_text import PLAIN_ENDS
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import by_name, coefficients_text, gaps_text, metrics_text, waiting
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.predictor import Predictor

MOST = 6
"""Lines of parameters or coefficients beside the predictor."""


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
        self._measured: object = None

    def instruments(self) -> ComposeResult:
        """Metrics on top, the chart and the predictor below."""
        yield Readout(id="metrics", classes="panel")
        yield Readout(id="convergence", classes="-wrap")
        with Grid(id="evaluate-grid"):
            yield Chart(id="truth", classes="panel", hint="every prediction against its true y")
            with Vertical(id="evaluate-right"):
                yield Readout(id="gaps", classes="panel")
                yield Predictor(
                    "trained", "Nothing is trained yet: press escape, then space to train first", id="predictor"
                )

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#metrics").border_title = "Metrics"
        self.query_one("#truth").border_title = "y_pred against true y"
        self.query_one("#gaps").border_title = "Parameters"

    def on_screen_resume(self, event: events.ScreenResume) -> None:
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
        old_run = state.steps.train == "stale"
        stale = old_run or state.steps.evaluate == "stale"
        if state.evaluation is None:
            metrics.show(Text("MSE, MAE, RMSE and R² of training, validation and test rows"))
            self.query_one(Chart).clear()
        else:
            metrics.show(metrics_text(self, state.evaluation.metrics), stale=stale)
            metrics.caption(f"run {state.evaluation.run} after {figures.epochs(state.evaluation.epoch)}")
            self._show_truth(state.evaluation)
        units = ", in your own units" if state.standardized else ""
        metrics.border_title = "Metrics (stale)" if stale and state.evaluation is not None else f"Metrics{units}"
        self.query_one(Chart).stale = stale
        self._show_gaps(state)
        data = state.data
        features, target = (data.features, data.target) if data is not None else (("x",), "y")
        self.query_one(Predictor).show(_model(state) if state.trained else None, features, target, stale=old_run)

    def _show_gaps(self, state: State) -> None:
        """A linear model's coefficients in the user's own units; the tracked values of any other."""
        gaps, convergence = self.query_one("#gaps", Readout), self.query_one("#convergence", Readout)
        evaluation, training = state.evaluation, state.training
        measured = evaluation is not None and state.steps.evaluate == "done"
        sentence = evaluation.convergence if evaluation is not None and measured else ""
        convergence.set_class(not sentence, "-hidden")
        convergence.tell(sanitize(sentence, 400), most=4)
        if evaluation is not None and measured and evaluation.coefficients:
            gaps.border_title = "Coefficients"
            learnt, true, closed = (
                by_name(state, values)
                for values in (evaluation.coefficients, state.truth, evaluation.reference.closed_form)
            )
            gaps.styles.height = min(len(learnt), MOST) + 3
            gaps.show(coefficients_text(gaps, learnt, true, closed, _rows(gaps)), stale=state.steps.train == "stale")
            return
        gaps.border_title = "Parameters" + (", standardised" if state.standardized else "")
        if training is None or not training.parameters:
            gaps.show(Text("each parameter, its true value, the gap"))
            return
        gaps.styles.height = min(len(training.parameters), MOST) + 3
        known = "closed" if state.reference.targets_are == "closed form" else "true"
        now = gaps_text(gaps, training.parameters, state.reference.targets, known, _rows(gaps))
        gaps.show(now, stale=state.steps.train == "stale")

    def _show_truth(self, evaluation: EvaluationView) -> None:
        drawn: list[Layer] = []
        values: list[float] = []
        for name, predictions in evaluation.predictions.items():
            points = [(row.y, row.y_pred) for row in predictions]
            values += [row.y for row in predictions]
            if points:
                drawn.append(layers.Scatter(role_of(name), SHORT[name], points))
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
            more = self._compared(state) if self.size.width >= 120 else ""
            return Text(f" enter predicts any x. 5 or n: save the model{more}")
        return Text(" space measures the model as it is now")

    def _compared(self, state: State) -> str:
        """Why the training loss of Train is another figure than the one here."""
        training = state.training
        if state.standardized:
            return " (all of this is in your own units; the losses on Train are standardised)"
        plain = training is not None and training.spec.loss == "mse" and not training.spec.batch_size
        if plain and training is not None and training.reason in PLAIN_ENDS:
            return " (train MSE here is after the last step, on Train before it)"
        return ""

    async def action_evaluate(self) -> None:
        """Measure the model; without one, go and train it."""
        if self.owner.state.trained and self.owner.state.steps.train != "stale":
            self.owner.send(Evaluate())
        else:
            await self.owner.train_first()


def _rows(gaps: Readout) -> int:
    """Lines of figures that the panel holds, as far as it has been laid out."""
    return min(MOST, gaps.size.height - 1) if gaps.size.height > 1 else MOST


def _model(state: State) -> tuple[int, int] | None:
    """Which model it is that is trained: the run and its epochs; None without one."""
    return (state.training.run, state.training.epoch) if state.training else None
