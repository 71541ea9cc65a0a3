"""Step 6 on the screen: a file chosen, loaded into a fresh model, and the proof that it predicts the same."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from tests.tui.driving import done, driving, squeeze, steps
from textual.widgets import Input

from workflow_core.errors import WorkflowError
from workflow_core.protocol import Load, LoadedView, Predict, Proof, Update
from workflow_tui.dialogs.files import OpenDialog


def loaded(**changes: object) -> LoadedView:
    """The recorded load, changed."""
    update = done(6)[-1]
    assert isinstance(update, Update)
    assert isinstance(update.loaded, LoadedView)
    return msgspec.structs.replace(update.loaded, **changes)


async def test_a_file_is_chosen_loaded_and_proved_equal(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"x")
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await drive.press("6")
        assert "space opens a file; step 5 saves one" in drive.status
        for hint in ("space opens a file", "each parameter before and after", "are the predictions equal?"):
            assert hint in drive.text
        await drive.press("space")
        await drive.until(lambda: isinstance(drive.app.screen, OpenDialog))
        await drive.sees("mine.pt", "Load a model from")
        drive.app.screen.query_one(Input).focus()
        await drive.press(*"mine.pt", "enter")
        await drive.asks(Load(path=str(tmp_path / "mine.pt")))
        await drive.until(lambda: not drive.dialog)
        await drive.settle()
        assert "weight 0.3367 0.4398" in squeeze(drive.panel("#change"))
        proof = drive.panel("#proof")
        assert "Equal, bit for bit: all 50 predictions" in proof
        assert "those of this model." in proof
        assert "0.98    0.7918    0.7918" in proof
        assert "SHA-256 verified" in drive.panel("#contents")
        assert "Loaded /home/learner/model.pt. enter predicts any x" in drive.status


async def test_a_saved_file_is_proposed_and_enter_loads_it(tmp_path: Path) -> None:
    async with driving(steps=5) as drive:
        file = tmp_path / "model.pt"
        file.write_bytes(b"x")
        saved = drive.app.state.saved
        assert saved is not None
        saved = msgspec.structs.replace(saved, file=msgspec.structs.replace(saved.file, path=str(file)))
        await drive.tell(Update(saved=saved))
        await drive.press("o")
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "model.pt")
        await drive.press("enter")
        await drive.asks(Load(path=str(file)))
        await drive.until(lambda: drive.app.current_mode == "load")


async def test_a_file_that_is_no_model_is_told_in_a_dialog(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"x")
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        drive.client.problems["Load"] = WorkflowError(
            "Not a model file", "[/] bad.pt is \x1b[31mno archive.", "Choose another."
        )
        await drive.press("o")
        await drive.until(lambda: isinstance(drive.app.screen, OpenDialog))
        drive.app.screen.query_one(Input).focus()
        await drive.press(*"bad.pt", "enter")
        await drive.sees("Not a model file", "[/] bad.pt is", "Choose another.")
        assert "\x1b" not in drive.text
        await drive.press("enter")
        assert not drive.dialog
        assert drive.app.state.loaded is None


async def test_the_loaded_model_predicts_any_x() -> None:
    async with driving(steps=6) as drive:
        await drive.press("6")
        await drive.fill("#predictor Input", "0.25 0.5 0.75")
        assert drive.client.asked == [Predict(x=((0.25,), (0.5,), (0.75,)), source="loaded")]
        assert "0.5 0.5806 0.6500" in squeeze(drive.panel("#predictor"))
        before = drive.panel("#predictor")
        await drive.press("escape", "4", "6")
        assert drive.panel("#predictor") == before, "the styles of another screen changed this one"
        await drive.tell(Update(loaded=None))
        assert "0.5806" not in drive.panel("#predictor")
        await drive.fill("#predictor Input", "1")
        assert "No file is loaded yet" in drive.status
        assert len(drive.client.asked) == 1


DIFFERENT = Proof(
    against="the saved record", rows=1, equal=False, max_difference=math.inf, samples=(((0.0,), math.nan, 1.0),)
)


PROOFS: tuple[tuple[Proof | None, tuple[str, ...]], ...] = (
    (None, ("nothing to compare with",)),
    (DIFFERENT, ("Different from the saved record", "up to inf", "over 1 prediction", "NaN")),
    (msgspec.structs.replace(DIFFERENT, equal=True, rows=0, samples=()), ("Equal, bit for bit", "0 predictions")),
)


async def test_every_kind_of_proof() -> None:
    async with driving(steps=5) as drive:
        await drive.press("6")
        names = {"[/]": 1.0, "layer.0.bias": math.nan}
        for proof, sentences in PROOFS:
            await drive.tell(Update(loaded=loaded(proof=proof, before={}, after=names)))
            text = squeeze(drive.panel("#proof"))
            for words in sentences:
                assert words in text
            assert "[/]" in drive.panel("#change")
        await drive.tell(steps(load="stale", reasons={"load": "Another model was trained."}))
        assert "Stale: Another model was trained." in drive.text
