"""Step 3 on the screen: a run as it starts, goes, pauses, ends and blows up, and what its keys ask of the engine."""

from __future__ import annotations

import math

import msgspec
import pytest
from tests.tui.driving import Drive, driving, squeeze, steps, training
from textual.widgets import Input

from workflow_core.errors import WorkflowError
from workflow_core.history import History
from workflow_core.protocol import (
    Epochs,
    ModelView,
    NextLine,
    Pause,
    Reference,
    Reset,
    Run,
    RunState,
    SetPace,
    SetTraining,
    Update,
)
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_tui.lessons import lesson
from workflow_tui.run_text import parameters_caption
from workflow_tui.state import State
from workflow_tui.widgets.chart import Chart

LINE = ((0.0, 0.1), (1.0, 0.5))


def begun(state: RunState = "running", **changes: object) -> Update:
    """A run at its first epoch."""
    return Update(training=training(state=state, **({"epoch": 0} | changes)), history=None)


def went(losses: list[float], *, start: int = 0, names: tuple[str, ...] = (), **changes: object) -> Epochs:
    """A run after these losses; each of `names` is a parameter that follows the loss."""
    parameters = {name: losses[-1] for name in names}
    view = training(
        **({"state": "running", "epoch": start + len(losses), "parameters": parameters, "line": LINE} | changes)
    )
    series = {"train_loss": losses, **{name: losses for name in names}}
    return Epochs(start=start, series=series, training=msgspec.structs.replace(view, train_loss=losses[-1]))


async def at_train(drive: Drive) -> Drive:
    await drive.go("train")
    return drive


async def test_space_sets_the_pace_and_runs_and_the_result_is_the_courses() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        for hint in ("space trains", "weight and bias on their way", "no run yet"):
            assert hint in drive.text
        assert "space runs 100 epochs, 20 epochs/s" in drive.status
        await drive.press("space")
        assert drive.client.asked == [SetPace(pace=20.0), Run()]
        await drive.sees("train 0.0036 · val 0.0189", "weight 0.4398 gap -0.2602 · bias 0.3607 gap +0.0607")
        assert "after 100 epochs" in drive.panel("#fit")
        fit = drive.app.screen.query_one("#fit", Chart)
        assert "prediction" in [layer.role for layer in fit.spec.layers]
        assert "100 / 100 epochs" in drive.status
        assert "100%" in drive.status
        assert "finished. 4 or n: evaluate it" in drive.status
        run = drive.panel("#train-run")
        assert "run 1  finished" in run
        assert "lr 0.01 · SGD · MSE · 100 epochs" in run
        assert "loss.backward()" in run
        await drive.press("space")
        assert len(drive.client.asked) == 2, "a finished run was asked to run"
        assert "All 100 epochs are done" in drive.status


async def test_a_refused_pace_starts_no_run() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        drive.client.problems["SetPace"] = WorkflowError("Too slow", "no.")
        await drive.press("space")
        await drive.sees("Too slow")
        assert drive.client.asked == [SetPace(pace=20.0)]


async def test_while_it_runs_space_pauses_and_the_status_says_how_fast_and_how_long() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        await drive.tell(begun(pace=10.0, rate=9.96, epoch=0))
        await drive.tell(went([1.0, 0.5], pace=10.0, rate=9.96, val_loss=None))
        assert "  2 / 100 epochs" in drive.status
        assert "10.0 epochs/s, pace 10" in drive.status
        assert "ETA 0:10" in drive.status
        assert "running" in drive.panel("#train-run")
        assert "val" not in drive.panel("#loss").splitlines()[-1]
        await drive.press("space")
        assert drive.client.asked == [Pause()]
        del drive.client.answers["Run"]
        await drive.tell(Update(training=training(state="paused", epoch=2, pace=None)))
        assert "paused. space runs it, flat out" in drive.status
        await drive.press("space", ".", "'", "s")
        assert drive.client.asked[1:] == [Run(), Run(epochs=1), Run(steps=1), NextLine()]
        await drive.tell(Update(training=training(state="running", epoch=2, rate=0.0)))
        assert "ETA > 99 d" in drive.status


async def test_the_pace_goes_from_one_epoch_a_second_to_flat_out_and_stays_there() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        await drive.press("minus")
        assert ", 10 epochs/s" in drive.status
        assert drive.client.asked == [], "there is no run yet whose pace could be set"
        await drive.press(*["plus"] * 12)
        assert ", flat out" in drive.status
        await drive.press(*["minus"] * 20)
        assert ", 1 epoch" in drive.status
        await drive.press("g")
        assert ", flat out" in drive.status
        await drive.tell(begun(pace=20.0))
        await drive.press("equals_sign", "minus", "g")
        assert drive.client.asked == [SetPace(pace=50), SetPace(pace=10), SetPace(pace=None)]
        await drive.tell(begun(pace=30.0))
        await drive.press("plus")
        await drive.press("minus")
        assert drive.client.asked[3] in (SetPace(pace=50), SetPace(pace=100))
        assert drive.client.asked[4] == SetPace(pace=20)


async def test_reset_asks_and_epoch_0_shows_empty_charts_again() -> None:
    async with driving(steps=3) as drive:
        assert drive.app.current_mode == "train", "who comes back to a run should see it"
        await drive.press("r")
        assert drive.client.asked == [Reset()]
        await drive.tell(begun("ready", line=LINE))
        assert "space trains" in drive.panel("#loss")
        assert "weight and bias on their way" in drive.panel("#parameters")
        assert "after 0 epochs" in drive.panel("#fit")


async def test_the_loss_axis_is_logarithmic_on_request() -> None:
    async with driving(steps=3) as drive:
        plain = drive.panel("#loss")
        assert "log y" in plain
        await drive.press("y")
        await drive.until(lambda: "log y" not in drive.panel("#loss"))
        await drive.until(lambda: drive.panel("#loss").splitlines()[3:-3] != plain.splitlines()[3:-3])
        await drive.press("y")
        await drive.until(lambda: "log y" in drive.panel("#loss"))


async def test_settings_are_those_of_the_next_run_and_refused_ones_are_kept_out() -> None:
    async with driving(steps=3) as drive:
        await drive.press("enter")
        await drive.fill("#field-learning_rate", "0.1")
        changed = TrainSpec(learning_rate=0.1)
        assert drive.client.asked == [SetTraining(spec=changed)]
        await drive.tell(Update(train_spec=changed))
        assert "settings changed: space begins anew" in drive.panel("#train-run")
        assert "lr 0.01 · SGD" in drive.panel("#train-run"), "the run that is there keeps its own"
        await drive.press("space")
        assert drive.client.asked[1:] == [Run()]
        await drive.fill("#field-device", "tpu")
        assert "tpu" in drive.status
        assert "choose auto, cpu, mps, cuda" in drive.status
        assert " - at `" not in drive.status
        assert drive.client.asked[2:] == []
        assert drive.app.screen.query_one("#field-device", Input).value == "tpu"
        await drive.press("escape")
        assert drive.app.screen.query_one("#field-device", Input).value == "auto"
        await drive.fill("#field-learning_rate", "0")
        assert "learning rate is 0" in drive.status
        await drive.press("escape", "enter")
        await drive.until(lambda: "learning rate 0.1" in drive.panel("#train-form"))


async def test_counts_read_as_counts_and_an_epoch_is_named_from_0() -> None:
    for size in ((120, 40), (80, 24)):
        async with driving(steps=3, size=size) as drive:
            assert drive.status.startswith(" ■ 100 / 100 epochs ━")
            await drive.tell(Update(training=training(state="running", epoch=1, rate=9.96, best_epoch=0)))
            assert drive.status.startswith(" ▶   1 / 100 epochs ━")
            assert "after 1 epoch ─" in drive.panel("#fit")
            await drive.press("tab", "tab", "tab", "f")
            await drive.until(lambda: "best epoch 0 of 0–0" in drive.panel("#run"))
    assert "named from 0" in lesson("train")


async def test_an_early_stop_tells_the_same_number_of_epochs_on_every_screen() -> None:
    async with driving(steps=6) as drive:
        stopped = training(epoch=35, best_epoch=14, held=15, reason="stopped early: the validation loss")
        await drive.tell(Update(training=stopped))
        assert "35 / 100 epochs" in drive.status
        assert "after 15 epochs" in drive.panel("#fit")
        assert "best epoch 14 of 0–34" in drive.panel("#run")
        await drive.go("save")
        assert "run 1 after 15 epochs" in drive.panel("#what")
        await drive.tell(steps(save="open"))
        await drive.press("q")
        await drive.sees("It was trained for 15 epochs")


@pytest.mark.parametrize("epochs", [100, 1_000_000])
async def test_a_narrow_status_line_has_room_for_all_of_it(epochs: int) -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        spec = TrainSpec(epochs=epochs)
        await drive.tell(Update(training=training(state="running", spec=spec, epoch=epochs - 1, rate=6400.0)))
        assert drive.status.rstrip().endswith("6,400/s, flat out  ETA 0:00")


async def test_more_epochs_go_on_with_a_finished_run() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(train_spec=TrainSpec(epochs=200)))
        await drive.press("space")
        assert drive.client.asked == [Run()]


async def test_a_stale_run_says_why_and_is_dimmed() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(
            Update(
                steps=msgspec.structs.replace(
                    drive.app.state.steps, train="stale", reasons={"train": "the data changed."}
                )
            )
        )
        assert "Stale: the data changed." in drive.text
        assert "space starts a new run" in drive.status
        assert all(chart.stale for chart in drive.app.screen.query(Chart))
        await drive.press("space")
        assert drive.client.asked == [Run()]


async def test_a_run_that_blows_up_names_its_first_bad_epoch() -> None:
    losses = [1.0, 30.0, 1e20, 3e38, math.inf, math.nan]
    async with driving(steps=2) as drive:
        await drive.press("3")
        await drive.tell(begun())
        line = ((0.0, math.nan), (1.0, math.inf))
        reason = "the run diverged: train_loss is inf in epoch 4"
        bad = {"weight": math.nan, "bias": -math.inf}
        await drive.tell(
            went(
                losses,
                names=("weight", "bias"),
                state="diverged",
                first_bad=4,
                reason=reason,
                line=line,
                val_loss=math.nan,
                parameters=bad,
            )
        )
        assert "diverged: NaN or infinite from epoch 4 on" in drive.status
        await drive.tell(steps())
        assert "3 Train ✗" in drive.text
        assert "Try a smaller learning rate" in drive.status
        assert "train NaN · val NaN" in drive.panel("#loss")
        assert "weight NaN gap NaN · bias -inf gap -inf" in drive.panel("#parameters")
        assert "diverged" in drive.panel("#train-run")
        assert "NaN or infinite" in drive.panel("#loss")
        await drive.press("y")
        await drive.press("r")
        assert drive.client.asked == [Reset()]


async def test_a_run_that_is_bad_from_its_first_epoch_on_draws_something() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        await drive.tell(begun())
        await drive.tell(
            went([math.nan], names=("weight",), state="diverged", first_bad=0, reason="diverged in epoch 0")
        )
        assert "epoch 0" in drive.status
        await drive.press("y", "y")
        await drive.tell(went([-1.0, 0.0], start=1, names=("weight",)))
        await drive.press("y")
        assert "log y" not in drive.panel("#loss")


async def test_a_million_epochs_are_drawn_as_fast_as_a_thousand() -> None:
    history = History()
    for start in range(0, 1_000_000, 100_000):
        losses = [1 / (1 + start + i) for i in range(100_000)]
        history.extend({"train_loss": losses, "val_loss": losses, "weight": losses, "bias": losses})
    spec = TrainSpec(epochs=1_000_000)
    async with driving(steps=2) as drive:
        await drive.press("3")
        view = training(epoch=1_000_000, spec=spec, state="finished")
        await drive.tell(Update(training=view, history=history.to_data(), train_spec=spec))
        assert "1,000,000 / 1,000,000 epochs" in drive.status
        chart = drive.app.screen.query_one("#loss", Chart)
        points = sum(len(layer.points) for layer in chart.spec.layers if hasattr(layer, "points"))
        assert 100 < points <= 2 * 2 * 240
        assert "1,000,000" in drive.panel("#loss") or "1e6" in drive.panel("#loss") or "1M" in drive.panel("#loss")


async def test_parameters_of_unknown_and_hostile_names() -> None:
    names = ("layer.0.weight", "[/]", "[@click=app.quit]x", "\x1b[31mred", "幅", "")
    async with driving(steps=2) as drive:
        await drive.press("3")
        await drive.tell(begun(parameters=dict.fromkeys(names, 0.0), initial=dict.fromkeys(names, 0.0)))
        await drive.tell(went([1.0, 0.5, 0.25], names=names))
        text = drive.panel("#parameters")
        assert "layer.0.weight" in text
        assert "[/]" in text
        assert "\x1b" not in text
        await drive.go("evaluate")
        assert "[/]" in drive.panel("#gaps")
        await drive.go("save")
        assert "[/]" in drive.panel("#what")


async def test_a_run_more_than_done_or_without_any_loss_is_shown() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(
            Update(training=training(epoch=150, train_loss=None, val_loss=None, state="failed", reason=""))
        )
        assert "150 / 100 epochs" in drive.status
        assert "train –" in drive.panel("#loss")


async def test_a_run_without_data_or_history_is_shown() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(data=None, model=None, history=None))
        assert "weight 0.4398" in drive.panel("#parameters")
        await drive.tell(steps(data="open", build="open", train="stale"))
        assert "space starts a new run" in drive.status


def test_the_caption_of_the_parameters_is_never_cut() -> None:
    reference = Reference(targets={"weight": 0.7, "bias": 0.3}, targets_are="true")
    model = ModelView(
        spec=ModelSpec(), class_name="", text="", parameters=(), count=2, size=8, line=(), untrained_loss=None
    )
    state = State(model=msgspec.structs.replace(model, reference=reference))
    far, near = {"weight": 0.4398, "bias": 0.3607}, {"weight": 0.69996, "bias": 0.3000152}
    assert parameters_caption(state, far, 2, 60) == "weight 0.4398 gap -0.2602 · bias 0.3607 gap +0.0607"
    assert parameters_caption(state, far, 2, 36) == "gap weight -0.2602 · bias +0.0607"
    for room in (34, 40, 50, 60):
        assert len(parameters_caption(state, near, 2, room)) <= room
    assert parameters_caption(state, near, 2, 34) == "gap weight -4e-05 · bias +2e-05"


async def test_without_an_engine_the_key_bar_says_how_to_start_one() -> None:
    async with driving(steps=3) as drive:
        drive.app.link.lose("killed")
        await drive.settle()
        assert "a start the engine again" in squeeze(drive.text.splitlines()[-1])


async def test_weights_that_were_put_back_are_said_to_be_of_an_earlier_epoch() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(training=training(state="diverged", epoch=20, first_bad=19, held=18, try_lr=0.5)))
        assert "weights put back: after 18 epochs" in drive.panel("#fit")
        assert "diverged: NaN or infinite from epoch 19 on. T tries another rate" in drive.status
