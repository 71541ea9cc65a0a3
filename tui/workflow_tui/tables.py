"""The aligned tables and short texts that several screens show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import DataView, FileView, Metrics, Predictions, TensorView
from workflow_core.sanitize import sanitize
from workflow_core.specs import SPLITS
from workflow_tui import figures
from workflow_tui.plots import SHORT, role_of
from workflow_tui.state import State
from workflow_tui.theme import role_marker


class Ink:
    """Rich styles for the theme's roles, as `widget`'s app has them now."""

    def __init__(self, widget: Widget) -> None:
        self._variables = widget.app.theme_variables

    def __call__(self, role: str, weight: str = "") -> str:
        """The style of `role` (`accent` and `muted` as well), for example `bold #5fafff`."""
        colour = self._variables.get(f"role-{role}") or self._variables.get(role, "default")
        return f"{weight} {colour}".strip()


def waiting(state: State) -> Text:
    """What is being waited for while the engine is not ready."""
    if state.connection == "lost":
        return Text(" The engine has ended. a starts it again")
    if state.engine.state == "failed":
        return Text(" The engine cannot load PyTorch; q leaves")
    return Text(" The engine is loading PyTorch; this takes a second or two")


def rows_text(widget: Widget, data: DataView) -> Text:
    """The first rows: index, X, y and the split each went to."""
    ink = Ink(widget)
    text = Text().append(f"{'row':>3}{'X':>9}{'y':>9}  split\n", ink("muted"))
    for row in data.head:
        text.append(f"{row.index:>3}{figures.figure(row.x):>9}{figures.figure(row.y):>9}  ", ink("foreground"))
        text.append(f"{role_marker(role_of(row.split))} {SHORT[row.split]}\n", ink(row.split))
    return text


def splits_text(widget: Widget, data: DataView) -> Text:
    """For each split: count, true share, and the ranges of x and y."""
    ink = Ink(widget)
    roomy = widget.size.width >= 58
    name, span = (14, 17) if roomy else (8, 10)
    rows = max(5, *(len(figures.whole(split.count)) + 1 for split in data.splits))
    text = Text().append(f"{'split':<{name}}{'rows':>{rows}}{'share':>6}  {'X':<{span}}{'y':<{span}}\n", ink("muted"))
    for split in data.splits:
        label = split.name if roomy else SHORT[split.name]
        text.append(f"{f'{role_marker(role_of(split.name))} {label}':<{name}}", ink(split.name))
        share = "<1%" if 0 < split.share < 0.01 else f"{split.share:.0%}"
        text.append(f"{figures.whole(split.count):>{rows}}{share:>6}  ")
        x, y = figures.span(split.x_range), figures.span(split.y_range)
        if not roomy:
            x, y = x.replace(" ", ""), y.replace(" ", "")
        text.append(f"{x:<{span}}{y}\n")
    return text


def parameters_text(widget: Widget, parameters: Iterable[TensorView], truth: Mapping[str, float]) -> Text:
    """A model's parameters: name, shape, dtype, device, requires_grad and value; name, shape and value where narrow."""
    ink = Ink(widget)
    roomy = widget.size.width >= 54
    more = f"{'dtype':<9}{'device':<8}{'grad':<6}" if roomy else ""
    text = Text().append(f"{'name':<7}{'shape':<6}{more}", ink("muted"))
    text.append(f"{'value':>7}{'true':>{8 if roomy else 6}}\n", ink("muted"))
    for tensor in parameters:
        value = figures.figure(tensor.values[0]) if len(tensor.values) == 1 else "…"
        role = tensor.name if tensor.name in ("weight", "bias") else "foreground"
        text.append(f"{sanitize(tensor.name, 7):<7}", ink(role, "bold"))
        text.append(f"{figures.shape(tensor.shape):<6}")
        if roomy:
            text.append(f"{tensor.dtype:<9}{tensor.device:<8}{'yes' if tensor.requires_grad else 'no':<6}")
        text.append(f"{value:>7}")
        target = truth.get(tensor.name)
        known = figures.figure(target) if roomy or target is None else f"{target:.4g}"
        text.append(f"{known:>{8 if roomy else 6}}\n", ink("muted"))
    return text


def gaps_text(widget: Widget, parameters: Mapping[str, float], truth: Mapping[str, float]) -> Text:
    """Each parameter now, its true value, and the gap between."""
    ink = Ink(widget)
    text = Text().append(f"{'name':<8}{'now':>9}{'true':>9}{'gap':>10}\n", ink("muted"))
    for name, value in parameters.items():
        text.append(f"{sanitize(name, 8):<8}", ink(name, "bold"))
        text.append(f"{figures.figure(value):>9}")
        if name in truth:
            text.append(f"{figures.figure(truth[name]):>9}{figures.signed(value - truth[name]):>10}")
        text.append("\n")
    return text


def metrics_text(widget: Widget, metrics: Mapping[str, Metrics | None]) -> Text:
    """MSE, MAE, RMSE and R² of the three splits."""
    ink = Ink(widget)
    text = Text().append(f"{'split':<13}{'rows':>6}{'MSE':>10}{'MAE':>10}{'RMSE':>10}{'R²':>10}\n", ink("muted"))
    for name in SPLITS:
        text.append(f"{role_marker(role_of(name))} {name:<11}", ink(name))
        figure = metrics.get(name)
        if figure is None:
            text.append("     0  no rows in this split\n", ink("muted"))
            continue
        text.append(f"{figures.whole(figure.count):>6}")
        for value in (figure.mse, figure.mae, figure.rmse, figure.r2):
            text.append(f"{figures.figure(value):>10}")
        text.append("\n")
    return text


def predictions_text(widget: Widget, answer: Predictions) -> Text:
    """What the model predicts for each x and, where the data has a true line, how far off that is."""
    ink = Ink(widget)
    text = Text().append(f"{'x':>10}{'y_pred':>10}", ink("muted"))
    text.append(f"{'true y':>10}{'off by':>10}\n" if answer.truth is not None else "\n", ink("muted"))
    for index, (x, y_pred) in enumerate(answer.points):
        text.append(f"{figures.short(x):>10}")
        text.append(f"{figures.figure(y_pred):>10}", ink("prediction", "bold"))
        if answer.truth is not None:
            text.append(f"{figures.figure(answer.truth[index]):>10}{figures.signed(y_pred - answer.truth[index]):>10}")
        text.append("\n")
    return text


def file_facts(file: FileView) -> tuple[str, str]:
    """Kind and size of a file, and whether its checksum was verified."""
    return f"{file.kind}, {figures.size(file.size)}", "SHA-256 verified" if file.verified else "no checksum in the file"
