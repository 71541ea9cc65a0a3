"""The file dialogs: textual-fspicker's, with names from outside made harmless and no double-width icons."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input
from textual_fspicker import FileOpen, FileSave, Filters
from textual_fspicker.base_dialog import Dialog
from textual_fspicker.icons import Icons
from textual_fspicker.parts import CurrentDirectory, directory_navigation
from textual_fspicker.path_maker import MakePath
from textual_fspicker.safe_tests import is_dir, is_symlink
from textual_fspicker.suggest_path import SuggestPath

from workflow_core.sanitize import sanitize
from workflow_tui.dialogs.paths import CalmPath, standing
from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import fitted

MODELS = Filters(
    ("*.pt", lambda path: path.suffix.lower() in (".pt", ".pth")),
    ("all", lambda path: True),
)
TABLES = Filters(
    (
        "table",
        lambda path: path.suffix.lower() in (".csv", ".tsv", ".txt", ".tab", ".parquet", ".pq"),
    ),
    ("all", lambda path: True),
)
PYTHON = Filters(("*.py", lambda path: path.suffix.lower() == ".py"), ("all", lambda path: True))

MakePath.using(CalmPath)
# made before that line; a path that equals it would not take its place
directory_navigation.DirectoryNavigation._location._default = CalmPath("/")


class Suggestions(SuggestPath):
    """Completions of paths, and none for what can be no path, such as a name that is too long."""

    async def get_suggestion(self, value: str) -> str | None:
        """The completion of `value`, or None."""
        try:
            return await super().get_suggestion(value)
        except (OSError, ValueError, IndexError):
            return None


class SafeDirectory(CurrentDirectory):
    """The folder's name as plain text."""

    def __init__(self) -> None:
        super().__init__(markup=False)

    def _watch_current_directory(self) -> None:
        self.update(fitted(str(self.current_directory or ""), max(self.size.width, 1)))


def _safe_name(cls: type[directory_navigation.DirectoryEntry], location: Path) -> Text:
    link = " →" if is_symlink(location) else ""
    return Text(sanitize(location.name or str(location)) + link)


# The entries are made inside the package's own list; its hooks for how one looks are these class attributes.
directory_navigation.DirectoryEntry._name = classmethod(_safe_name)  # type: ignore[assignment]

# its folder and page are emoji, which are two columns wide in some terminals and one in others
Icons.set_picker(lambda location: Text("/" if is_dir(Path(location)) else " "))


def _focus_name(dialog: FileSave | FileOpen) -> None:
    """Go to the name, after the base class has gone to the list and before anybody can press a key there."""
    for name in dialog.query(Input):
        dialog.app.call_later(name.focus)


class SaveDialog(SturdyScreen, FileSave):
    """Where to save, with a name proposed."""

    def __init__(self, folder: Path, default: str, *, title: str = "Save the model as") -> None:
        super().__init__(standing(folder), title, default_file=default)
        self._suggest_path = Suggestions()

    def on_mount(self) -> None:
        """The name is there already: enter saves."""
        _focus_name(self)

    def _header_area(self) -> ComposeResult:
        yield SafeDirectory()

    def _set_error(self, message: str = "") -> None:
        self.query_one(Dialog).border_subtitle = Content(sanitize(message))


class OpenDialog(SturdyScreen, FileOpen):
    """Which file to open; where a name is proposed, enter takes it."""

    def __init__(
        self, folder: Path, default: str = "", *, title: str = "Load a model from", filters: Filters = MODELS
    ) -> None:
        super().__init__(standing(folder), title, default_file=default or None, filters=filters)
        self._suggest_path = Suggestions()
        self._proposed = bool(default)

    def on_mount(self) -> None:
        """Start in the name where one is proposed, else in the list."""
        if self._proposed:
            _focus_name(self)

    def on_key(self, event: events.Key) -> None:
        """A character typed over the list begins a name; blanks name nothing, and a full stop is the list's own key."""
        character = event.character
        if (
            not event.is_printable
            or character in (None, " ", ".")
            or not isinstance(self.focused, directory_navigation.DirectoryNavigation)
        ):
            return
        event.stop()
        name = self.query_one(Input)
        self.set_focus(name)
        # behind the focus event, which selects what stands there: the character takes its place
        name.call_later(name.replace, character, 0, len(name.value))

    def _header_area(self) -> ComposeResult:
        yield SafeDirectory()

    def _set_error(self, message: str = "") -> None:
        self.query_one(Dialog).border_subtitle = Content(sanitize(message))
