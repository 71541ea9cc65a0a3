"""Step 2 on the screen: the class, its parameters as they were drawn, and the line they make before any training."""

from __future__ import annotations

import msgspec
import pytest
from tests.tui.driving import done, driving

from workflow_core.errors import WorkflowError
from workflow_core.protocol import BuildModel, ModelView, TensorView, Update
from workflow_core.specs import InitSpec, ModelSpec
from workflow_tui.settings.build import spec_of, values
from workflow_tui.widgets.chart import Chart


def model(**changes: object) -> ModelView:
    """The recorded model, changed."""
    update = done(2)[-1]
    assert isinstance(update, Update)
    assert isinstance(update.model, ModelView)
    return msgspec.structs.replace(update.model, **changes)


async def test_the_first_visit_builds_the_model_once_and_shows_it() -> None:
    async with driving(steps=1) as drive:
        await drive.press("2")
        assert drive.client.asked == [BuildModel()]
        assert "class LinearRegressionModel(nn.Module):" in drive.panel("#class")
        assert "return self.weight * x + self.bias" in drive.panel("#class")
        parameters = drive.panel("#parameters")
        assert "weight [1]   float32  cpu     yes    0.3367  0.7000" in parameters
        assert "bias   [1]   float32  cpu     yes    0.1288  0.3000" in parameters
        assert "2 parameters · 8 B" in parameters
        assert "untrained train MSE 0.0922" in drive.panel("#untrained")
        chart = drive.app.screen.query_one("#untrained", Chart)
        assert "prediction" in [layer.role for layer in chart.spec.layers]
        await drive.press("space", "r")
        assert drive.client.asked[1:] == [BuildModel(), BuildModel(spec=ModelSpec())]


async def test_a_failure_is_told_once() -> None:
    async with driving(steps=1) as drive:
        drive.client.problems["BuildModel"] = WorkflowError("No model", "It cannot be built.")
        await drive.press("2")
        await drive.sees("No model", "It cannot be built.")
        await drive.press("escape")
        assert drive.client.asked == [BuildModel()]
        assert "space builds the model" in drive.text


async def test_initial_values_are_sent_and_taken_back() -> None:
    async with driving(steps=2) as drive:
        await drive.press("2")
        await drive.fill("#field-weight", "1.5")
        given = ModelSpec(init=InitSpec(values={"weight": 1.5}))
        assert drive.client.asked == [BuildModel(spec=given)]
        await drive.tell(Update(model_spec=given))
        await drive.fill("#field-weight", "")
        assert drive.client.asked[1:] == [BuildModel(spec=ModelSpec())]
        await drive.fill("#field-seed", "7")
        assert drive.client.asked[2:] == [BuildModel(spec=ModelSpec(init=InitSpec(seed=7)))]


async def test_r_asks_before_a_model_of_ones_own_is_lost() -> None:
    async with driving(steps=2) as drive:
        await drive.press("2")
        await drive.tell(Update(model_spec=ModelSpec(kind="custom", file="/mine.py", class_name="Net")))
        await drive.press("r")
        await drive.sees("model your own class", "file /mine.py", "class Net", "No file is touched")
        await drive.press("c")
        assert drive.client.asked == []
        await drive.press("r", "r")
        await drive.asks(BuildModel(spec=ModelSpec()))


async def test_what_is_no_value_says_why_and_sends_nothing() -> None:
    async with driving(steps=2) as drive:
        await drive.press("2")
        await drive.fill("#field-weight", "much")
        assert "'much' is not a number (for weight)" in drive.status
        assert drive.client.asked == []
        assert "much" in drive.panel("#build-form")
        await drive.press("escape")
        assert "much" not in drive.panel("#build-form")


@pytest.mark.parametrize("value", [0.1 + 0.2, 1.0, 1e-30, -3.25e29, 0.123456789012345])
def test_values_go_through_the_form_unchanged(value: float) -> None:
    spec = ModelSpec(init=InitSpec(seed=3, values={"bias": value}))
    assert spec_of(values(spec)) == spec


async def test_parameters_of_any_name_and_number() -> None:
    names = ["[/]", "[@click=app.quit]x", "\x1b]52;c;aGk=\x07", "layer.0.weight", "Gewicht"]
    tensors = tuple(
        TensorView(name=name, shape=(3, 4), dtype="float32", device="cpu", size=48, values=(0.1, float("nan")))
        for name in names
    )
    async with driving(steps=2) as drive:
        await drive.press("2")
        await drive.tell(Update(model=model(parameters=tensors, count=60, size=240, untrained_loss=None, line=())))
        text = drive.panel("#parameters")
        assert "[/]" in text
        assert "[@clic" in text
        assert "\x1b" not in drive.text
        assert "60 parameters" in text
        await drive.tell(Update(model=model(untrained_loss=float("inf"), line=((0.0, float("nan")), (1.0, 1e38)))))
        assert "inf" in drive.panel("#untrained")
