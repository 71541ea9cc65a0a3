"""What is longer than its place keeps its most important part and says that there is more; code is shown to be read."""

from __future__ import annotations

from textwrap import wrap

import msgspec
import pytest
from tests.tui.driving import driving
from tests.tui.replay import TABLE

from workflow_core.protocol import DataView, EvaluationView, ModelView, Reference, Update
from workflow_core.scripts import lines
from workflow_core.specs import DATA_KINDS, MISSING, SAMPLES, DataSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_tui.screens.build import reference_text
from workflow_tui.widgets.digest import ENOUGH, LEFT_OUT, digest

FIVE = ("age", "bmi", "pressure", "glucose_fasting", "steps_per_day")
VALUES = {"intercept": -11.05, **dict.fromkeys(FIVE, 2.0389)}
REFERENCE = Reference(closed_form=VALUES, stable_lr=1.23e-8)


@pytest.mark.parametrize("own_units", [False, True])
@pytest.mark.parametrize(("width", "most"), [(78, 1), (118, 2), (70, 1), (198, 2)])
def test_least_squares_take_the_room_there_is_and_say_what_is_left_out(width: int, most: int, own_units: bool) -> None:
    text = reference_text(REFERENCE, width, most, own_units=own_units)
    assert len(wrap(text, width)) <= most
    assert "1.23e-08" in text
    assert "intercept -11.05" in text
    assert ("in your units" in text or ", own units" in text) == own_units
    named = sum(name in text for name in VALUES)
    assert named == len(VALUES) or text.endswith(f" +{len(VALUES) - named} more")
    assert named == len(VALUES) or width < 100, "there is room for all six"


async def test_five_features_are_shown_whole_or_said_to_be_more() -> None:
    for size in ((80, 24), (120, 40)):
        async with driving(steps=4, recording=TABLE, size=size) as drive:
            state = drive.app.state
            assert isinstance(state.model, ModelView)
            assert isinstance(state.data, DataView)
            assert isinstance(state.evaluation, EvaluationView)
            reference = msgspec.structs.replace(REFERENCE, targets={"linear.bias": 0.0}, targets_are="closed form")
            sentence = "Not converged: steps_per_day is far away. " + "The problem is badly conditioned. " * 6
            evaluation = msgspec.structs.replace(
                state.evaluation,
                coefficients=VALUES,
                reference=reference,
                convergence=sentence + "standardise the data.",
            )
            await drive.tell(
                Update(
                    model=msgspec.structs.replace(state.model, reference=reference),
                    data=msgspec.structs.replace(state.data, features=FIVE),
                    evaluation=evaluation,
                )
            )
            await drive.go("build")
            assert f"Parameters, {'std.' if size[0] == 80 else 'standardised'} ─" in drive.panel("#parameters")
            line = drive.panel("#reference")
            assert ("+5 more" in line or "+4 more" in line) if size[0] == 80 else "steps_per_day" in line
            await drive.go("train")
            assert "log y ─" in drive.panel("#loss")
            await drive.go("evaluate")
            await drive.until(lambda: "standardise the data." in drive.panel("#convergence"))
            # what is aligned is shown anew once its width is known
            await drive.until(lambda: "steps_per_day" in drive.panel("#gaps") or "more" in drive.panel("#gaps"))
            assert "5 numbers: age, bmi" in drive.panel("#predictor")


async def test_the_longest_loss_keeps_its_title_at_the_smallest_size() -> None:
    async with driving(steps=3, recording=TABLE, size=(80, 24)) as drive:
        run = drive.app.state.training
        assert run is not None
        await drive.tell(Update(training=msgspec.structs.replace(run, spec=TrainSpec(loss="smooth_l1"))))
        assert "Loss · Smooth L1, std. · log y ─" in drive.panel("#loss")


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("kind", DATA_KINDS)
def test_a_digest_is_made_of_the_lines_that_run(kind: str, missing: str) -> None:
    split = SplitSpec(order="shuffled")
    for file in ("table.csv", "table.parquet"):
        for standardize in (False, True):
            data = DataSpec(kind=kind, file=file, missing=missing, standardize=standardize, split=split)  # type: ignore[arg-type]
            source = lines("data", WorkflowSpec(data=data))
            shown = digest(source)
            rest = iter(source.splitlines())
            for line in shown.splitlines():
                assert not line or line.lstrip().startswith(LEFT_OUT) or line in rest, f"{line!r} is no line, or late"
            assert shown.count("\n") <= 40
            for word in ("X_train, y_train = ", "order = torch.randperm(len(X))", "X_val, y_val = "):
                assert word in shown
            assert ("/ X_std" in shown) == standardize
            assert (file in shown) == (kind == "table")
            if kind == "table" and missing != "refuse":
                assert ("nanmean" in shown) == (missing == "impute")
                assert ("drop_nulls" in shown or "is_not_null" in shown) or missing == "impute"


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_rows_of_a_sample_do_not_hide_what_is_done_with_them(sample: str) -> None:
    shown = digest(lines("data", WorkflowSpec(data=DataSpec(kind="sample", sample=sample))))  # type: ignore[arg-type]
    assert shown.count("\n") <= 2 * ENOUGH
    assert "X, y = table[:, :-1], table[:, -1:]" in shown


async def test_the_code_of_a_table_says_that_there_is_more_and_c_shows_and_scrolls_it() -> None:
    async with driving(steps=1, recording=TABLE) as drive:
        await drive.until(lambda: "c shows every line ─╯" in drive.text)
        assert "Path(" in drive.panel(".step-code")
        await drive.press("c")
        code = drive.app.screen.query_one("#side")
        before = drive.panel("#side")
        await drive.press("pagedown")
        await drive.until(lambda: code.scroll_offset.y == code.max_scroll_y or code.scroll_offset.y > 10)
        assert drive.panel("#side") != before
        await drive.press("escape")
        assert not code.display
        assert drive.app.focused is None
    async with driving(steps=1) as drive:
        assert "c shows every line" not in drive.text, "all of them are to be seen"
