"""Step 5: write the model to a file, and look at what is in it."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from workflow_core.sanitize import sanitize
from workflow_core.specs import SaveKind
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.file_flows import DEFAULT_NAMES
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import Ink, gaps_text, waiting
from workflow_tui.widgets.file_tree import FileTree
from workflow_tui.widgets.form import Field, Form
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.side_panel import StepCode

KINDS: dict[SaveKind, str] = {
    "state_dict": "The parameters alone, by name: what inference needs. Any PyTorch program loads it "
    "with torch.load and load_state_dict.",
    "checkpoint": "The parameters, the optimizer's state, the epoch, losses and all settings: "
    "everything that is needed to know what the model is and to go on.",
}
FIELDS = (Field("kind", "what", "choice", choices=(("state_dict", "state_dict"), ("full checkpoint", "checkpoint"))),)


class SaveScreen(StepScreen):
    """What to save and where, and afterwards the file's contents."""

    step = "save"
    depends_on = ("train",)
    purpose = "Keep what was learnt: a state_dict maps each parameter's name to its tensor."
    commands = (Command("choose", "space", "space", "save as…", "Choose a name and folder, and save the model there."),)

    def __init__(self) -> None:
        super().__init__()
        self.kind: SaveKind = "state_dict"

    def instruments(self) -> ComposeResult:
        """Choices on the left, the written file on the right."""
        with Horizontal(id="save-columns"):
            with Vertical(id="save-left"):
                yield Form(FIELDS, {"kind": self.kind}, id="save-form", title="What to save")
                yield Readout(id="kind", classes="panel -wrap")
                yield Readout(id="what", classes="panel")
                yield StepCode("save")
            yield FileTree(id="contents")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#kind").border_title = "What that is"
        self.query_one("#what").border_title = "The model now"
        self.query_one("#contents").border_title = "The saved file"
        self.query_one(Form).show({"kind": self.kind})

    def show(self, state: State) -> None:
        """Bring the model's facts and the file's contents up to `state`."""
        self.query_one(StepCode).show(state.spec, *self.code_file(state))
        self.query_one("#kind", Readout).show(Text(KINDS[self.kind]))
        self.query_one("#what", Readout).show(self._model_text(state), stale=state.steps.train == "stale")
        tree, old = self.query_one(FileTree), state.steps.save == "stale"
        tree.show(state.saved.file if state.saved else None, "space saves; the contents appear here", stale=old)

    def code_file(self, state: State) -> tuple[str, SaveKind]:
        """The chosen kind, and the name of the last file of that kind."""
        if state.saved is not None and state.saved.file.kind == self.kind:
            return Path(state.saved.file.path).name, self.kind
        return DEFAULT_NAMES[self.kind], self.kind

    def _model_text(self, state: State) -> Text:
        if state.training is None or not state.training.epoch:
            return Text("nothing is trained yet")
        what = self.query_one("#what", Readout)
        known = "closed" if state.reference.targets_are == "closed form" else "true"
        text = Text(f"run {state.training.run} after {figures.epochs(state.held_epochs)}\n", Ink(self)("muted"))
        return text.append_text(gaps_text(what, state.training.parameters, state.reference.targets, known))

    def status(self, state: State) -> Text:
        """Where the file lies, and where to go next."""
        if not state.ready:
            return waiting(state)
        if not state.trained:
            return Text(" Nothing is trained yet: step 3 does that. space goes there and trains with its settings")
        if state.steps.save == "done" and state.saved:
            return Text(f" Saved in {sanitize(state.saved.file.path, 300)}. 6 or n: load it back")
        return Text(" space chooses a file and saves the model")

    async def action_choose(self) -> None:
        """Open the save dialog; without a trained model, go and train one."""
        if self.owner.state.trained:
            self.owner.save_dialog(self.kind)
        else:
            await self.owner.train_first()

    def changed(self, form: Form, name: str) -> None:
        """The other kind of file."""
        self.kind = "checkpoint" if form.values["kind"] == "checkpoint" else "state_dict"
        self.refresh_state()
