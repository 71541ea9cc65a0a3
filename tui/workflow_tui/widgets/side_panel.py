"""What lies beside every screen on demand: its lesson, and the PyTorch code it runs."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Literal

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from workflow_core.protocol import StepName
from workflow_core.specs import SaveKind, WorkflowSpec

if TYPE_CHECKING:
    from rich.syntax import Syntax

Content = Literal["lesson", "code", ""]


class SidePanel(VerticalScroll):
    """Lesson or code of one step; at narrow sizes it lies over the instruments."""

    can_focus = True

    def __init__(self, step: StepName) -> None:
        super().__init__(id="side", classes="panel")
        self.step = step
        self.content: Content = ""
        self._given: tuple[WorkflowSpec, str, SaveKind] | None = None
        self._loaded = False

    def compose(self) -> ComposeResult:
        """The code; the lesson joins it when it is first asked for."""
        yield Static("", id="code", markup=False)

    def toggle(self, content: Content) -> None:
        """Show `content`, or hide the panel where it is shown already."""
        self.open("" if self.content == content else content)

    def open(self, content: Content) -> None:
        """Show the lesson, the code or, for an empty name, nothing."""
        self.content = content
        self.display = bool(content)
        for lesson_view in self.query("#lesson"):
            lesson_view.display = content == "lesson"
        self.query_one("#code").display = content == "code"
        if content == "lesson":
            self.border_title = f"Lesson: {self.step.capitalize()}"
            self.border_subtitle = "t hides it"
            if not self._loaded:
                self._loaded = True
                from textual.widgets import Markdown  # its parser would cost the first frame a tenth of a second

                from workflow_tui.lessons import lesson

                self.mount(Markdown(lesson(self.step), id="lesson", open_links=False))
        elif content == "code":
            self.border_title = f"Code: {self.step.capitalize()}"
            self.border_subtitle = "x writes it all as one script"
            self._write_code()
        self.scroll_home(animate=False)

    def show(self, spec: WorkflowSpec, path: str, kind: SaveKind) -> None:
        """Keep the code that of `spec`, and of the file that save and load name."""
        if (spec, path, kind) != self._given:
            self._given = (spec, path, kind)
            self._write_code()

    def _write_code(self) -> None:
        if self.content == "code" and self._given is not None:
            from workflow_core.scripts import lines

            spec, path, kind = self._given
            code = self.query_one("#code", Static)
            code.update(
                highlighted(lines(self.step, spec, path=path, kind=kind), dark=self.app.current_theme.dark, wrap=True)
            )


class StepCode(Static):
    """The lines a step runs, where a screen has room for them; a low terminal has them in the side panel."""

    def __init__(
        self, step: StepName, *, title: str = "The code", only: tuple[str, str] | None = None, brief: bool = False
    ) -> None:
        """`only` are the first words of the first line to show and of the one after the last.

        With `brief` long ones are shown in part, and the frame says where all of them are.
        """
        super().__init__("", classes="panel step-code", markup=False)
        self.step = step
        self.only = only
        self.brief = brief
        self.border_title = title
        self._shown: object = None
        self._left_out = False

    def show(self, spec: WorkflowSpec, path: str = "model.pt", kind: SaveKind = "state_dict") -> None:
        """Show the lines for `spec`; `path` and `kind` are those of the file that save and load name."""
        shown = (spec, path, kind, self.app.current_theme.dark)
        if shown == self._shown:
            return
        self._shown = shown
        from workflow_core.scripts import lines

        source = lines(self.step, spec, path=path, kind=kind)
        if self.only is not None:
            start, stop = (source.index(words) for words in self.only)
            source = dedent(source[source.rindex("\n", 0, start) + 1 : source.rindex("\n", 0, stop)]).strip()
        if self.brief:
            from workflow_tui.widgets.digest import digest

            whole, source = source, digest(source)
            self._left_out = source != whole
        self.update(highlighted(source.rstrip(), dark=shown[-1], wrap=True))
        self.call_after_refresh(self._say_whether_all)

    def on_resize(self) -> None:
        """Other lines are seen."""
        self._say_whether_all()

    def _say_whether_all(self) -> None:
        if not self.brief or not self.size.width:
            return
        lines = self.get_content_height(self.size, self.app.size, self.size.width)
        self.border_subtitle = "c shows every line" if lines > self.size.height or self._left_out else ""


def highlighted(source: str, *, dark: bool, wrap: bool = False) -> Syntax:
    """Python source in colours that suit the theme."""
    from rich.syntax import Syntax  # like what writes the code, it would cost a first frame without any some time

    theme = "github-dark" if dark else "friendly"
    return Syntax(source, "python", theme=theme, background_color="#121212" if dark else "#ffffff", word_wrap=wrap)
