"""Two charts as in a training, for measuring what they write: n adds four epochs of a thousand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal as Row

from workflow_tui.terminal.session import GuardedApp, run_app
from workflow_tui.theme import role_variables
from workflow_tui.widgets.chart import Chart, Horizontal, Lines


class ChartApp(GuardedApp[None]):
    """Grows by key."""

    CSS = "Row { height: 20; } Chart { border: round gray; }"
    BINDINGS = [Binding("n", "grow"), Binding("q", "quit")]  # noqa: RUF012
    epochs = 200

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return role_variables(dark=True)

    def compose(self) -> ComposeResult:
        with Row():
            yield Chart(title="Loss", id="loss")
            yield Chart(title="Parameters", id="parameters")

    def on_mount(self) -> None:
        self.action_grow()

    def action_grow(self) -> None:
        self.epochs += 4
        epochs = range(self.epochs)
        train = [(e, 0.09 * math.exp(-e / 200) + 0.001) for e in epochs]
        validation = [(e, 0.3 * math.exp(-e / 250) + 0.004) for e in epochs]
        loss, parameters = self.query_one("#loss", Chart), self.query_one("#parameters", Chart)
        layers = [Lines("train", "train", train), Lines("validation", "validation", validation)]
        loss.show(layers, x_range=(0, 1000), log_y=True, x_label="epoch")
        loss.border_subtitle = f"epoch {self.epochs} train {train[-1][1]:.4f}"
        weight = [(e, 0.7 - 0.4 * math.exp(-e / 300)) for e in epochs]
        bias = [(e, 0.3 - 0.2 * math.exp(-e / 30)) for e in epochs]
        lines = [Lines("weight", "weight", weight), Lines("bias", "bias", bias)]
        targets = [Horizontal("target", "target", 0.7), Horizontal("target", "target", 0.3)]
        parameters.show([*lines, *targets], x_range=(0, 1000), x_label="epoch")
        parameters.border_subtitle = f"weight {weight[-1][1]:.4f} bias {bias[-1][1]:.4f}"


if __name__ == "__main__":
    sys.exit(run_app(lambda driver_class: ChartApp(driver_class=driver_class), Path(sys.argv[1])))
