"""Dialogs that choose by name: the columns of a table, and one class out of a file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from workflow_core.protocol import TableColumn
from workflow_core.sanitize import padded, sanitize, width
from workflow_tui import figures
from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import fitted_start

Columns = tuple[tuple[str, ...], str]
"""The features, in the table's order, and the target."""
NAME = 40
"""Columns of the terminal that a name takes at most."""


class PickColumns(SturdyScreen, ModalScreen[Columns | None]):
    """All columns of a table with what they hold: some become features, one the target; None where it was left."""

    BINDINGS = [  # noqa: RUF012
        Binding("space", "take", "feature", priority=True),
        Binding("y", "target", "target"),
        Binding("a", "all", "all"),
        Binding("escape", "leave", "leave"),
    ]

    def __init__(self, columns: Sequence[TableColumn], rows: int, features: Sequence[str], target: str) -> None:
        """`features` and `target` are those so far, empty for the ones that are taken when none are named."""
        super().__init__()
        self.columns = tuple(columns)
        self.rows = rows
        names = [column.name for column in self.columns]
        self.target = target if target in names else names[-1] if names else ""
        usable = {column.name for column in self.columns if column.kind == "number"} - {self.target}
        self.features = (set(features) & set(names) if features else usable) - {self.target}

    def compose(self) -> ComposeResult:
        """The list, and what the keys do."""
        with Vertical(classes="dialog pick") as box:
            box.border_title = f"{figures.whole(len(self.columns))} columns, {figures.whole(self.rows)} rows"
            box.border_subtitle = "space feature · y target · a all/none · enter takes them"
            yield OptionList(*self._options(), markup=False, id="pick")
            yield Static(self._summary(), markup=False, id="picked")

    def on_mount(self) -> None:
        """Keys go to the list."""
        self.query_one(OptionList).focus()

    def _options(self) -> list[Option]:
        room = self._room
        return [Option(self._text(column, room)) for column in self.columns]

    @property
    def _room(self) -> int:
        """Columns of the terminal for a name."""
        return min(max((width(sanitize(column.name)) for column in self.columns), default=1), NAME)

    def _text(self, column: TableColumn, room: int) -> Text:
        role = "target " if column.name == self.target else "feature" if column.name in self.features else "       "
        text = Text.assemble((f"{role}  ", "bold"), f"{padded(fitted_start(column.name, room), room)}  ")
        text.append(sanitize(column.kind, 20))
        return text.append(f"  {figures.whole(column.missing)} missing" if column.missing else "")

    def _summary(self) -> str:
        count = len(self.features)
        return f"{sanitize(self.target, NAME)} from {count} feature{'s' * (count != 1)}"

    def _redraw(self) -> None:
        options = self.query_one(OptionList)
        room = self._room
        for index, column in enumerate(self.columns):
            options.replace_option_prompt_at_index(index, self._text(column, room))
        self.query_one("#picked", Static).update(self._summary())

    def _chosen(self) -> TableColumn | None:
        index = self.query_one(OptionList).highlighted
        return None if index is None else self.columns[index]

    def _say(self, text: str) -> None:
        self.query_one("#picked", Static).update(text)

    def action_take(self) -> None:
        """Take the column as a feature, or leave it out."""
        column = self._chosen()
        if column is None:
            return
        if column.name == self.target:
            self._say("That is the target: y on another column makes that one the target")
        elif column.kind != "number":
            self._say(f"{sanitize(column.name, NAME)} holds {sanitize(column.kind, 20)}, and a model needs numbers")
        else:
            self.features ^= {column.name}
            self._redraw()

    def action_target(self) -> None:
        """Predict this column."""
        column = self._chosen()
        if column is None or column.name == self.target:
            return
        if column.kind != "number":
            self._say(f"{sanitize(column.name, NAME)} holds {sanitize(column.kind, 20)}, and a model needs numbers")
            return
        self.features = (self.features - {column.name}) | (
            {self.target} if any(c.name == self.target and c.kind == "number" for c in self.columns) else set()
        )
        self.target = column.name
        self._redraw()

    def action_all(self) -> None:
        """All columns with numbers as features, or none."""
        usable = {column.name for column in self.columns if column.kind == "number"} - {self.target}
        self.features = set() if self.features == usable else usable
        self._redraw()

    def action_leave(self) -> None:
        """Leave the columns as they are."""
        self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if not self.features:
            self._say("A model needs at least one feature: space takes a column")
            return
        self.dismiss((tuple(c.name for c in self.columns if c.name in self.features), self.target))


class PickOne(SturdyScreen, ModalScreen[str | None]):
    """One of several names; None where it was left."""

    BINDINGS = [Binding("escape", "leave", "leave")]  # noqa: RUF012

    def __init__(self, title: str, names: Sequence[str]) -> None:
        super().__init__()
        self.dialog_title = title
        self.names = tuple(names)

    def compose(self) -> ComposeResult:
        """The names."""
        with Vertical(classes="dialog pick") as box:
            box.border_title = Content(self.dialog_title)
            box.border_subtitle = "enter takes it · escape leaves"
            yield OptionList(*(Option(Text(sanitize(name, 70))) for name in self.names), markup=False, id="pick")

    def on_mount(self) -> None:
        """Keys go to the list."""
        self.query_one(OptionList).focus()

    def action_leave(self) -> None:
        """Take none."""
        self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self.names[event.option_index])
