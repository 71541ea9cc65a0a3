"""Every screen at every size: no crash anywhere, and at 80x24 everything that matters is there and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len
from tests.tui.driving import Drive, driving, frame, squeeze
from tests.tui.replay import MLP, RECORDING, TABLE

from workflow_core.protocol import StepName
from workflow_tui.screens.base import StepScreen
from workflow_tui.widgets.stepper import NAMES

THEME_CHANGES_AT = (60, 18)
SIZES = ((20, 5), (40, 12), (60, 18), (80, 24), (120, 40), (200, 60))

ESSENTIAL: dict[StepName, tuple[str, ...]] = {
    "data": (
        *("weight 0.7", "bias 0.3", "start 0", "stop 1", "step 0.02", "noise 0", "noise seed 42", "split 70/15/15"),
        *(
            "data straight line",
            "spacing grid",
            "order sequential",
            "standardise off",
            "↓ 1 more",
            "First rows",
            "0 0.0000 0.3000 ● train",
        ),
        *("y against x", "50 rows", "● train 35 70% 0…0.68", "▲ val 7 14% 0.7…0.82", "◆ test 8 16% 0.84…0.98"),
        *("0.3…0.776", "0.79…0.874", "0.888…0.986", "extrapolation"),
    ),
    "build": (
        *("class LinearRegressionModel(nn.Module):", "self.weight = nn.Parameter(torch.randn(1))"),
        *(
            "return self.weight * x + self.bias",
            "model nn.Parameter",
            "init seed 42",
            "weight drawn",
            "bias drawn",
            "Largest stable lr 0.8929",
        ),
        *("weight [1] 0.3367 0.7", "bias [1] 0.1288 0.3", "2 parameters · 8 B", "untrained train MSE 0.0922"),
    ),
    "train": (
        *("Loss · MSE", "train 0.0036 · val 0.0189", "Parameters → true", "weight -0.2602", "bias +0.0607"),
        *(
            "Fit",
            "after 100 epochs",
            "run 1 finished",
            "lr 0.01 · SGD · MSE · 100 epochs",
            "grad 0.0699 · best epoch 99 of 0–99",
            "y_pred = model(X_train)",
        ),
        *(
            "loss = criterion(y_pred, y_train)",
            "loss.backward()",
            "optimizer.step()",
            "s next line · enter settings",
            "100 / 100 epochs",
            "100%",
            "finished. 4 or n",
        ),
    ),
    "evaluate": (
        *("split rows MSE MAE RMSE R²", "● train 35 0.0035 0.0497 0.0594 0.8234"),
        *("▲ validation 7 0.0189 0.1370 0.1374 -23.08", "◆ test 8 0.0311 0.1760 0.1764 -29.25"),
        *("run 1 after 100 epochs", "y_pred against true y", "weight 0.4398 0.7000 -0.2602"),
        *("bias 0.3607 0.3000 +0.0607", "Predict any x"),
    ),
    "save": (
        *(
            "what state_dict",
            "The parameters alone",
            "load_state_dict.",
            "run 1 after 100 epochs",
        ),
        *("weight 0.4398 0.7000 -0.2602", "model.pt", "state_dict, 1.9 KiB", "SHA-256 verified"),
        *("weight [1] float32 4 B", "0.439817935", "bias [1] float32 4 B", "Saved in /home/learner/model.pt"),
    ),
    "load": (
        *("model.pt", "SHA-256 verified", "weight [1] float32 4 B", "weight 0.3367 0.4398", "bias 0.1288 0.3607"),
        *("Equal, bit for bit", "50 predictions", "those of this model", "0.3607 0.3607", "Predict any x"),
        *("Loaded /home/learner/model.pt",),
    ),
}
"""What must be legible in full on each screen at 80x24, besides stepper, purpose, status line and keys."""


def rows_of(drive: Drive) -> str:
    """The screen with each panel's columns side by side, read panel by panel."""
    screen = drive.app.screen
    panels = [drive.panel(f"#{widget.id}") for widget in screen.query(".panel, .form") if widget.id and widget.display]
    return squeeze("\n".join([drive.text, *panels]))


@pytest.mark.soak
@pytest.mark.parametrize("recording", [RECORDING, TABLE, MLP], ids=lambda path: path.stem)
async def test_every_screen_at_every_size_in_both_themes(recording: Path) -> None:
    async with driving(steps=6, size=SIZES[-1], recording=recording) as drive:
        for number, step in enumerate(NAMES):
            await drive.go(step)
            for width, height in SIZES[:: -1 if number % 2 else 1]:
                await drive.pilot.resize_terminal(width, height)
                if (width, height) == THEME_CHANGES_AT:
                    drive.app.action_theme()
                await drive.until(lambda size=(width, height): drive.app.screen._compositor.size == size)  # type: ignore[misc]
                await drive.settle()
                lines = frame(drive.app)
                assert len(lines) == height
                assert {cell_len(line.text) for line in lines} == {width}
                if width >= 80:
                    assert f"{number + 1} {step.capitalize()}" in drive.text.splitlines()[0]
                    assert "q leave" in drive.text.splitlines()[-1]
                    assert "? help" in drive.text.splitlines()[-1]


async def test_what_is_essential_is_whole_at_80x24_in_both_themes() -> None:
    async with driving(steps=6, size=(80, 24)) as drive:
        for step in NAMES:
            await drive.go(step)
            for _ in ("dark", "light"):
                text = rows_of(drive)
                missing = [words for words in ESSENTIAL[step] if words not in text]
                assert not missing, f"{step}: {missing}\n{drive.text}"
                top = drive.text.splitlines()[0]
                for at, name in enumerate(NAMES, start=1):
                    assert f"{at} {name.capitalize()} ✓" in top
                assert "engine" in top
                screen = drive.app.screen
                assert isinstance(screen, StepScreen)
                assert screen.purpose in drive.text, "the purpose is cut"
                await drive.press("d")


@pytest.mark.soak
async def test_dialogs_at_every_size() -> None:
    async with driving(steps=4, size=SIZES[-1]) as drive:
        for key in ("question_mark", "w", "q", "ctrl+p"):
            await drive.press(key)
            for size in (SIZES[0], SIZES[3], SIZES[5]):
                await drive.pilot.resize_terminal(*size)
                await drive.press("down")
            await drive.press("escape")
            if drive.dialog:
                await drive.press("escape")
            await drive.until(lambda: not drive.dialog)
        assert drive.client.asked == []


async def test_a_dialogs_answers_are_all_there_at_80x24() -> None:
    async with driving(steps=4, size=(80, 24)) as drive:
        await drive.press("q")
        for words in ("save it first", "leave", "cancel", "start brings it back"):
            assert words in squeeze(drive.text)
