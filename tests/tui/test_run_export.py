"""A run written to a file: CSV and JSON by the engine, a picture of its charts by the screen."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tui.driving import Drive, done, driving
from tests.tui.fake_runs import HOSTILE, answer, keeping, kept, several
from textual.widgets import Input

from workflow_core.errors import WorkflowError
from workflow_core.history import Column
from workflow_core.protocol import ExportRun, ReadSeries, RunView
from workflow_tui import typeahead
from workflow_tui.dialogs.export_run import file_name
from workflow_tui.dialogs.files import SaveDialog
from workflow_tui.dialogs.runs import RunsDialog
from workflow_tui.picture import COLUMNS, picture
from workflow_tui.run_flows import caption, targets
from workflow_tui.state import State, reduce
from workflow_tui.theme import role_hex

SVG = "{http://www.w3.org/2000/svg}"


def series(run: RunView) -> dict[str, list[Column]]:
    return answer(run, ReadSeries(run=run.run, start=0, stop=run.epochs, columns=COLUMNS)).series


def drawn(run: RunView, *, dark: bool = False, **options: object) -> str:
    return picture(run, series(run), caption(run), dark=dark, **options)  # type: ignore[arg-type]


def texts(svg: str) -> dict[float, str]:
    """The lines of a picture by their heights, parsed as any viewer would; texts beside each other as words."""
    lines: dict[float, str] = {}
    for text in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        y = float(text.attrib["y"])
        lines[y] = f"{lines.get(y, '')} {text.text or ''}".replace("\xa0", " ")
    return {y: " ".join(line.split()) for y, line in sorted(lines.items())}


# --- the picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", several(), ids=lambda run: f"run {run.run}")
def test_a_picture_is_svg_with_both_charts_the_settings_and_the_result(run: RunView) -> None:
    svg = drawn(run, targets={"weight": 0.7, "bias": 0.3})
    lines = list(texts(svg).values())
    assert lines[0].startswith(f"run {run.run}")
    assert "Loss · MSE · log y" in lines
    assert "▲ val ● train" in lines
    assert "Parameters → target" in lines
    assert "■ weight ▼ bias" in lines
    assert any(line.startswith("MSE: train ") for line in lines)
    assert any(line.startswith("lr ") for line in lines)
    assert any("begun 2023-11-1" in line for line in lines)
    assert "at the end: weight 0.44 · bias 0.36" in lines
    braille = [line for line in lines if re.search("[\u2801-\u28ff]", line)]
    assert len(braille) > 10, "no curve is drawn"
    assert ("NaN or infinite" in "".join(lines)) == (run.state == "diverged")


def test_a_picture_asks_the_network_for_nothing_and_is_the_same_each_time() -> None:
    svg = drawn(kept(1))
    assert svg == drawn(kept(1))
    links = set(re.findall(r"https?://[^\s\"'<>)]*", svg))
    assert links == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|@font-face|url\((?!#)|xlink:href|<image|<script", svg)
    assert "monospace" in svg


@pytest.mark.parametrize("dark", [False, True])
def test_a_picture_has_the_colours_of_the_roles_in_its_theme(dark: bool) -> None:
    svg = drawn(kept(1), dark=dark)
    for role in ("train", "validation", "weight", "bias"):
        assert role_hex(role, dark=dark) in svg
    assert f'fill="{"#121212" if dark else "#ffffff"}"' in svg


def test_rates_set_by_hand_stand_in_the_picture() -> None:
    lines = "\n".join(texts(drawn(several()[1])).values())
    assert "lr 0.005" in lines
    assert "lr 0.01, 0.005 from epoch 40 · Adam · batch 32" in lines


@given(name=st.text(max_size=40), reason=st.text(max_size=40), parameter=st.text(min_size=1, max_size=10))
@settings(max_examples=25, deadline=None)
def test_whatever_names_there_are_a_picture_is_well_formed(name: str, reason: str, parameter: str) -> None:
    run = kept(1, name=name, reason=reason, epochs=5, parameters={parameter: math.nan})
    found = series(run)
    found[parameter] = found.pop("weight")
    lines = texts(picture(run, found, caption(run), dark=True))
    assert "Loss · MSE · log y" in lines.values()


def test_a_hostile_name_is_text_in_the_picture() -> None:
    svg = drawn(kept(1, name="</title><script>{x}&" + HOSTILE))
    title = ElementTree.fromstring(svg).find(f"{SVG}title")
    assert title is not None
    assert title.text is not None
    assert title.text.startswith("run 1 (</title><script>{x}&[/]")
    assert "\x1b" not in svg
    assert "<script" not in svg


def test_a_run_of_one_epoch_and_one_that_was_bad_at_once_have_a_picture() -> None:
    assert "Loss · MSE · log y" in texts(drawn(kept(1, epochs=1))).values()
    run = kept(1, epochs=1, state="diverged")
    nan = Column(0, 1, math.nan, math.nan, math.nan, math.nan)
    lines = texts(picture(run, {"train_loss": [nan], "weight": [nan]}, caption(run), dark=True))
    assert sum("NaN or infinite" in line for line in lines.values()) == 2


def test_targets_are_only_those_of_the_same_data_model_and_loss() -> None:
    state = State()
    for event in done(2):
        state = reduce(state, event)
    assert set(targets(kept(1), state)) == {"weight", "bias"}
    assert set(targets(kept(1, train={"learning_rate": 0.5}), state)) == {"weight", "bias"}
    for other in ({"data": {"noise": 0.1}}, {"model": {"kind": "linear"}}, {"train": {"loss": "l1"}}):
        assert targets(kept(1, **other), state) == {}
    assert targets(kept(1), State()) == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "run-7.csv"),
        ("adam in batches", "run-7-adam-in-batches.csv"),
        ("../../etc/passwd", "run-7-etc-passwd.csv"),
        (HOSTILE, "run-7-31m-click-app-quit-b.csv"),
        ("x" * 60, f"run-7-{'x' * 40}.csv"),
    ],
)
def test_the_file_that_is_proposed_has_a_name_for_any_file_system(name: str, file: str) -> None:
    assert file_name(kept(7, name=name), "csv") == file


# --- the way to it -----------------------------------------------------------------------------------


@asynccontextmanager
async def at_runs(folder: Path) -> AsyncIterator[Drive]:
    """The table of six runs that are kept; run 1 is the one that is there."""
    with mock.patch.object(typeahead, "PATIENCE", 0.1):
        async with driving(client=keeping(several())) as drive:
            for event in done(3):
                drive.client.on_event(event)
            drive.client.asked.clear()
            drive.app.files.folder = folder
            drive.app.runs.open()
            await drive.until(lambda: isinstance(drive.app.screen, RunsDialog))
            await drive.settle()
            yield drive


async def save(drive: Drive, form: str, name: str) -> None:
    """Export the run under the cursor in a form, as the file that is proposed."""
    await drive.press("e", form)
    await drive.until(lambda: isinstance(drive.app.screen, SaveDialog))
    await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == name)
    await drive.press("enter")


async def test_csv_and_json_are_written_by_the_engine_and_a_file_that_is_there_is_asked_about(tmp_path: Path) -> None:
    async with at_runs(tmp_path) as drive:
        await drive.press("down", "down")
        await save(drive, "c", "run-5-adam-in-batches.csv")
        path = tmp_path / "run-5-adam-in-batches.csv"
        await drive.asks(ExportRun(run=5, path=str(path), kind="csv"))
        await drive.sees("Written: ")
        drive.client.problems["ExportRun"] = WorkflowError("Cannot save there", "the disk is full.", "Free some room.")
        path.with_suffix(".json").write_text("mine")
        await save(drive, "j", "run-5-adam-in-batches.json")
        await drive.sees("Replace the file?")
        await drive.press("r")
        await drive.asks(ExportRun(run=5, path=str(path.with_suffix(".json")), kind="json", overwrite=True))
        await drive.sees("the disk is full. Free some room.")
        await drive.press("e", "l")
        assert isinstance(drive.app.screen, RunsDialog)
        drive.app.runs.export(kept(9, epochs=0))
        await drive.sees("It has no epoch yet: there is nothing to write")


async def test_a_picture_is_written_of_an_earlier_run_and_of_the_one_that_is_there(tmp_path: Path) -> None:
    async with at_runs(tmp_path) as drive:
        await save(drive, "s", "run-2.svg")
        await drive.until((tmp_path / "run-2.svg").exists)
        await drive.sees("Written: ")
        asked = drive.client.commands(ReadSeries)[-1]
        assert isinstance(asked, ReadSeries)
        assert (asked.run, asked.start, asked.stop, asked.names) == (2, 0, 70, ())
        assert "noise 0.05" in "".join(texts((tmp_path / "run-2.svg").read_text()).values())
        drive.client.problems["ReadSeries"] = WorkflowError("Gone", "run 2 is not kept any more.")
        (tmp_path / "run-2.svg").unlink()
        await save(drive, "s", "run-2.svg")
        await drive.sees("run 2 is not kept any more.")
        assert list(tmp_path.iterdir()) == []
        drive.client.asked.clear()
        await drive.press("end")
        await save(drive, "s", "run-1.svg")
        await drive.until((tmp_path / "run-1.svg").exists)
        assert drive.client.asked == [], "the record of the run that is there was asked for"
        lines = texts((tmp_path / "run-1.svg").read_text()).values()
        assert "MSE: train 0.0036 · val 0.0189 · best val 0.0189 at epoch 99 of 0–99" in lines
        assert "Parameters → target" in lines
