"""Step 4 on the screen: the course's metrics, predictions for any x, and figures that do not exist."""

from __future__ import annotations

import math

import msgspec
from tests.tui.driving import Drive, done, driving, squeeze, steps, training

from workflow_core.errors import WorkflowError
from workflow_core.protocol import Evaluate, EvaluationView, Metrics, Predict, Prediction, Run, SetPace, Update


def evaluation(**changes: object) -> EvaluationView:
    """The recorded evaluation, changed."""
    update = done(4)[-1]
    assert isinstance(update, Update)
    assert isinstance(update.evaluation, EvaluationView)
    return msgspec.structs.replace(update.evaluation, **changes)


async def ask(drive: Drive, text: str) -> None:
    """Type `text` into the field for any x and press enter."""
    await drive.fill("#predictor Input", text)


async def test_a_trained_model_is_measured_once_on_arrival_and_the_figures_are_the_courses() -> None:
    async with driving(steps=3) as drive:
        await drive.press("4")
        assert drive.client.asked == [Evaluate()]
        metrics = drive.panel("#metrics")
        for row in (
            "● train          35    0.0035    0.0497    0.0594    0.8234",
            "▲ validation      7    0.0189    0.1370    0.1374    -23.08",
            "◆ test            8    0.0311    0.1760    0.1764    -29.25",
            "run 1 after 100 epochs",
        ):
            assert row in metrics
        assert "weight 0.4398 0.7000 -0.2602" in squeeze(drive.panel("#gaps"))
        assert "y_pred = y" in drive.panel("#truth")
        assert "enter predicts any x. 5 or n: save" in drive.status
        await drive.press("space")
        assert drive.client.asked == [Evaluate(), Evaluate()]
        await drive.press("3", "4")
        assert len(drive.client.asked) == 2


async def test_without_a_model_space_goes_and_trains_one() -> None:
    async with driving() as drive:
        await drive.press("4")
        assert "Nothing is trained yet: step 3 does that. space goes there" in drive.status
        assert "MSE, MAE, RMSE and R²" in drive.panel("#metrics")
        await ask(drive, "0.5")
        assert "Nothing is trained yet" in drive.status
        await drive.press("escape", "space")
        await drive.asks(Run())
        assert drive.app.current_mode == "train"
        assert drive.client.asked[-2:] == [SetPace(pace=20.0), Run()]


async def test_a_failed_measurement_is_told_once() -> None:
    async with driving(steps=3) as drive:
        drive.client.problems["Evaluate"] = WorkflowError("No figures", "They cannot be made.")
        await drive.press("4")
        await drive.sees("No figures", "They cannot be made.")
        await drive.press("escape")
        assert not drive.dialog
        assert drive.client.asked == [Evaluate()]
        assert "space measures" in drive.status


async def test_any_x_is_predicted_and_forgotten_when_the_model_changes() -> None:
    async with driving(steps=4) as drive:
        await drive.press("4")
        await ask(drive, "0.25 0.5, .75;")
        assert drive.client.asked == [Predict(x=((0.25,), (0.5,), (0.75,)))]
        answers = drive.panel("#predictor")
        assert "0.5 0.5806 0.6500 -0.0694" in squeeze(answers)
        assert answers.count("\n") > 5
        await drive.tell(Update(training=training(epoch=99)))
        assert "0.5806" not in drive.panel("#predictor")


async def test_what_is_no_number_is_refused_in_words() -> None:
    async with driving(steps=4) as drive:
        await drive.press("4")
        for text in ("half", "0.5 x", "[/]"):
            await ask(drive, text)
            assert "Predict needs numbers" in drive.status
        await ask(drive, "")
        assert drive.client.asked == []
        await ask(drive, " ".join(["1"] * 50))
        assert drive.client.asked == [], "more values than there is room for were asked about"


async def test_stale_figures_say_so_and_look_so() -> None:
    async with driving(steps=4) as drive:
        await drive.press("4")
        await drive.tell(steps(evaluate="stale", reasons={"evaluate": "The model was trained further."}))
        assert "Stale: The model was trained further." in drive.text
        assert drive.app.screen.query_one("#metrics").has_class("-stale")
        assert "space measures the model as it is now" in drive.status


async def test_figures_that_do_not_exist() -> None:
    blown = Metrics(count=35, mse=math.inf, mae=math.nan, rmse=1e38, r2=None)
    rows = (Prediction(x=(0.0,), y=1.0, y_pred=math.nan), Prediction(x=(1.0,), y=1.0, y_pred=-math.inf))
    async with driving(steps=4) as drive:
        await drive.press("4")
        view = evaluation(
            metrics={"train": blown, "validation": None, "test": None},
            predictions={"train": rows, "validation": (), "test": ()},
        )
        await drive.tell(Update(evaluation=view))
        metrics = drive.panel("#metrics")
        assert "35       inf       NaN  1.00e+38         –" in metrics
        assert metrics.count("no rows in this split") == 2
        assert "validation" not in drive.panel("#truth")
        nothing = evaluation(metrics={}, predictions={})
        await drive.tell(Update(evaluation=nothing))
        assert drive.panel("#metrics").count("no rows in this split") == 3
