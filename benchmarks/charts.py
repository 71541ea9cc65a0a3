"""What a draw of a chart costs: from a run's history to the styled cells that changed, early and late in a long run."""

from __future__ import annotations

import math
import statistics
import sys
import time

from rich.style import Style

from workflow_core.history import History
from workflow_tui.plots import COLUMNS, column_points
from workflow_tui.terminal.garbage import look_seldom
from workflow_tui.theme import DARK_NAME, Role
from workflow_tui.widgets.chart import ChartSpec, Lines, changed
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_paint import Painter
from workflow_tui.widgets.chart_strips import strip_of

SIZES = ((58, 14), (160, 45))
EPOCHS = (1_000, 10_000_000)
DRAWS = 116
PROMISED = {(58, 14): 15.0, (160, 45): 15.0}
"""Milliseconds that a draw takes at most in 95 of 100 cases."""
MARGIN = 1.5
"""How much more than promised is no longer the noise of a machine that does other things as well."""
CHUNK = 100_000


def history(epochs: int) -> History:
    """Two losses that fall and quiver, over so many epochs."""
    made = History()
    quiver = [1 + 0.2 * math.sin(at * at) for at in range(min(CHUNK, epochs))]
    for start in range(0, epochs, CHUNK):
        fall = math.exp(-5 * start / epochs)
        steps = quiver[: epochs - start]
        if epochs <= CHUNK:
            steps = [value * math.exp(-5 * at / epochs) for at, value in enumerate(steps)]
        made.extend({"val_loss": [0.3 * fall * step for step in steps], "train_loss": [0.1 * fall * s for s in steps]})
    return made


class Contestant:
    """A chart of one size over one history, drawn again each time that its lines have grown by a column."""

    def __init__(self, made: History, size: tuple[int, int]) -> None:
        self.history = made
        self.size = size
        self.painter = Painter()
        self.rows: list[Row] = []
        self.seconds: list[float] = []

    def draw(self, turn: int) -> None:
        """One draw, timed: what it takes of the processor, whatever else the machine does."""
        epochs = self.history.epochs
        stop = epochs * (turn + 1) // DRAWS
        begun = time.process_time()
        roles: tuple[tuple[Role, str, str], ...] = (("validation", "val", "val_loss"), ("train", "train", "train_loss"))
        layers = tuple(
            Lines(role, label, column_points(self.history.series[name].columns(COLUMNS, 0, stop)))
            for role, label, name in roles
        )
        spec = ChartSpec(layers, (0, epochs), None, "epoch", log_y=True, whole_x=True)
        rows = self.painter.paint(spec, *self.size, use_ascii=False, hint="")
        spans = changed(self.rows or [(("", None),) * self.size[0]] * self.size[1], rows)
        for y in {region.y for region in spans}:
            strip_of(rows[y], self.size[0], Style(), DARK_NAME, False)
        self.seconds.append(time.process_time() - begun)
        self.rows = rows


def table(contestants: dict[tuple[tuple[int, int], int], Contestant]) -> tuple[list[str], list[str]]:
    """The lines of the table, and a sentence for each promise that is not kept by a clear margin."""
    lines = ["A draw of two lines on a logarithmic axis, in milliseconds of the processor"]
    lines.append(f"  {'':<32}   {'median':>6}   {'95 in 100':>9}")
    broken: list[str] = []
    medians = {}
    for (size, epochs), contestant in contestants.items():
        times = [1000 * seconds for seconds in contestant.seconds[DRAWS:]]
        median, most = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        medians[size, epochs] = median
        name = f"{size[0]}x{size[1]} cells, {epochs:,} epochs"
        lines.append(f"  {name:<32}   {median:6.1f}   {most:9.1f}")
        if most > MARGIN * PROMISED[size]:
            broken.append(f"{name} is to take {PROMISED[size]:g} at most; it takes {most:.1f}")
    for size in SIZES:
        ratio = medians[size, EPOCHS[1]] / medians[size, EPOCHS[0]]
        lines.append(f"  {size[0]}x{size[1]}: {ratio:.2f} x after {EPOCHS[1] // EPOCHS[0]:,} times the epochs")
        if ratio > MARGIN:
            broken.append(f"{size[0]}x{size[1]} is to take the same however long the run; it takes {ratio:.2f} x")
    return lines, broken


def main(rounds: int = 4) -> None:
    """Print the table; ends the program with status 1 where what is promised is not kept. The first round is not
    counted."""
    histories = [history(epochs) for epochs in EPOCHS]
    look_seldom()  # as the program does
    contestants = {(size, made.epochs): Contestant(made, size) for size in SIZES for made in histories}
    for turn in range(rounds * DRAWS):
        for contestant in contestants.values():
            contestant.draw(turn % DRAWS)
    lines, broken = table(contestants)
    print("\n".join(lines))
    if broken:
        sys.exit("\n".join(f"  NOT KEPT: {sentence}" for sentence in broken))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
