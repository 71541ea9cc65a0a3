"""All six screens on a table of one's own, standardised, and on a network: recorded from a real engine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.tui.driving import Drive, done, driving, squeeze
from tests.tui.replay import MLP, TABLE
from textual.widgets import Input, OptionList, Select

from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Epochs,
    InspectTable,
    MakeData,
    Predict,
    SetLearningRate,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec
from workflow_tui import run_text
from workflow_tui.dialogs.files import OpenDialog
from workflow_tui.dialogs.number import NumberDialog
from workflow_tui.dialogs.pick import PickColumns, PickOne
from workflow_tui.widgets.chart import Chart, Horizontal, Lines, Scatter
from workflow_tui.widgets.form import Form
from workflow_tui.widgets.number_input import NumberInput
from workflow_tui.widgets.predictor import Rows, rows_of


def run(recording: Path, **changes: object) -> TrainingView:
    """The recorded run as it ended, changed."""
    told = [e.training for e in done(3, recording) if isinstance(e, Update | Epochs)]
    return msgspec.structs.replace([view for view in told if isinstance(view, TrainingView)][-1], **changes)


async def choose(drive: Drive, name: str) -> None:
    """Type a file's name into the file dialog that is on the screen."""
    await drive.until(lambda: isinstance(drive.app.screen, OpenDialog))
    drive.app.screen.query_one(Input).focus()
    await drive.press(*name, "enter")
    await drive.until(lambda: not isinstance(drive.app.screen, OpenDialog))
    await drive.settle()


async def test_the_table_is_shown_with_its_columns_scaling_and_first_feature() -> None:
    async with driving(steps=6, recording=TABLE) as drive:
        await drive.go("data")
        assert "progress against age, 1 of 3 features" in drive.panel("#scatter")
        assert "0 20.00 18.50 70.00 136.5 ● train" in squeeze(drive.panel("#rows"))
        scaling = squeeze(drive.panel("#scaling"))
        for row in ("column mean std", "age 43.46 14.86", "progress 240.8 49.63"):
            assert row in scaling
        form = drive.panel("#data-form")
        for words in ("your table", "age, bmi, pressure", "the last column", "standardise   on"):
            assert words in form
        assert "weight " not in form
        await drive.pilot.resize_terminal(80, 24)
        await drive.settle()
        assert "+2 more features" in drive.panel("#rows")
        assert "more columns" in drive.panel("#scaling")
        assert "needs" not in drive.panel("#scatter"), "there is room for the points beside all that is said of them"
        notes = ("2 rows with missing values were dropped.", "[/] \x1b[31mNot used: name (text).")
        assert drive.app.state.data is not None
        await drive.tell(Update(data=msgspec.structs.replace(drive.app.state.data, notes=notes)))
        assert "2 rows with missing values were dropped." in drive.panel("#notes")
        assert "\x1b" not in drive.text


async def test_build_train_and_evaluate_say_what_is_standardised_and_what_is_not() -> None:
    async with driving(steps=6, recording=TABLE) as drive:
        await drive.go("build")
        parameters = squeeze(drive.panel("#parameters"))
        assert "linear.weight [1, 3] float32 cpu yes 0.44…" in parameters
        assert "linear.bias [1] float32 cpu yes 0.5304 0.0000" in parameters
        assert "closed" in parameters
        assert "untrained train MSE 0.4675, standardised" in drive.panel("#untrained")
        reference = squeeze(drive.panel("#reference"))
        assert "Largest stable learning rate 1.0139" in reference
        assert "in your units: intercept -7.3087, age 1.9657, bmi 9.1097" in reference
        assert "Parameters, standardised" in parameters
        assert drive.app.screen.query_one("#field-values", Input).placeholder == "linear.weight=0"
        pairs = drive.app.screen.query_one(Chart).spec.layers
        assert any(isinstance(layer, Scatter) for layer in pairs)

        await drive.go("train")
        assert "Loss · MSE, standardised" in drive.panel("#loss")
        assert "times 2463 in own units" in drive.panel("#loss")
        assert "Parameters, standardised → closed form" in drive.panel("#parameters")
        assert "4 tracked" in drive.panel("#parameters")
        layers = drive.app.screen.query_one("#parameters", Chart).spec.layers
        assert len({layer.role for layer in layers if isinstance(layer, Lines)}) == 4
        assert len([layer for layer in layers if isinstance(layer, Horizontal)]) == 4
        values = squeeze(drive.panel("#values"))
        for row in ("age 1.9656 1.9657 -3.82e-05", "linear.weight[1] 0.8913 0.8929 -0.0016", "train MSE 15.84"):
            assert row in values
        assert "y_pred against y" in drive.panel("#fit")
        panel = drive.panel("#train-run")
        for words in ("early stop 20", "grad norm 9.66e-06", "best epoch 14 of 0–34, val 0.0095"):
            assert words in panel
        assert "stopped early. 4 or n: evaluate it" in drive.status
        assert "Stopped early: the validation loss has not fallen for 20 epochs" in drive.panel("#banner")

        await drive.go("evaluate")
        gaps = squeeze(drive.panel("#gaps"))
        assert "intercept -6.5254 -7.3087 +0.7833" in gaps
        assert "Coefficients" in gaps
        assert "Not converged: intercept is 0.78" in drive.panel("#convergence")
        assert "Metrics, in your own units" in drive.panel("#metrics")
        assert "the losses on Train are standardised" in drive.status


async def test_a_panel_that_comes_with_the_run_is_aligned_for_the_size_it_has() -> None:
    async with driving(steps=2, recording=TABLE) as drive:
        await drive.go("train")
        await drive.tell(Update(training=run(TABLE, state="finished")))  # once: nothing else is drawn after it
        assert "intercept " in drive.panel("#values")
        assert "linear.weight[0] " in drive.panel("#values")


async def test_rows_of_several_features_are_predicted() -> None:
    async with driving(steps=6, recording=TABLE) as drive:
        for step, source in (("evaluate", "trained"), ("load", "loaded")):
            await drive.go(step)  # type: ignore[arg-type]
            assert "age, bmi, pressure" in drive.panel("#predictor")
            await drive.fill("#predictor Input", "30 25 80; 60, 30, 90")
            rows = ((30.0, 25.0, 80.0), (60.0, 30.0, 90.0))
            assert drive.client.asked[-1] == Predict(x=rows, source=source)  # type: ignore[arg-type]
            answers = squeeze(drive.panel("#predictor"))
            assert "age, bmi, pressure y_pred" in answers
            assert "30, 25, 80 209.5" in answers
            assert "true" not in answers
            count = len(drive.client.asked)
            await drive.fill("#predictor Input", "30 25")
            assert "A row needs 3 numbers, not 2, and a semicolon ends it: age, bmi, pressure" in drive.status
            assert len(drive.client.asked) == count
            await drive.press("escape")
        assert "20, 18.5, 70 139.6 139.6" in squeeze(drive.panel("#proof"))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("100,3 50,2", ((100.0, 3.0), (50.0, 2.0))),
        ("100, 3; 50, 2", ((100.0, 3.0), (50.0, 2.0))),
        ("100 3; 50 2;", ((100.0, 3.0), (50.0, 2.0))),
        ("100,3; 50 2", ((100.0, 3.0), (50.0, 2.0))),
        ("100, 3", ((100.0, 3.0),)),
        ("100 , 3", ((100.0, 3.0),)),
        (" 100 3 ", ((100.0, 3.0),)),
    ],
)
def test_rows_are_read_with_semicolons_or_commas(text: str, rows: Rows) -> None:
    assert rows_of(text, ("dose", "age")) == rows


@pytest.mark.parametrize("text", ["100 3 50 2", "100,3 50", "100", "100,3,50 2", "100,3; 50"])
def test_rows_that_are_no_rows_say_what_a_row_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"^A row needs 2 numbers, not \d, and a semicolon ends it: dose, age$"):
        rows_of(text, ("dose", "age"))


async def test_a_network_shows_what_it_tracks_and_how_much_of_it_is_drawn() -> None:
    async with driving(steps=6, recording=MLP) as drive:
        await drive.go("build")
        assert "97 parameters in 6 tensors · 388 B" in drive.panel("#parameters")
        assert "layers.0.weight" in drive.panel("#parameters")
        assert drive.app.screen.query_one("#field-values", Input).placeholder == "layers.0.weight=0"
        drive.app.screen.query_one("#parameters").focus()
        await drive.press("end")
        await drive.until(lambda: "layers.4.bias" in drive.panel("#parameters"))
        await drive.press("escape")
        assert not drive.app.screen.query_one("#reference").display
        assert "hidden        8, 8" in drive.panel("#build-form")
        await drive.go("train")
        chart = drive.app.screen.query_one("#parameters", Chart)
        lines = [layer for layer in chart.spec.layers if isinstance(layer, Lines)]
        assert f"12 tracked, {len(lines)} drawn" in drive.panel("#parameters")
        assert drive.panel("#parameters").splitlines()[1].count("orm") == len(lines) >= 4
        assert all(layer.label.endswith(" norm") for layer in lines)
        for words in ("lr 6.852e-06", "batch 8"):
            assert words in drive.panel("#train-run")
        assert "and 5 more" in drive.panel("#values")
        await drive.go("evaluate")
        assert "layers.0.weight norm" in drive.panel("#gaps")
        assert not drive.app.screen.query_one("#convergence").display
        await drive.go("load")
        assert "layers.0.weight norm" in drive.panel("#change")


async def test_the_learning_rate_of_a_run_is_changed_in_a_dialog() -> None:
    async with driving(steps=3, recording=TABLE) as drive:
        for state in run_text.ENDED:
            await drive.tell(Update(training=run(TABLE, state=state)))
            await drive.press("l")
            assert "This run has ended: the learning rate of the next one is a setting" in drive.status
            assert not drive.dialog
            assert drive.client.asked == []
        await drive.tell(Update(training=run(TABLE, state="paused")))
        for text, keys, rate in (("0.05", ("enter",), 0.05), ("0.05", ("escape",), None), ("-1", ("enter",), None)):
            drive.client.asked.clear()
            await drive.press("l")
            await drive.until(lambda: isinstance(drive.app.screen, NumberDialog))
            await drive.until(lambda: isinstance(drive.app.focused, NumberInput))
            await drive.press("home", "shift+end", "delete", *text, *keys)
            if rate is None and drive.dialog:
                assert "learning rate must lie between 0 and 1,000,000" in drive.text
                await drive.press("escape")
            await drive.until(lambda: not drive.dialog)
            assert drive.client.asked == ([] if rate is None else [SetLearningRate(learning_rate=rate)])
        await drive.tell(Update(training=run(TABLE, learning_rate=0.05)))
        assert "lr 0.05 · SGD" in drive.panel("#train-run")
        changes = ((3, 0.2), (20, 0.05))
        await drive.tell(Update(training=run(TABLE, learning_rate=0.05, lr_changes=changes[1:])))
        first = f"lr {run(TABLE).spec.learning_rate:.4g}"
        assert f"{first}, 0.05 from epoch 20 · SGD" in drive.panel("#train-run")
        await drive.tell(Update(training=run(TABLE, learning_rate=0.05, lr_changes=changes)))
        assert f"{first}, 0.05 from epoch 20 +1 more" in drive.panel("#train-run")
        await drive.tell(Update(training=None))
        await drive.press("l")
        assert "There is no run yet" in drive.status


async def test_a_run_that_diverged_says_why_and_what_to_try() -> None:
    async with driving(steps=3, recording=TABLE, size=(80, 24)) as drive:
        reason, advice = "diverged at epoch 4", "The largest stable learning rate is 0.6759: try one below it."
        await drive.tell(
            Update(training=run(TABLE, state="diverged", first_bad=4, reason=reason, advice=advice), history=None)
        )
        assert "Diverged at epoch 4. The largest stable learning rate is 0.6759" in squeeze(drive.panel("#banner"))
        assert "diverged: NaN or infinite from epoch 4 on" in drive.status
        await drive.press("v")
        values = squeeze(drive.panel("#values"))
        assert "in your own units" in values
        assert "pressure -0.8779 -0.8755" in values
        await drive.press("v")
        assert "Parameters" in drive.panel("#parameters")


async def test_a_field_being_edited_gives_the_form_the_room_of_a_low_terminal() -> None:
    async with driving(steps=3, recording=TABLE, size=(80, 24)) as drive:
        await drive.press("tab", "tab", "tab", "f")
        form = drive.app.screen.query_one(Form)
        before = form.size.height
        assert "more · enter edits" in drive.panel("#train-run")
        await drive.press("enter")
        await drive.until(lambda: form.size.height > before + 5)
        assert drive.panel("#train-form").count("\n") > 10
        for _ in range(13):
            await drive.press("tab")
        assert drive.app.focused is not None
        assert drive.app.focused.id == "field-deterministic"
        assert "repeatable    off" in drive.panel("#train-form"), "the field is scrolled into view"
        assert "more ·" not in drive.panel("#train-run")
        await drive.press("escape")
        await drive.until(lambda: form.size.height == before)
        assert "learning rate 0.1" in drive.panel("#train-form")


async def test_a_table_is_opened_and_its_columns_are_chosen_by_keys(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    file = str(tmp_path / "mine.csv")
    async with driving(steps=1, recording=TABLE, client=course) as drive:
        drive.app.files.folder = tmp_path
        kind = drive.app.screen.query_one("#field-kind", Select)
        kind.focus()
        await drive.press("enter", "end", "enter")
        await drive.until(lambda: isinstance(drive.app.screen, OpenDialog), "a table needs a file")
        await drive.press("escape")
        await drive.until(lambda: not drive.dialog)
        assert "Which table? f chooses its file" in drive.status
        assert "· not in effect" in drive.panel("#data-form")
        assert drive.client.asked == []
        await drive.press("escape", "f")
        await choose(drive, "mine.csv")
        table = DataSpec(kind="table", file=file)
        await drive.asks(MakeData(spec=table))
        await drive.press("v")
        await drive.until(lambda: isinstance(drive.app.screen, PickColumns))
        assert drive.client.asked[-1] == InspectTable(path=file)
        await drive.sees("5 columns, 40 rows", "feature  age", "target   progress", "name      text")
        await drive.press("space", "down", "y", "down", "down", "space")
        await drive.sees("name holds text, and a model needs numbers", "target   bmi", "feature  progress")
        assert "feature  age" not in drive.text
        await drive.press("enter")
        await drive.asks(MakeData(spec=msgspec.structs.replace(table, features=("pressure", "progress"), target="bmi")))


def course(client: object) -> None:
    """The course's data first: the recorded table comes when it is asked for."""
    client.start[1:2] = []  # type: ignore[attr-defined]
    del client.answers["MakeData"]  # type: ignore[attr-defined]
    client.start[1:1] = done(1)  # type: ignore[attr-defined]


async def test_a_table_that_is_refused_keeps_its_settings_to_be_mended() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        form = drive.app.screen.query_one(Form)
        drive.client.problems["MakeData"] = WorkflowError("Missing", "bmi is missing in line 7.", "Drop such rows.")
        form.put({"kind": "table", "file": "/a.csv", "features": (), "target": ""})
        await drive.sees("is missing in line 7.", "Drop such rows.")
        await drive.press("enter")
        assert form.values["kind"] == "table"
        assert "not in effect" in drive.status
        del drive.client.problems["MakeData"]
        form.query_one("#field-missing", Select).focus()
        await drive.press("enter", "down", "enter", "escape")
        dropped = MakeData(spec=DataSpec(kind="table", file="/a.csv", missing="drop"))
        await drive.asks(dropped)
        await drive.press("space")
        assert drive.client.asked[-1] == dropped, "space tries the settings that are on the screen"
        await drive.press("r")
        await drive.sees("These are yours and would be lost", "data your table", "file /a.csv", "missing drop the row")
        await drive.press("enter")
        assert form.values["kind"] == "table"
        assert drive.client.asked[-1] == dropped
        await drive.press("r", "r")
        await drive.asks(MakeData(spec=DataSpec()))
        assert form.values["kind"] == "line"


async def test_hidden_settings_keep_their_values() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        await drive.fill("#field-weight", "2")
        form = drive.app.screen.query_one(Form)
        form.put({"kind": "polynomial"})
        await drive.settle()
        assert "weight" not in drive.panel("#data-form")
        await drive.fill("#field-coefficients", "1, 2 3")
        spec = DataSpec(kind="polynomial", weight=2.0, coefficients=(1.0, 2.0, 3.0))
        assert drive.client.asked[-1] == MakeData(spec=spec)
        await drive.fill("#field-coefficients", "1, much")
        assert "coefficients: 'much' is not a number" in drive.status
        assert "1, much" in drive.panel("#data-form")
        await drive.press("escape")
        assert "1, 2, 3" in drive.panel("#data-form")
        form.put({"kind": "line"})
        await drive.settle()
        assert "weight        2" in drive.panel("#data-form")


async def test_a_class_of_ones_own_is_found_in_its_file_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("raise SystemExit\nclass A(Module): ...\nclass B(Module): ...\n")
    (tmp_path / "none.py").write_text("x = 1\n")
    file = str(tmp_path / "two.py")
    async with driving(steps=2) as drive:
        await drive.go("build")
        drive.app.files.folder = tmp_path
        await drive.press("f")
        await choose(drive, "none.py")
        await drive.until(lambda: "there is no class in it" in drive.status)
        await drive.press("f")
        await choose(drive, "two.py")
        await drive.until(lambda: isinstance(drive.app.screen, PickOne))
        drive.app.screen.query_one(OptionList).focus()
        await drive.press("down", "enter")
        await drive.asks(BuildModel(spec=ModelSpec(kind="custom", file=file, class_name="B")))
        await drive.fill("#field-arguments", "width=4, act=relu")
        arguments: dict[str, object] = {"width": 4, "act": "relu"}
        spec = ModelSpec(kind="custom", file=file, class_name="B", arguments=arguments)  # type: ignore[arg-type]
        await drive.asks(BuildModel(spec=spec))
        source = "class B(Module):\n\tpass  # \x1b[31m[/]\n"
        assert drive.app.state.model is not None
        model = msgspec.structs.replace(drive.app.state.model, source=source, class_name="B", spec=spec)
        await drive.tell(Update(model=model, model_spec=spec))
        assert "class B(Module):" in drive.panel("#class")
        assert "\x1b" not in drive.text


async def test_another_kind_of_model_starts_without_the_values_of_the_last_one() -> None:
    async with driving(steps=2) as drive:
        await drive.go("build")
        del drive.client.answers["BuildModel"]
        await drive.fill("#field-weight", "1.5")
        drive.app.screen.query_one("#field-kind", Select).focus()
        await drive.press("enter", "down", "enter")
        await drive.asks(BuildModel(spec=ModelSpec(kind="linear")))
