"""What this screen is, and every key that works on it: made from the same commands as the keys themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from workflow_tui.commands import Command
from workflow_tui.sturdy import SturdyScreen

if TYPE_CHECKING:
    from workflow_tui.screens.base import StepScreen


class HelpDialog(SturdyScreen, ModalScreen[None]):
    """The help of one screen; any of its keys closes it."""

    BINDINGS = [  # noqa: RUF012
        Binding("escape,question_mark,f1,q,enter,space", "dismiss(None)", "close"),
    ]

    def __init__(self, screen: StepScreen) -> None:
        super().__init__()
        self.step = screen.step
        self.purpose = screen.purpose
        self.sections = screen.sections()
        self.common = tuple(command for command in screen.all_commands() if command not in screen.commands)

    def compose(self) -> ComposeResult:
        """Purpose, the screen's keys, the keys of every screen."""
        with VerticalScroll(classes="dialog help") as box:
            box.border_title = f"Help: {self.step.capitalize()}"
            box.border_subtitle = "? or escape closes"
            yield Static(Text(self.purpose), markup=False)
            for title, commands in self.sections:
                yield Static(self._keys(title, commands), markup=False)
            yield Static(self._keys("On every screen", self.common), markup=False)
            yield Static(self._fields(), markup=False)

    def on_mount(self) -> None:
        """Arrow keys scroll."""
        self.query_one(VerticalScroll).focus()

    def _keys(self, title: str, commands: tuple[Command, ...]) -> Group:
        accent = self.app.theme_variables.get("accent", "default")
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style=f"bold {accent}", min_width=11, no_wrap=True)
        table.add_column()
        for command in commands:
            table.add_row(f"  {command.shown}", Text(command.help))
        return Group(Text(f"\n{title}", "bold"), table)

    def _fields(self) -> Text:
        return Text.assemble(
            ("\nIn a field\n", "bold"),
            "  enter applies and comes back to the keys, tab goes to the next field, up and down change a number, "
            "escape comes back. What does not fit is marked and stays until it is mended; escape takes it back.\n",
            ("\nMarks of a step\n", "bold"),
            "  ✓ done   ↻ stale: an earlier step changed since   ▶ it runs   ✗ it went wrong   no mark: to do\n",
        )
