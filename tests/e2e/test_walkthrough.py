"""By keys alone from launch through all six screens to a loaded model and out, as the course's reader would go."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import until_no_processes_of
from tests.e2e.program import answer, epoch, go, name_file, ready, start
from tests.e2e.terminal import Terminal

COURSE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())
RUN, DATA, ONE_STEP = COURSE["04"], COURSE["split_ranges"], COURSE["03_one_step"]
WEIGHT, BIAS = RUN["final"]
X = (0.25, 0.5, 0.75)
PREDICTED = dict(zip(X, RUN["pred_0.25_0.5_0.75"], strict=True))
TRUE_WEIGHT, TRUE_BIAS = 0.7, 0.3


def figure(value: float) -> str:
    return f"{value:.4f}"


def columns(*cells: object) -> re.Pattern[str]:
    """Cells that stand in one row of a table, in this order and beside each other."""
    return re.compile(r"\s+".join(re.escape(str(cell)) for cell in cells))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize(
    "size",
    [pytest.param((80, 24), id="80x24"), pytest.param((120, 40), id="120x40", marks=pytest.mark.soak)],
)
def test_six_screens_by_keys_alone(size: tuple[int, int], workspace: Path, folder: Path) -> None:
    with start(workspace, size=size, cwd=folder) as terminal:
        terminal.until(ready, timeout=30)
        look_at_the_data(terminal)
        build(terminal)
        train(terminal)
        evaluate(terminal)
        saved = save(terminal, folder)
        load(terminal, saved)
        terminal.press("q")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
        assert "Traceback" not in terminal.screen
    until_no_processes_of(workspace)
    assert [path.name for path in folder.iterdir()] == ["walk.pt"]


def look_at_the_data(terminal: Terminal) -> None:
    for name, rows, share, split in (("train", 35, 70, "train"), ("val", 7, 14, "val"), ("test", 8, 16, "test")):
        low, high = (f"{limit:.4g}" for limit in DATA[split])
        terminal.until(re.compile(rf"{name}\w* +{rows} +{share}% +{low} ?… ?{high} "))
    terminal.until("50 rows")
    terminal.until("X [50, 1] · y [50, 1] · float32")


def build(terminal: Terminal) -> None:
    go(terminal, "2")
    for name, value, true in zip(
        ("weight", "bias"), map(figure, RUN["init"]), map(figure, (TRUE_WEIGHT, TRUE_BIAS)), strict=True
    ):
        terminal.until(re.compile(rf"{name} +\[1\] .*{value} +{true.rstrip('0')}"))
    terminal.until(f"untrained train MSE {figure(ONE_STEP['loss'])}")


def train(terminal: Terminal) -> None:
    go(terminal, "3")
    terminal.until("space runs 100 epochs, 20 epochs/s")
    terminal.press("plus")
    terminal.until("space runs 100 epochs, 50 epochs/s")
    terminal.press("space")
    terminal.until(lambda screen: 0 < epoch(screen) < 100)
    terminal.press("g")
    terminal.until("finished.")
    terminal.until(columns(100, "/", 100, "epochs"))
    terminal.until(f"train {figure(RUN['last_train'])} · val {figure(RUN['last_val'])}")
    # the narrow screen has room for the gaps alone
    gaps = f"{WEIGHT - TRUE_WEIGHT:+.4f}", f"{BIAS - TRUE_BIAS:+.4f}"
    wide = f"weight {figure(WEIGHT)} gap {gaps[0]} · bias {figure(BIAS)} gap {gaps[1]}"
    terminal.until(wide if terminal.size[0] >= 100 else f"gap weight {gaps[0]} · bias {gaps[1]}")


def evaluate(terminal: Terminal) -> None:
    terminal.press("n")  # the step after this one: every way of moving about is taken once
    terminal.until(columns("test", 8, figure(RUN["test"])))
    terminal.until(columns("weight", figure(WEIGHT), figure(TRUE_WEIGHT)))
    terminal.until(columns("bias", figure(BIAS), figure(TRUE_BIAS)))
    predict(terminal)


def predict(terminal: Terminal) -> None:
    answer(terminal, "enter", " ".join(map(str, X)))
    for x, y_pred in PREDICTED.items():
        terminal.until(columns(x, figure(y_pred)))
    terminal.press("escape")
    terminal.until("q leave")


def save(terminal: Terminal, folder: Path) -> Path:
    path = folder / "walk.pt"
    go(terminal, "5")
    terminal.press("space")
    terminal.until("Save the model as")
    name_file(terminal, path.name)
    terminal.until("Saved in")
    terminal.until("SHA-256 verified")
    for name, value in zip(COURSE["02"]["state_dict_keys"], (WEIGHT, BIAS), strict=True):
        terminal.until(re.compile(rf"{name} +\[1\] float32 4 B[^▼]*└ {figure(value)}"))

    before = path.stat()
    ask_to_replace(terminal, path)
    terminal.press("c")
    terminal.until(lambda screen: "Replace the file?" not in screen)
    assert path.stat() == before
    ask_to_replace(terminal, path)
    terminal.press("r")
    terminal.until(lambda _: path.stat().st_ino != before.st_ino)
    assert path.stat().st_size == before.st_size
    return path


def ask_to_replace(terminal: Terminal, path: Path) -> None:
    terminal.press("w")
    terminal.until("Save the model as")
    name_file(terminal, path.name)
    terminal.until("Replace the file?")


def load(terminal: Terminal, path: Path) -> None:
    go(terminal, "6")
    terminal.press("space")
    terminal.until("Load a model from")
    name_file(terminal, path.name)
    terminal.until("Equal, bit for bit")
    terminal.until(columns("weight", figure(RUN["init"][0]), figure(WEIGHT)))
    terminal.until(columns("bias", figure(RUN["init"][1]), figure(BIAS)))
    predict(terminal)
