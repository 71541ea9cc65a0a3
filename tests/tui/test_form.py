"""Fields: what is typed is applied once and as a whole, what is refused says why, and digits stay digits."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.tui.driving import Drive, driving, training
from tests.tui.replay import ReplayClient
from textual.widgets import Input, Select

from workflow_core.errors import WorkflowError
from workflow_core.protocol import Command, FileAnswer, MakeData, Predictions, SetTraining, Update
from workflow_core.specs import MAX_SEED, DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_tui.settings import build, data, train
from workflow_tui.widgets.field import TYPED, FieldRow
from workflow_tui.widgets.form import Form
from workflow_tui.widgets.number_input import Range


def value(drive: Drive, field: str) -> str:
    return str(drive.app.screen.query_one(f"#field-{field}", Input).value)


def marked(drive: Drive) -> list[str]:
    """The fields that are shown as not in effect."""
    return [row.field.name for row in drive.app.screen.query(".field.-bad").results(FieldRow)]


async def test_enter_applies_and_comes_back_to_the_keys() -> None:
    async with driving(steps=1) as drive:
        await drive.press("enter")
        assert drive.app.focused is drive.app.screen.query_one("#field-kind")
        assert "back to the keys" in drive.text
        await drive.fill("#field-weight", "1.25")
        assert drive.client.asked == [MakeData(spec=DataSpec(weight=1.25))]
        assert drive.app.focused is None
        assert "make data" in drive.text


async def test_leaving_a_field_applies_it_and_tab_goes_on() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]  # the recorded engine would say that it made the course's data
        await drive.fill("#field-weight", "2", "tab")
        assert drive.client.asked == [MakeData(spec=DataSpec(weight=2.0))]
        assert drive.app.focused is drive.app.screen.query_one("#field-bias")
        await drive.press("tab", "shift+tab", "escape")
        assert len(drive.client.asked) == 1, "a field that did not change asked for something"
        await drive.fill("#field-bias", "1", "escape")
        assert drive.client.asked[1:] == [MakeData(spec=DataSpec(weight=2.0, bias=1.0))]


async def test_arrows_step_and_apply_each_step() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        drive.app.screen.query_one("#field-weight").focus()
        await drive.press("up")
        assert value(drive, "weight") == "0.8"
        assert drive.client.asked == [MakeData(spec=DataSpec(weight=0.8))]
        drive.app.screen.query_one("#field-seed").focus()
        await drive.press("pagedown")
        assert value(drive, "seed") == "32"
        drive.app.screen.query_one("#field-noise").focus()
        await drive.settle()
        count = len(drive.client.asked)
        await drive.press("down")
        assert value(drive, "noise") == "0"
        assert len(drive.client.asked) == count, "at its limit a number stays"


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("weight", "much", "weight is not a number"),
        ("weight", "", "weight needs a number"),
        ("weight", "nan", "weight must be a finite number"),
        ("weight", "1e999", "finite"),
        ("weight", "1e31", "weight is 1e+31; it must lie between"),
        ("weights", "0.7, much", "weights: 'much' is not a number"),
        ("coefficients", "", "coefficients holds 0 numbers"),
        ("step", "0", "step is 0; it must be greater than 0"),
        ("step", "-1", "step must be at least 0"),
        ("step", "1e-9", "choose a larger step"),
        ("stop", "-1", "stop (-1) is not above start"),
        ("noise", "-0.1", "noise must be at least 0"),
        ("seed", "1.5", "noise seed must be a whole number"),
        ("seed", str(MAX_SEED + 1), "noise seed must lie between"),
        ("split", "70/15", "is not three numbers"),
        ("split", "70/20/20", "add up to 110"),
        ("split", "0/50/50", "the training share is 0"),
        ("split", "a/b/c", "not a plain number"),
        ("split", "[/]", "is not three numbers"),
    ],
)
def test_what_is_refused_and_why(field: str, text: str, words: str) -> None:
    """The form's own check of a number, then the spec's."""
    described = next(entry for entry in data.FIELDS if entry.name == field)
    check = Range(described.label, described.low, described.high, integer=described.kind == "int")
    read = described.read if described.kind in TYPED else check.number
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        data.spec_of(data.values(DataSpec()) | {field: read(text)})
    assert "`" not in str(caught.value)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_refused_values_stay_marked_until_escape_takes_them_back(size: tuple[int, int]) -> None:
    async with driving(steps=2, size=size) as drive:
        form = drive.app.screen.query_one(Form)
        for field, text, words, back in (
            ("weight", "much", "weight is not a number", "0.7"),
            ("stop", "-1", "is not above start", "1"),
            ("split", "70/20/20", "add up to 110", "70/15/15"),
            ("split", "[/]", "not three numbers", "70/15/15"),
        ):
            await drive.fill(f"#field-{field}", text)
            await drive.press("n")
            await drive.press("p")
            assert value(drive, field) == text, "what was typed is still there"
            assert marked(drive) == [field]
            assert words in drive.status
            assert "escape takes it back" in drive.status
            assert "· not in effect" in drive.panel("#data-form")
            assert drive.client.asked == []
            await drive.press("escape")
            assert (value(drive, field), marked(drive), form.pending) == (back, [], False)
            assert words not in drive.status


async def test_escape_in_a_field_takes_back_what_does_not_fit_at_once() -> None:
    async with driving(steps=1) as drive:
        for field, text, back in (("weight", "much", "0.7"), ("stop", "-1", "1")):
            await drive.fill(f"#field-{field}", text, "escape")
            assert (value(drive, field), marked(drive)) == (back, [])
            assert drive.app.focused is None
        assert drive.client.asked == []


async def test_what_does_not_fit_is_mended_in_the_field_or_by_another_one() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        await drive.fill("#field-weight", "much", "tab")
        await drive.fill("#field-bias", "1")
        assert drive.client.asked == [MakeData(spec=DataSpec(bias=1.0))], "the other settings do not wait for it"
        assert marked(drive) == ["weight"]
        await drive.press("space")
        assert len(drive.client.asked) == 1
        assert "weight is not a number" in drive.status
        await drive.fill("#field-weight", "0.7")
        assert (marked(drive), len(drive.client.asked)) == ([], 1), "it is what is in effect already"
        await drive.fill("#field-start", "2")
        assert marked(drive) == ["start"]
        await drive.fill("#field-weight", "3")
        assert marked(drive) == ["start"], "the reason is told of one field alone"
        await drive.fill("#field-stop", "3")
        assert drive.client.asked[1:] == [MakeData(spec=DataSpec(weight=3.0, bias=1.0, start=2.0, stop=3.0))]
        assert (marked(drive), drive.app.screen.query_one(Form).pending) == ([], False)


async def test_what_waited_for_a_field_that_did_not_fit_goes_on_when_it_is_taken_back() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        await drive.fill("#field-split", "70/20/20")
        await drive.fill("#field-weight", "2")
        assert drive.client.asked == []
        await drive.press("escape")
        assert drive.client.asked == [MakeData(spec=DataSpec(weight=2.0))]
        assert value(drive, "split") == "70/15/15"


async def test_a_choice_that_needs_another_setting_waits_for_it() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(train_spec=TrainSpec(clip=1.0)))
        optimizer = drive.app.screen.query_one("#field-optimizer", Select)
        for end in ("escape", "tab"):
            optimizer.focus()
            await drive.press("enter", "end", "enter")
            await drive.until(lambda: marked(drive))
            assert "lbfgs cannot learn from clipped gradients" in drive.status
            assert optimizer.value == "lbfgs"
            await drive.press(end)
            assert marked(drive) == ["optimizer"] * (end == "tab")
            assert optimizer.value == ("lbfgs" if end == "tab" else "sgd")
        await drive.fill("#field-clip", "0")
        assert drive.client.asked == [SetTraining(spec=TrainSpec(optimizer="lbfgs"))]
        assert marked(drive) == []


async def test_a_field_that_is_hidden_keeps_no_fault() -> None:
    async with driving(steps=1) as drive:
        del drive.client.answers["MakeData"]
        await drive.fill("#field-weight", "much")
        form = drive.app.screen.query_one(Form)
        form.put({"kind": "polynomial"})
        await drive.settle()
        assert (marked(drive), form.pending) == ([], False)
        assert drive.client.asked == [MakeData(spec=DataSpec(kind="polynomial"))]


async def test_a_spec_the_engine_refuses_puts_the_fields_back() -> None:
    async with driving(steps=1) as drive:
        drive.client.problems["MakeData"] = WorkflowError("No data", "the machine has no memory left.")
        await drive.fill("#field-step", "0.001")
        await drive.sees("No data")
        await drive.press("enter")
        assert value(drive, "step") == "0.02"
        assert len(drive.client.asked) == 1


async def test_what_was_applied_stands_while_a_slow_engine_works() -> None:
    answer = asyncio.Event()

    class Slow(ReplayClient):
        async def request(self, command: Command, timeout: float | None = None) -> Predictions | FileAnswer | None:
            self.asked.append(command)
            await answer.wait()
            return None

    async with driving(steps=1, client=lambda client: setattr(client, "__class__", Slow)) as drive:
        drive.app.screen.query_one("#field-weight").focus()
        await drive.pilot.press("home", "shift+end", "delete", "2", "tab")
        await drive.until(lambda: drive.client.asked)
        await drive.sees("Waiting for the engine")
        assert value(drive, "weight") == "2"
        await drive.pilot.press("home", "shift+end", "delete", "1", "enter")
        await drive.until(lambda: len(drive.client.asked) == 2)
        assert drive.client.asked[1] == MakeData(spec=DataSpec(weight=2.0, bias=1.0))
        answer.set()
        await drive.settle()


async def test_typing_digits_and_letters_in_a_field_never_leaves_the_screen() -> None:
    async with driving(steps=6) as drive:
        for step, field in (("data", "weight"), ("build", "weight"), ("train", "epochs")):
            await drive.go(step)  # type: ignore[arg-type]
            drive.app.screen.query_one(f"#field-{field}").focus()
            await drive.press(*"16nqwxa", "question_mark")
            assert drive.app.current_mode == step
            assert not drive.dialog
            assert drive.app.is_running
            await drive.press("escape")


async def test_the_split_and_order_fields_change_the_split_alone() -> None:
    async with driving(steps=1) as drive:
        await drive.fill("#field-split", "0.7/0.1/0.2")
        spec = DataSpec(split=SplitSpec(train=0.7, validation=0.1, test=0.2))
        assert drive.client.asked == [MakeData(spec=spec)]
        drive.client.asked.clear()
        await drive.tell(Update(data_spec=spec))
        assert value(drive, "split") == "70/10/20"
        drive.app.screen.query_one("#field-order").focus()
        await drive.press("enter", "down", "enter")
        await drive.until(lambda: drive.client.asked)
        (shuffled,) = drive.client.asked
        assert isinstance(shuffled, MakeData)
        assert shuffled.spec == DataSpec(split=SplitSpec(train=0.7, validation=0.1, test=0.2, order="shuffled"))


async def test_a_field_that_is_edited_keeps_its_text_while_events_come() -> None:
    async with driving(steps=3) as drive:
        field = drive.app.screen.query_one("#field-learning_rate", Input)
        field.focus()
        await drive.press("home", "shift+end", "delete", "0", ".")
        await drive.tell(Update(training=training(state="running", epoch=50), train_spec=TrainSpec(epochs=300)))
        assert field.value == "0."
        assert value(drive, "epochs") == "300"
        await drive.press("5", "enter")
        assert drive.client.asked == [SetTraining(spec=TrainSpec(learning_rate=0.5, epochs=300))]


async def test_choices_are_chosen_by_keys_and_follow_the_engine() -> None:
    async with driving(steps=3) as drive:
        optimizer = drive.app.screen.query_one("#field-optimizer", Select)
        optimizer.focus()
        await drive.press("enter")
        assert "back to the keys" in drive.text, "an open list takes the keys as the field does"
        await drive.press("down", "enter")
        await drive.until(lambda: drive.client.asked)
        assert drive.client.asked == [SetTraining(spec=TrainSpec(optimizer="adam"))]
        await drive.tell(Update(train_spec=TrainSpec(optimizer="rmsprop", loss="huber")))
        assert optimizer.value == "rmsprop"
        assert len(drive.client.asked) == 1, "what the engine says is no wish of the person's"


@pytest.mark.parametrize(
    "spec", [DataSpec(), DataSpec(weight=-1.5e-7, start=-3, seed=0, split=SplitSpec.parse("80/0/20", order="shuffled"))]
)
def test_data_goes_through_the_form_unchanged(spec: DataSpec) -> None:
    assert data.spec_of(data.values(spec)) == spec


def test_every_setting_has_a_field() -> None:
    assert {field.name for field in train.FIELDS} == set(train.values(TrainSpec()))
    assert {field.name for field in data.FIELDS} == set(data.values(DataSpec()))
    assert {field.name for field in build.FIELDS} == set(build.values(ModelSpec()))


async def test_a_letter_in_a_choice_is_no_key_of_the_screen() -> None:
    async with driving(steps=3) as drive:
        await drive.press("enter")
        drive.app.screen.query_one("#field-optimizer").focus()
        await drive.press("f", "s", "e", "2", "q", "d")
        assert not drive.dialog
        assert drive.app.current_mode == "train"
        assert drive.app.current_theme.dark
        assert drive.client.asked == []
        await drive.press("escape", "2")
        assert drive.app.current_mode == "build"
