"""Looking at any epoch: the same one on every chart, fit and parameters those of then, and the way back to now."""

from __future__ import annotations

import msgspec
import pytest
from tests.tui.driving import Drive, driving, steps, training
from tests.tui.replay import Recorded, ReplayClient

from workflow_core.errors import WorkflowError
from workflow_core.history import Column, History
from workflow_core.protocol import (
    Branch,
    LookBack,
    PastAnswer,
    PastView,
    ReadSeries,
    Reply,
    Run,
    SeriesAnswer,
    Update,
)
from workflow_core.specs import TrainSpec
from workflow_tui.dialogs.number import NumberDialog
from workflow_tui.instruments.look import Look
from workflow_tui.instruments.looking import LookingScreen
from workflow_tui.plots import COLUMNS
from workflow_tui.widgets.chart import Chart, Lines

PAST = PastView(
    run=1,
    epoch=50,
    parameters={"weight": 0.4111, "bias": 0.3091},
    line=((0.0, 0.3091), (1.0, 0.7202)),
    train_loss=0.0118,
    val_loss=0.0441,
    learning_rate=0.01,
    grad_norm=0.2,
)


def answered(past: PastView = PAST) -> Recorded:
    return Recorded(Reply(id=1, value=PastAnswer(past=past)), ())


def remembers(client: ReplayClient) -> None:
    client.answers["LookBack"] = answered()


def cursors(drive: Drive) -> list[float | None]:
    return [drive.app.screen.query_one(name, Chart).cursor for name in ("#loss", "#parameters", "#fit")]


def look(drive: Drive) -> int | None:
    screen = drive.app.screen
    assert isinstance(screen, LookingScreen)
    return screen.look.epoch


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_an_epoch_is_looked_at_on_all_panels_at_once_and_escape_is_now(size: tuple[int, int]) -> None:
    async with driving(steps=3, size=size, client=remembers) as drive:
        await drive.press("/")
        assert drive.client.asked == [LookBack(epoch=99)]
        assert cursors(drive) == [99.0, 99.0, None], "the fit is not over epochs"
        when = "epoch 99: " if size[0] > 100 else " "
        assert f"{when}train 0.0118 · val 0.0441" in drive.panel("#loss")
        assert f"{when}weight 0.4111 · bias 0.3091" in drive.panel("#parameters")
        assert "as after epoch 50" in drive.panel("#fit")
        drawn = drive.app.screen.query_one("#fit", Chart).spec.layers
        line = next(layer for layer in drawn if layer.role == "prediction")
        assert isinstance(line, Lines)
        assert line.points == PAST.line
        assert size[0] < 100 or "MSE 0.0118" in drive.panel("#loop")
        assert "looking at epoch 99 of 0–99" in drive.status
        assert "escape now" in " ".join(drive.panel("#keys").split())
        await drive.press("escape")
        assert cursors(drive) == [None, None, None]
        assert "train 0.0036 · val 0.0189" in drive.panel("#loss")
        assert "100 / 100 epochs" in drive.status
        assert "run/pause" in drive.panel("#keys")


async def test_arrows_commas_and_ends_move_to_epochs_and_j_asks_for_one() -> None:
    async with driving(steps=3, client=remembers) as drive:
        await drive.press("left")
        assert look(drive) in (97, 98)
        await drive.press("home")
        assert look(drive) == 0
        await drive.press("left", "comma")
        assert look(drive) == 0
        await drive.press("semicolon", "shift+right")
        assert look(drive) == 2
        await drive.press("end", "shift+left")
        assert look(drive) == 98
        await drive.press("right", "right", "right")
        assert look(drive) == 99
        await drive.press("j")
        assert isinstance(drive.app.screen, NumberDialog)
        await drive.press("home", "shift+end", "delete", "4", "2", "enter")
        await drive.until(lambda: isinstance(drive.app.screen, LookingScreen))
        assert look(drive) == 42
        await drive.press("j", "home", "shift+end", "delete", "1", "0", "0", "enter")
        await drive.sees("must lie between 0 and 99")
        await drive.press("escape")


async def test_what_is_asked_last_is_what_is_shown_and_nothing_is_asked_twice() -> None:
    async with driving(steps=3, client=remembers) as drive:
        await drive.press("/", "comma", "comma", "comma")
        asked = [command.epoch for command in drive.client.commands(LookBack) if isinstance(command, LookBack)]
        assert asked[-1] == 96
        assert len(set(asked)) == len(asked)
        before = len(drive.client.asked)
        await drive.tell(Update(training=training(state="paused")))
        assert len(drive.client.asked) == before


async def test_windows_are_zoomed_panned_and_follow_the_run() -> None:
    async with driving(steps=3, client=remembers) as drive:
        chart = drive.app.screen.query_one("#loss", Chart)
        await drive.press("up")
        assert chart.spec.x_range == (50, 100)
        assert drive.app.screen.query_one("#parameters", Chart).spec.x_range == (50, 100)
        await drive.press("less_than_sign")
        assert chart.spec.x_range == (25, 75)
        await drive.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        assert chart.spec.x_range == (50, 100)
        await drive.press("down")
        assert chart.spec.x_range == (0, 100)
        await drive.tell(Update(training=training(state="running", epoch=50)))
        await drive.press("h")
        assert chart.spec.x_range == (90, 100)
        await drive.press("h")
        assert chart.spec.x_range == (0, 100)


async def test_a_window_finer_than_the_history_is_read_back_from_the_store() -> None:
    spec = TrainSpec(epochs=1_000_000)
    history = History(16)
    losses = [1 / (1 + epoch) for epoch in range(20_000)]
    history.extend({"train_loss": losses, "weight": losses})
    columns = [Column(epoch, epoch + 1, 7.0, 7.0, 7.0, 7.0) for epoch in range(10)]

    def stored(client: ReplayClient) -> None:
        remembers(client)
        client.answers["ReadSeries"] = Recorded(
            Reply(
                id=1,
                value=SeriesAnswer(
                    run=1, start=19_990, stop=20_000, epochs=20_000, series={"train_loss": columns, "weight": columns}
                ),
            ),
            (),
        )

    async with driving(steps=3, client=stored) as drive:
        view = training(epoch=20_000, spec=spec, state="paused", val_loss=None)
        await drive.tell(Update(training=view, history=history.to_data(), train_spec=spec))
        assert drive.client.commands(ReadSeries) == []
        await drive.press("end", *["up"] * 17)

        def asked() -> list[tuple[int, int, int]]:
            reads = (each for each in drive.client.commands(ReadSeries) if isinstance(each, ReadSeries))
            return [(read.run, read.stop - read.start, read.columns) for read in reads]

        await drive.until(lambda: asked()[-1:] == [(1, 10, COLUMNS)])
        assert len(asked()) < 17, "every step was asked for"
        screen = drive.app.screen
        assert isinstance(screen, LookingScreen)
        screen.look = Look(19_995, (19_990, 20_000))
        screen.refresh_state()
        await drive.settle()

        def drawn() -> set[float]:
            layers = drive.app.screen.query_one("#loss", Chart).spec.layers
            return {
                y for layer in layers if isinstance(layer, Lines) and layer.role == "train" for _, y in layer.points
            }

        await drive.until(lambda: drawn() == {7.0})


async def test_k_goes_on_from_the_epoch_looked_at_and_only_from_there() -> None:
    async with driving(steps=3, client=remembers) as drive:
        await drive.press("k")
        assert "Look at an epoch first" in drive.status
        await drive.press("home", "k")
        assert drive.client.asked[-1] == Branch(epoch=0)
        await drive.tell(
            Update(training=training(run=2, state="paused", epoch=1, parent=1, parent_epoch=1), history=None)
        )
        assert look(drive) is None, "another run is there: it is looked at as it is now"
        assert "run 2  paused" in drive.panel("#run")
        assert "from run 1, epoch 0" in drive.panel("#run")


async def test_running_on_is_now_again() -> None:
    async with driving(steps=3, client=remembers) as drive:
        await drive.tell(Update(training=training(state="paused", epoch=50)))
        await drive.press("home", "space")
        assert look(drive) is None
        assert drive.client.asked[-1] == Run()


async def test_an_epoch_that_cannot_be_had_is_said_and_no_longer_looked_at() -> None:
    def refuses(client: ReplayClient) -> None:
        client.problems["LookBack"] = WorkflowError("This model cannot be copied", "Net fails when it is copied.")

    async with driving(steps=3, client=refuses) as drive:
        await drive.press("home")
        await drive.until(lambda: "Net fails when it is copied" in drive.status)
        assert look(drive) is None
        assert not drive.dialog


async def test_before_the_first_epoch_there_is_nothing_to_look_at() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        for key in ("/", "left", "up", "home", "j", "h"):
            await drive.press(key)
            assert "no epoch to look at yet" in drive.status
        assert drive.client.asked == []


async def test_weights_that_were_trained_again_say_whether_they_are_the_same() -> None:
    async with driving(steps=3, client=remembers) as drive:
        drive.client.answers["LookBack"] = answered(msgspec.structs.replace(PAST, replayed=True))
        await drive.press("home")
        assert "as after epoch 50, trained again: equal" in drive.panel("#fit")
        drive.client.answers["LookBack"] = answered(msgspec.structs.replace(PAST, replayed=True, equal=False))
        await drive.press("end")
        assert "not the same" in drive.panel("#fit")


async def test_a_stale_run_can_be_looked_at_too() -> None:
    async with driving(steps=3, client=remembers) as drive:
        await drive.tell(steps(train="stale", reasons={"train": "the data changed"}))
        await drive.press("home")
        assert "epoch 0: train 0.0118" in drive.panel("#loss")
