"""Step 5 on the screen: from a choice of kind through the dialog to the file's contents."""

from __future__ import annotations

from pathlib import Path

import msgspec
from tests.tui.driving import done, driving, squeeze, steps
from textual.widgets import Input, Select

from workflow_core.errors import WorkflowError
from workflow_core.protocol import FileView, Run, Save, SavedView, TensorView, Update
from workflow_tui.dialogs.files import SaveDialog


def saved(**changes: object) -> SavedView:
    """The recorded file, changed."""
    update = done(5)[-1]
    assert isinstance(update, Update)
    assert isinstance(update.saved, SavedView)
    return msgspec.structs.replace(update.saved, file=msgspec.structs.replace(update.saved.file, **changes))


async def test_space_saves_where_the_dialog_says_and_shows_what_is_in_the_file(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await drive.press("5")
        assert "space chooses a file" in drive.status
        assert "space saves" in drive.panel("#contents")
        assert "weight 0.4398 0.7000 -0.2602" in squeeze(drive.panel("#what"))
        assert "torch.save(model.state_dict()" in drive.text
        await drive.press("space")
        await drive.until(lambda: isinstance(drive.app.screen, SaveDialog))
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "model.pt")
        await drive.press("enter")
        path = str(tmp_path / "model.pt")
        await drive.asks(Save(path=path))
        await drive.until(lambda: not drive.dialog)
        await drive.settle()
        contents = drive.panel("#contents")
        for text in ("model.pt", "state_dict", "SHA-256 verified", "weight  [1] float32 4 B", "0.439817935"):
            assert text in contents
        assert "Saved in /home/learner/model.pt. 6 or n: load it back" in drive.status


async def test_the_full_checkpoint_is_a_choice_with_a_name_of_its_own(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await drive.press("5")
        assert "The parameters alone" in drive.panel("#kind")
        await drive.press("enter", "enter", "down", "enter")
        await drive.until(lambda: drive.app.screen.query_one("#field-kind", Select).value == "checkpoint")
        await drive.settle()
        assert "the optimizer's state" in drive.panel("#kind")
        await drive.press("escape", "space")
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "checkpoint.pt")
        await drive.press("enter")
        await drive.asks(Save(path=str(tmp_path / "checkpoint.pt"), kind="checkpoint"))


async def test_without_a_model_space_goes_and_trains_one() -> None:
    async with driving() as drive:
        await drive.press("5")
        assert "Nothing is trained yet" in drive.status
        assert "nothing is trained yet" in drive.panel("#what")
        await drive.press("space")
        await drive.asks(Run())
        assert drive.app.current_mode == "train"


async def test_a_file_that_cannot_be_written_is_told_and_nothing_counts_as_saved(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        drive.client.problems["Save"] = WorkflowError("Cannot save", "The disk is full.", "Choose another folder.")
        await drive.press("w")
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value)
        await drive.press("enter")
        await drive.sees("Cannot save", "The disk is full.", "Choose another folder.")
        await drive.press("o")
        assert not drive.dialog
        assert drive.app.state.saved is None


async def test_a_changed_model_makes_the_file_stale() -> None:
    async with driving(steps=5) as drive:
        await drive.press("5")
        await drive.tell(steps(save="stale", reasons={"save": "The model was trained further."}))
        assert "Stale: The model was trained further." in drive.text
        assert "space chooses a file" in drive.status


async def test_contents_of_any_name_and_size_are_shown_as_text() -> None:
    hostile = ("[/]", "[@click=app.quit]x", "\x1b]52;c;aGk=\x07", "model.a.b.weight", "", "wide 幅", "\u202egnp")
    tensors = tuple(
        TensorView(name=name, shape=(), dtype="float32", device="cpu", size=4, values=(float("nan"),))
        for name in hostile
    )
    async with driving(steps=5) as drive:
        await drive.press("5")
        path = "/tmp/[bold]\x1b[31m/[@click=app.quit].pt"
        view = saved(
            path=path, tensors=tensors, values=dict.fromkeys(hostile, "[/]\x1b[31m\nx"), verified=False, size=3 << 30
        )
        assert isinstance(view.file, FileView)
        await drive.tell(Update(saved=view, steps=msgspec.structs.replace(drive.app.state.steps, save="done")))
        text = drive.panel("#contents")
        for part in ("[/]", "[@click=app.quit].pt", "no checksum", "3.0 GiB", "nan", "model.a.b"):
            assert part in text
        assert "[bold]" in drive.status
        assert "\x1b" not in drive.text
        assert "\u202e" not in drive.text
        await drive.press("tab", "down", "down", "enter", "up", "space")
