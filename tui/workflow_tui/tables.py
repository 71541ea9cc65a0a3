"""The aligned tables and short texts that several screens show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import DataView, FileView, Metrics, Predictions, TensorView
from workflow_core.sanitize import cut, padded, sanitize, width
from workflow_core.specs import SPLITS
from workflow_tui import figures
from workflow_tui.plots import SHORT, role_of
from workflow_tui.state import State
from workflow_tui.theme import TRACKED, role_marker

LONGEST = 4096
"""Characters of a name, or of a path."""


class Ink:
    """Rich styles for the theme's roles, as `widget`'s app has them now."""

    def __init__(self, widget: Widget) -> None:
        self._variables = widget.app.theme_variables

    def __call__(self, role: str, weight: str = "") -> str:
        """The style of `role` (`accent` and `muted` as well), for example `bold #5fafff`."""
        colour = self._variables.get(f"role-{role}") or self._variables.get(role, "default")
        return f"{weight} {colour}".strip()

    def of(self, name: str) -> str:
        """The style of a parameter's name."""
        own = name.rpartition(".")[2]
        return self(own if own in TRACKED else "foreground", "bold")


def waiting(state: State) -> Text:
    """What is being waited for while the engine is not ready."""
    if state.connection == "lost":
        return Text(" The engine has ended. a starts it again")
    if state.engine.state == "failed":
        return Text(" The engine cannot load PyTorch; q leaves")
    return Text(" The engine is loading PyTorch; this takes a second or two")


def fitted(name: str, room: int) -> str:
    """A name from outside in at most `room` columns; where it is longer its end stays, which tells names apart."""
    name = sanitize(name, LONGEST)
    if width(name) <= room:
        return name
    end = cut(name[::-1], max(room - 1, 0))[::-1]
    while end and not width(end[0]):  # a mark, whose letter is cut off
        end = end[1:]
    return f"…{end}"


def fitted_start(text: str, room: int) -> str:
    """A sentence in at most `room` columns; where it is longer its beginning stays."""
    text = sanitize(text, 400)
    if width(text) <= room:
        return text
    return cut(text, max(room - 1, 0)).rstrip() + "…"


def labels(names: Iterable[str], room: int) -> dict[str, str]:
    """What stands for each name in `room` columns: the module they all belong to is left out where it must be."""
    names = list(names)
    prefix = names[0] if len(names) > 1 and max(map(width, names)) > room else ""
    while prefix and not all(name.startswith(prefix) for name in names):
        prefix = prefix[: prefix.rfind(".", 0, -1) + 1]
    if prefix.endswith("."):
        return {name: fitted(name.removeprefix(prefix), room) for name in names}
    return {name: fitted(name, room) for name in names}


def _column(names: Iterable[str], least: int, most: int) -> int:
    """Columns for names and a blank: as many as the longest takes, between two limits."""
    return min(max(least, *(width(sanitize(name, 200)) + 1 for name in names), least), max(most, least))


def rows_text(widget: Widget, data: DataView) -> tuple[Text, int]:
    """The first rows: index, features, y and the split each went to; and how many features there was no room for."""
    ink = Ink(widget)
    count = min(len(data.features), max((widget.size.width - 3 - 9 - 9) // 9, 1))
    text = Text().append(f"{'row':>3}", ink("muted"))
    for name in (*data.features[:count], data.target):
        text.append(padded(fitted(name, 8), 9, right=True), ink("muted"))
    text.append("  split\n", ink("muted"))
    for row in data.head:
        cells = "".join(f"{figures.figure(value):>9}" for value in (*row.x[:count], row.y))
        text.append(f"{row.index:>3}{cells}  ", ink("foreground"))
        text.append(f"{role_marker(role_of(row.split))} {SHORT[row.split]}\n", ink(row.split))
    return text, len(data.features) - count


def splits_text(widget: Widget, data: DataView) -> Text:
    """For each split: count, true share, and the ranges of the first feature and y."""
    ink = Ink(widget)
    roomy = widget.size.width >= 58
    name, span = (14, 17) if roomy else (8, 10)
    rows = max(5, *(len(figures.whole(split.count)) + 1 for split in data.splits))
    X, y = (padded(fitted(column, span - 1), span) for column in (data.features[0], data.target))
    text = Text().append(f"{'split':<{name}}{'rows':>{rows}}{'share':>6}  {X}{y}\n", ink("muted"))
    for split in data.splits:
        label = split.name if roomy else SHORT[split.name]
        text.append(f"{f'{role_marker(role_of(split.name))} {label}':<{name}}", ink(split.name))
        share = "<1%" if 0 < split.share < 0.01 else f"{split.share:.0%}"
        text.append(f"{figures.whole(split.count):>{rows}}{share:>6}  ")
        X, y = figures.span(split.x_range), figures.span(split.y_range)
        if not roomy:
            X, y = figures.tight_span(split.x_range), figures.tight_span(split.y_range)
        text.append(f"{X:<{span - 1}} {y}\n")
    return text


def scaling_text(widget: Widget, data: DataView) -> Text:
    """What standardising takes off each column and divides it by; as many as there is room for."""
    ink = Ink(widget)
    if not data.scaling:
        return Text()
    name = _column((scale.name for scale in data.scaling), 8, widget.size.width - 22)
    text = Text().append(f"{'column':<{name}}{'mean':>10}{'std':>10}\n", ink("muted"))
    for scale in data.scaling:
        text.append(padded(fitted(scale.name, name - 1), name), "bold")
        text.append(f"{figures.figure(scale.mean):>10}{figures.figure(scale.std):>10}\n")
    return text


def parameters_text(widget: Widget, parameters: Sequence[TensorView], targets: Mapping[str, float], known: str) -> Text:
    """A model's parameters: name, shape, dtype, device, requires_grad and value; name, shape and value where narrow.

    `targets` are the values that single ones should arrive at, `known` the word for that column.
    """
    ink = Ink(widget)
    roomy = widget.size.width >= 54
    more = f"{'dtype':<9}{'device':<8}{'grad':<6}" if roomy else ""
    shape = max(6, *(len(figures.shape(tensor.shape)) + 1 for tensor in parameters), 6)
    room = widget.size.width - shape - len(more) - 7
    wanted = 8 if roomy else 6
    wanted = wanted if any(tensor.name in targets for tensor in parameters) and room - wanted >= 7 else 0
    name = _column((tensor.name for tensor in parameters), 7, room - wanted)
    short = labels((tensor.name for tensor in parameters), name - 1)
    text = Text().append(f"{'name':<{name}}{'shape':<{shape}}{more}", ink("muted"))
    text.append(f"{'value':>7}" + (f"{known[: wanted - 1]:>{wanted}}" if wanted else "") + "\n", ink("muted"))
    for tensor in parameters:
        value = figures.figure(tensor.values[0]) if len(tensor.values) == 1 else _first_of(tensor)
        text.append(padded(short[tensor.name], name), ink.of(tensor.name))
        text.append(f"{figures.shape(tensor.shape):<{shape}}")
        if roomy:
            text.append(f"{tensor.dtype:<9}{tensor.device:<8}{'yes' if tensor.requires_grad else 'no':<6}")
        text.append(f"{value:>7}")
        target = targets.get(tensor.name)
        if target is not None and wanted:
            text.append(f"{figures.figure(target) if roomy else f'{target:.4g}':>{wanted}}", ink("muted"))
        text.append("\n")
    return text


def _first_of(tensor: TensorView) -> str:
    """The first of several values, and that there are more."""
    text = f"{tensor.values[0]:.2g}…" if tensor.values else "…"
    return text if len(text) < 8 else "…"


def gaps_text(
    widget: Widget,
    values: Mapping[str, float],
    targets: Mapping[str, float],
    known: str = "target",
    rows: int = 0,
    when: str = "now",
) -> Text:
    """Each value as it is `when`, the one it should arrive at, and the gap between; as many as `rows` or the widget
    hold."""
    ink = Ink(widget)
    wide = 9 + (19 if targets else 0)
    name = _column(values, 8, widget.size.width - wide)
    text = Text().append(f"{'name':<{name}}{when:>9}", ink("muted"))
    text.append(f"{known:>9}{'gap':>10}\n" if targets else "\n", ink("muted"))
    shown, left = _as_fits(values, rows or widget.size.height - 1)
    short = labels(values, name - 1)
    for key, value in shown:
        text.append(padded(short[key], name), ink.of(key))
        text.append(f"{figures.figure(value):>9}")
        if key in targets:
            text.append(f"{figures.figure(targets[key]):>9}{figures.signed(value - targets[key]):>10}")
        text.append("\n")
    return text.append(left, ink("muted"))


def _as_fits(values: Mapping[str, float], rows: int) -> tuple[list[tuple[str, float]], str]:
    """The values that `rows` lines hold, and in words how many more there are, which takes a line itself."""
    items = list(values.items())
    if len(items) <= max(rows, 1):
        return items, ""
    shown = max(rows - 1, 1)
    return items[:shown], f"and {len(items) - shown} more\n"


def by_name(state: State, coefficients: Mapping[str, float]) -> dict[str, float]:
    """Coefficients by the names that the model gives them, where it holds exactly these: weight and bias."""
    data, model = state.data, state.model
    if data is None or model is None or model.spec.kind != "parameter" or data.scaling:
        return dict(coefficients)
    own = {"intercept": "bias", data.features[0]: "weight"}
    return {own.get(name, name): value for name, value in coefficients.items()}


def coefficients_text(
    widget: Widget,
    learnt: Mapping[str, float],
    true: Mapping[str, float],
    closed: Mapping[str, float],
    rows: int = 0,
) -> Text:
    """A linear model's coefficients in the user's own units: learnt, true, of least squares, and the gap to these.

    The gap is to least squares, which is the best that training can do; without it, to the true ones.
    """
    ink = Ink(widget)
    target = closed or true
    both = bool(closed and true) and widget.size.width >= 46
    columns = [("learnt", learnt), *([("true", true)] if both or (true and not closed) else [])]
    columns += [("closed form" if widget.size.width >= 48 else "closed", closed)] if closed else []
    wide = [max(9, len(title) + 1) for title, _ in columns]
    gaps = bool(target) and widget.size.width >= sum(wide) + 20
    name = _column(learnt, 9, widget.size.width - sum(wide) - (10 if gaps else 0))
    text = Text().append(f"{'name':<{name}}", ink("muted"))
    for (title, _), room in zip(columns, wide, strict=True):
        text.append(f"{title:>{room}}", ink("muted"))
    text.append(f"{'gap':>10}\n" if gaps else "\n", ink("muted"))
    shown, left = _as_fits(learnt, rows or widget.size.height - 1)
    for key, value in shown:
        text.append(padded(fitted(key, name - 1), name), ink.of(key))
        for (_, values), room in zip(columns, wide, strict=True):
            text.append(f"{figures.figure(values.get(key)):>{room}}")
        text.append(f"{figures.signed(value - target[key]):>10}\n" if gaps and key in target else "\n")
    return text.append(left, ink("muted"))


def metrics_text(widget: Widget, metrics: Mapping[str, Metrics | None]) -> Text:
    """MSE, MAE, RMSE and R² of the three splits."""
    ink = Ink(widget)
    rows = max(6, *(len(figures.whole(figure.count)) + 1 for figure in metrics.values() if figure), 6)
    text = Text().append(f"{'split':<13}{'rows':>{rows}}{'MSE':>10}{'MAE':>10}{'RMSE':>10}{'R²':>10}\n", ink("muted"))
    for name in SPLITS:
        text.append(f"{role_marker(role_of(name))} {name:<11}", ink(name))
        figure = metrics.get(name)
        if figure is None:
            text.append(f"{0:>{rows}}  no rows in this split\n", ink("muted"))
            continue
        text.append(f"{figures.whole(figure.count):>{rows}}")
        for value in (figure.mse, figure.mae, figure.rmse, figure.r2):
            text.append(f"{figures.figure(value):>10}")
        text.append("\n")
    return text


def features_text(x: Sequence[float], room: int) -> str:
    """A row's features in `room` columns: as many as fit, and how many more there are."""
    shown = [figures.short(value) for value in x]
    text = ", ".join(shown)
    count = len(shown)
    while len(text) > room and count > 1:
        count -= 1
        text = f"{', '.join(shown[:count])} +{len(shown) - count}"
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def predictions_text(widget: Widget, answer: Predictions, features: Sequence[str], target: str) -> Text:
    """What the model predicts for each row and, where the data has a formula, how far off that is."""
    ink = Ink(widget)
    wide = 10 + (20 if answer.truth is not None else 0)
    room = (
        min(10, max(widget.size.width - wide, 8))
        if len(features) == 1
        else max(min(widget.size.width - wide - 1, 40), 8)
    )
    name = features[0] if len(features) == 1 else ", ".join(features)
    several = len(features) > 1 and width(sanitize(name)) > room
    name = f"{len(features)} features" if several else fitted(name, room)
    text = Text().append(f"{padded(name, room, right=True)}{'y_pred':>10}", ink("muted"))
    true = padded(f"true {fitted(target, 5)}", 10, right=True)
    text.append(f"{true}{'off by':>10}\n" if answer.truth is not None else "\n", ink("muted"))
    for index, (x, y_pred) in enumerate(answer.points):
        text.append(f"{features_text(x, room):>{room}}")
        text.append(f"{figures.figure(y_pred):>10}", ink("prediction", "bold"))
        if answer.truth is not None:
            text.append(f"{figures.figure(answer.truth[index]):>10}{figures.signed(y_pred - answer.truth[index]):>10}")
        text.append("\n")
    return text


def file_facts(file: FileView) -> tuple[str, str]:
    """Kind and size of a file, and whether its checksum was verified."""
    return f"{file.kind}, {figures.size(file.size)}", "SHA-256 verified" if file.verified else "no checksum in the file"
