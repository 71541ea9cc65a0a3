"""Step 6: load a file into a fresh model, and prove that it predicts the same."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from workflow_core.protocol import LoadedView, Proof
from workflow_core.sanitize import padded, sanitize, width
from workflow_core.specs import SaveKind
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.tables import Ink, features_text, fitted, waiting
from workflow_tui.widgets.file_tree import FileTree
from workflow_tui.widgets.frame import Readout
from workflow_tui.widgets.predictor import Predictor
from workflow_tui.widgets.side_panel import StepCode


class LoadScreen(StepScreen):
    """The file's contents, the parameters before and after, the proof, and a field for any x."""

    step = "load"
    purpose = "Put a file's tensors into a fresh model; check that it predicts the same."
    commands = (
        Command("choose", "space", "space", "open…", "Choose a file and load it into a fresh model."),
        Command("settings", "i,enter", "enter", "predict x", "Go to the field for any x; escape comes back out."),
    )

    def instruments(self) -> ComposeResult:
        """The file on the left; before and after, proof and predictor on the right."""
        with Horizontal(id="load-columns"):
            with Vertical(id="load-left"):
                yield FileTree(id="contents")
                yield StepCode("load")
            with Vertical(id="load-right"):
                yield Readout(id="change", classes="panel")
                yield Readout(id="proof", classes="panel -wrap")
                yield Predictor("loaded", "No file is loaded yet: press escape, then space to open one", id="predictor")

    def on_mount(self) -> None:
        """Title the panels."""
        self.query_one("#contents").border_title = "The loaded file"
        self.query_one("#change").border_title = "The fresh model, before and after"
        self.query_one("#proof").border_title = "Proof"

    def show(self, state: State) -> None:
        """Bring contents, proof and predictor up to `state`."""
        self.query_one(StepCode).show(state.spec, *self.code_file(state))
        loaded, old = state.loaded, state.steps.load == "stale"
        tree = self.query_one(FileTree)
        tree.show(loaded.file if loaded else None, "space opens a file", stale=old)
        if loaded is None:
            self.query_one("#change", Readout).show(Text("each parameter before and after loading"))
            self.query_one("#proof", Readout).show(Text("are the predictions equal?"))
        else:
            self.query_one("#change", Readout).show(self._change_text(loaded), stale=old)
            self.query_one("#proof", Readout).show(self._proof_text(loaded, loaded.proof), stale=old)
        features, target = (loaded.features, loaded.target) if loaded else (("x",), "y")
        # what the loaded model predicts is as true as before, whatever became of the one here
        self.query_one(Predictor).show(loaded, features, target)

    def code_file(self, state: State) -> tuple[str, SaveKind]:
        """The file that was loaded, or the one that would be."""
        view = state.loaded or state.saved
        return (Path(view.file.path).name, view.file.kind) if view else ("model.pt", "state_dict")

    def _change_text(self, loaded: LoadedView) -> Text:
        ink = Ink(self)
        panel = self.query_one("#change")
        room = 3 if self.has_class("-low") else 10
        panel.styles.height = min(len(loaded.after), room) + 3
        wide = min(max(11, *(width(sanitize(name)) + 1 for name in loaded.after), 11), max(panel.size.width - 20, 11))
        text = Text().append(f"{'name':<{wide}}{'before':>10}{'after':>10}\n", ink("muted"))
        items = list(loaded.after.items())
        for name, after in items if len(items) <= room else items[: room - 1]:
            text.append(padded(fitted(name, wide - 1), wide), ink.of(name))
            text.append(f"{figures.figure(loaded.before.get(name)):>10}", ink("muted"))
            text.append(f"{figures.figure(after):>10}\n")
        if len(items) > room:
            text.append(f"and {len(items) - room + 1} more", ink("muted"))
        return text

    def _proof_text(self, loaded: LoadedView, proof: Proof | None) -> Text:
        ink = Ink(self)
        if proof is None:
            return Text(
                "There is nothing to compare with: no model is trained here, and this file keeps no predictions."
            )
        rows = f"{figures.whole(proof.rows)} prediction{'s' * (proof.rows != 1)}"
        if proof.equal:
            text = Text().append(
                f"Equal, bit for bit: all {rows} are those of {proof.against}.\n", ink("prediction", "bold")
            )
        else:
            text = Text().append(f"Different from {proof.against}: ", ink("bad", "bold"))
            text.append(f"up to {figures.figure(proof.max_difference)} over {rows}.\n")
        other = "recorded" if "record" in proof.against else "here"
        one = len(loaded.features) == 1
        room = 10 if one else min(max(self.query_one("#proof").size.width - 20, 10), 30)
        name = fitted(loaded.features[0], room) if one else f"{len(loaded.features)} features"
        text.append(f"{padded(name, room, right=True)}{other:>10}{'loaded':>10}\n", ink("muted"))
        for x, expected, y_pred in proof.samples:
            text.append(f"{features_text(x, room):>{room}}{figures.figure(expected):>10}{figures.figure(y_pred):>10}\n")
        return text

    def status(self, state: State) -> Text:
        """What was loaded, and what to do next."""
        if not state.ready:
            return waiting(state)
        if state.loaded is None:
            return Text(" space opens a file" + ("" if state.saved else "; step 5 saves one"))
        return Text(f" Loaded {sanitize(state.loaded.file.path, 300)}. enter predicts any x")

    def action_choose(self) -> None:
        """Open the load dialog."""
        self.owner.action_load()
