"""The four panels of Train: what each can show, which one is marked, full screen, the surface, the speed, a race."""

from __future__ import annotations

import pytest
from tests.tui.driving import Drive, driving, squeeze, training
from tests.tui.replay import MLP, Recorded, ReplayClient

from workflow_core.errors import WorkflowError
from workflow_core.history import Column
from workflow_core.protocol import (
    Adopt,
    LaneView,
    Pause,
    RaceView,
    ReadSeries,
    ReadSpeed,
    ReadSurface,
    Reply,
    Run,
    SeriesAnswer,
    SetPace,
    SpeedAnswer,
    StartRace,
    Stop,
    SurfaceAnswer,
    Update,
)
from workflow_core.specs import TrainSpec
from workflow_tui.dialogs.axes import AxesDialog
from workflow_tui.instruments.race import short_labels
from workflow_tui.screens.train import VIEWS
from workflow_tui.widgets.chart import Chart, Heat, Lines

SIZES = [(80, 24), (120, 40)]
SURFACE = SurfaceAnswer(
    run=1,
    x="weight",
    y="bias",
    x_range=(0.2, 0.8),
    y_range=(0.1, 0.4),
    loss=tuple(tuple(float((x - 3) ** 2 + (y - 2) ** 2) for x in range(8)) for y in range(6)),
    now=(0.4398, 0.3607),
    now_loss=0.0036,
    minimum=(0.7, 0.3),
    minimum_loss=0.0,
    minimum_is="closed form",
)
SPEED = SpeedAnswer(
    run=1,
    seconds=(1.0, 2.0, 3.0),
    rates=(5000.0, 6400.0, 6300.0),
    epoch_ms=0.158,
    line_ms={"forward": 0.02},
    rows=220_000.0,
    threads=1,
    memory=300 * 2**20,
)


def says(client: ReplayClient) -> None:
    for name, value in (("ReadSurface", SURFACE), ("ReadSpeed", SPEED)):
        client.answers[name] = Recorded(Reply(id=1, value=value), ())


async def shows(drive: Drive, panel: str, text: str) -> None:
    """Wait until a panel has these words in its title."""
    await drive.until(lambda: text in title(drive, panel), text)


def title(drive: Drive, panel: str) -> str:
    return drive.panel(panel).splitlines()[0]


@pytest.mark.parametrize("size", SIZES)
async def test_f_goes_through_what_the_marked_panel_can_show_and_comes_back(size: tuple[int, int]) -> None:
    words = (
        ("Loss · MSE", "Learning rate", "Gradient norm", "Speed", "Loss · MSE"),
        ("Parameters", "Gradients, at the last step", "Parameters"),
        ("Fit", "MSE over weight →, bias ↑" if size[0] < 100 else "Loss surface", "Fit"),
        ("The loop", "Run and settings", "The loop"),
    )
    async with driving(steps=3, size=size, client=says) as drive:
        panels = ("#loss", "#parameters", "#fit", "#train-run")
        for slot, titles in enumerate(words):
            for number, text in enumerate(titles):
                panel = "#values" if text.startswith("Gradients") else panels[slot]
                await shows(drive, panel, text)
                if number < len(titles) - 1:
                    await drive.press("f")
            assert len(titles) == len(VIEWS[slot]) + 1
            await drive.press("tab")
        await drive.press("F")
        await drive.until(lambda: "Speed" in title(drive, "#loss"))


async def test_tab_marks_the_panels_in_turn_and_shift_tab_goes_back() -> None:
    async with driving(steps=3) as drive:

        def marked() -> list[str]:
            return [name for name in ("#loss", "#parameters", "#fit", "#train-run") if marked_now(name)]

        def marked_now(name: str) -> bool:
            return drive.app.screen.query_one(name).has_class("-marked")

        seen = [marked()]
        for _ in range(4):
            await drive.press("tab")
            seen.append(marked())
        assert seen == [["#loss"], ["#parameters"], ["#fit"], ["#train-run"], ["#loss"]]
        await drive.press("shift+tab")
        assert marked() == ["#train-run"]


@pytest.mark.parametrize("size", SIZES)
async def test_a_panel_takes_all_the_room_and_gives_it_back(size: tuple[int, int]) -> None:
    async with driving(steps=3, size=size) as drive:
        for panel in ("#loss", "#parameters", "#fit", "#train-run"):
            before = drive.app.screen.query_one(panel).size
            await drive.press("z")
            whole = drive.app.screen.query_one(panel).size
            assert whole.width > 1.8 * before.width
            assert whole.height > 1.8 * before.height
            await drive.press("z", "tab")
            assert drive.app.screen.query_one(panel).size == before
        await drive.press("z", "escape")
        assert drive.app.screen.query_one("#loss").size != whole


@pytest.mark.parametrize("size", SIZES)
async def test_the_surface_shows_path_place_and_minimum(size: tuple[int, int]) -> None:
    async with driving(steps=3, size=size, client=says) as drive:
        await drive.press("tab", "tab", "f")
        chart = drive.app.screen.query_one("#fit", Chart)
        await drive.until(lambda: any(isinstance(layer, Heat) for layer in chart.spec.layers))
        asked = drive.client.commands(ReadSurface)[-1]
        assert isinstance(asked, ReadSurface)
        assert (asked.x, asked.y, asked.epoch) == ("weight", "bias", None)
        assert asked.columns <= chart.size.width
        assert asked.rows <= chart.size.height
        assert chart.spec.x_range == SURFACE.x_range
        assert ("over weight →, bias ↑" if size[0] < 100 else "over weight → and bias ↑") in title(drive, "#fit")
        assert "here 0.0036 · least 0.0000" in drive.panel("#fit")
        before = len(drive.client.commands(ReadSurface))
        await drive.tell(Update(training=training(state="paused", epoch=101)))
        assert len(drive.client.commands(ReadSurface)) == before, "two numbers have one surface at all times"


async def test_a_surface_that_cannot_be_had_says_why_in_its_panel() -> None:
    def refuses(client: ReplayClient) -> None:
        client.problems["ReadSurface"] = WorkflowError("No such parameter", "The model has no single number 'w'.")

    async with driving(steps=3, client=refuses) as drive:
        await drive.press("tab", "tab", "f")
        await drive.until(lambda: "The model has no single number" in drive.panel("#fit"))
        assert not drive.dialog


async def test_two_parameters_of_a_network_are_chosen_by_name_and_the_map_follows_the_training() -> None:
    async with driving(steps=3, recording=MLP, client=says) as drive:
        await drive.press("A")
        assert isinstance(drive.app.screen, AxesDialog)
        names = [tensor.name for tensor in drive.app.state.model.parameters] if drive.app.state.model else []
        drive.app.screen.query_one("#axis-across").focus()
        await drive.press("home", "shift+end", "delete", *"nothing", "enter")
        await drive.sees("there is no parameter 'nothing'")
        await drive.press("home", "shift+end", "delete", *f"{names[1]}[0]", "tab")
        await drive.press("home", "shift+end", "delete", *f"{names[1]}[1]", "enter")
        await drive.until(lambda: drive.client.commands(ReadSurface) != [])
        asked = drive.client.commands(ReadSurface)[-1]
        assert isinstance(asked, ReadSurface)
        assert (asked.x, asked.y) == (f"{names[1]}[0]", f"{names[1]}[1]")
        before = len(drive.client.commands(ReadSurface))
        view = drive.app.state.training
        assert view is not None
        await drive.tell(Update(training=training(spec=view.spec, run=view.run, epoch=view.epoch - 1, state="paused")))
        await drive.until(lambda: len(drive.client.commands(ReadSurface)) > before)


async def test_the_speed_is_a_curve_with_what_an_epoch_takes() -> None:
    async with driving(steps=3, client=says) as drive:
        await drive.press("F")
        await drive.until(lambda: "158 µs an epoch" in drive.panel("#loss"))
        assert drive.client.commands(ReadSpeed)
        for words in ("220,000 rows/s", "engine 300.0 MiB"):
            assert words in drive.panel("#loss")
        await drive.press("z")
        await drive.until(lambda: "1 thread" in drive.panel("#loss"))


async def test_the_gradients_are_figures_and_bars() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(training=training(gradients={"weight": -0.5, "bias": 0.25}, grad_norm=0.559)))
        await drive.press("tab", "f")
        await drive.until(lambda: "weight -0.5000" in squeeze(drive.panel("#values")))
        rows = drive.panel("#values").splitlines()
        bars = [row.count("━") for row in rows[2:4]]
        assert bars[0] == pytest.approx(2 * bars[1], abs=1)
        assert "L2 norm of all 0.5590" in drive.panel("#values")
        await drive.tell(Update(training=training(gradients={}, grad_norm=0.559)))
        assert "L2 norm of all 0.5590." in drive.panel("#values")
        assert "gradient norm 0.5590" in drive.panel("#loop"), "a run that was branched off lost its gradient"
        await drive.tell(Update(training=training(gradients={}, grad_norm=0.0)))
        assert ".grad is None" in drive.panel("#values")
        assert drive.panel("#loop").count(".grad is None") == 2


def lane(run: int, rate: float, **changes: object) -> LaneView:
    losses = {"train_loss": 0.1 / run, "val_loss": 0.2 / run, "best_loss": 0.2 / run, "best_epoch": 49}
    fields = {"state": "running", "epoch": 50, **losses, **changes}
    return LaneView(run=run, label=f"lr {rate:g}", spec=TrainSpec(learning_rate=rate), **fields)  # type: ignore[arg-type]


def race(state: str = "running", **changes: object) -> Update:
    lanes = (lane(3, 0.001), lane(4, 0.01), lane(5, 2.0, state="diverged", first_bad=21, val_loss=None, best_loss=None))
    fields = {"race": 1, "state": state, "lanes": lanes, "epochs": 100, "epoch": 50, "pace": 20.0, "rate": 19.9}
    return Update(race=RaceView(**{**fields, **changes}))  # type: ignore[arg-type]


def test_labels_of_lanes_lose_what_they_all_begin_with_where_there_is_no_room() -> None:
    labels = ["lr 0.1", "lr 0.01", "lr 0.001"]
    assert short_labels(labels, 60) == labels
    assert short_labels(labels, 30) == ["0.1", "0.01", "0.001"]
    assert short_labels(["Adam lr 0.1", "Adam lr 0.2"], 20) == ["lr 0.1", "lr 0.2"]
    assert short_labels(["Adam lr 0.1", "Adam lr 0.2"], 5) == ["0.1", "0.2"]
    assert short_labels(["Adam", "SGD lr 1"], 5) == ["Adam", "SGD lr 1"]


def lanes_told(client: ReplayClient) -> None:
    columns = [Column(epoch, epoch + 1, 0.1, 0.1, 0.1, 0.1) for epoch in range(50)]
    answer = SeriesAnswer(run=3, start=0, stop=100, epochs=50, series={"val_loss": columns, "train_loss": columns})
    client.answers["ReadSeries"] = Recorded(Reply(id=1, value=answer), ())


@pytest.mark.parametrize("size", SIZES)
async def test_a_race_is_one_chart_and_a_table_in_the_order_of_the_losses(size: tuple[int, int]) -> None:
    async with driving(steps=3, size=size, client=lanes_told) as drive:
        await drive.tell(race())
        chart = drive.app.screen.query_one("#loss", Chart)
        await drive.until(lambda: len([layer for layer in chart.spec.layers if isinstance(layer, Lines)]) == 3)
        assert {command.run for command in drive.client.commands(ReadSeries) if isinstance(command, ReadSeries)} == {
            3,
            4,
            5,
        }
        assert "Race · validation MSE" in title(drive, "#loss")
        rows = [row for row in drive.panel("#values").splitlines() if "lr " in row]
        assert [next(name for name in ("lr 0.01", "lr 0.001", "lr 2") if f"{name} " in row) for row in rows] == [
            "lr 0.01",
            "lr 0.001",
            "lr 2",
        ]
        blew_up = "diverged: NaN or infinite from epoch 21 on" if size[0] > 100 else "diverged in epoch 21"
        assert blew_up in drive.panel("#values")
        assert "race 50 / 100 epochs" in drive.status
        await drive.press("space")
        await drive.asks(Pause())
        await drive.tell(race("paused"))
        await drive.press("space")
        await drive.asks(Run())
        await drive.press("S", "k")
        await drive.asks(Stop(keep=True))
        await drive.press("enter")
        assert "A race is under way" in drive.status
        await drive.tell(Update(race=None))
        assert "Loss · MSE" in title(drive, "#loss")


async def test_a_race_is_stopped_as_a_race_and_only_while_it_goes_on() -> None:
    async with driving(steps=3, client=lanes_told) as drive:
        await drive.tell(race())
        await drive.press("S")
        await drive.sees("Stop the race of 3 lanes?", "lr 0.001, lr 0.01, lr 2", "50 epochs of each lane were done")
        await drive.tell(race("finished"))
        await drive.tell(Update(race=None))
        await drive.press("d")
        assert drive.client.commands(Stop) == [], "the run below the race was discarded for it"
        assert "It has ended meanwhile" in drive.status
        await drive.tell(race("finished"))
        await drive.press("S")
        assert not drive.dialog
        assert "The race is over" in drive.status
        await drive.press("space")
        assert "The race is over" in drive.status
        assert drive.client.commands(Run) == []


async def test_keys_of_a_single_run_leave_a_race_alone() -> None:
    async with driving(steps=3, client=lanes_told) as drive:
        await drive.tell(race())
        before = [command for command in drive.client.asked if not isinstance(command, ReadSeries)]
        for key in ("/", "j", "left", "k", "l", "T", "m", "N", "e", "s", "'", "f", "tab", "z", "v", "A"):
            drive.app.forget_complaint()
            await drive.press(key)
            assert "a race is shown: S ends it" in drive.status, key
            assert not drive.dialog, key
        assert [command for command in drive.client.asked if not isinstance(command, ReadSeries)] == before


async def test_a_race_zooms_and_has_the_room_whatever_was_full_screen_before() -> None:
    async with driving(steps=3, client=lanes_told) as drive:
        await drive.press("tab", "tab", "z")
        await drive.tell(race())
        chart = drive.app.screen.query_one("#loss", Chart)
        assert chart.size.width > 20
        assert drive.app.screen.query_one("#values").size.width > 20
        await drive.press("up")
        await drive.until(lambda: chart.spec.x_range == (24, 74))
        await drive.press("escape")
        await drive.until(lambda: chart.spec.x_range == (0, 100))
        await drive.tell(Update(race=None))
        assert chart.size.width == 0
        assert drive.app.screen.query_one("#fit", Chart).size.width > 60


async def test_the_pace_of_a_race_is_changed_and_leaving_it_asks() -> None:
    async with driving(steps=3, client=lanes_told) as drive:
        await drive.tell(Update(training=None))
        await drive.tell(race())
        await drive.press("+")
        await drive.asks(SetPace(pace=50))
        await drive.press("q")
        await drive.sees("A race is running", "50 of 100 epochs of each of its 3 lanes are done", "the race goes on")
        await drive.press("c")
        await drive.tell(race("finished"))
        await drive.pilot.press("q")
        await drive.until_left()
        lines = drive.app.farewell.splitlines()
        assert lines[0].startswith("race 1     50 of 100 epochs, finished")
        assert len(lines) == 5, "a line for each lane, and how to come back"
        assert "brings it back" in lines[-1]


async def test_enter_finds_the_settings_while_another_panel_has_all_the_room() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.press("z", "enter")
        await drive.until(lambda: drive.app.screen.focused is not None)
        assert drive.app.screen.focused is not None
        assert drive.app.screen.focused.size.width > 5


async def test_escape_takes_back_one_thing_at_a_time() -> None:
    async with driving(steps=3) as drive:
        chart = drive.app.screen.query_one("#loss", Chart)
        await drive.press("up")
        zoomed = chart.spec.x_range
        assert zoomed != (0, 100)
        await drive.press("enter", "escape")
        assert chart.spec.x_range == zoomed
        await drive.press("escape")
        assert chart.spec.x_range == (0, 100)


async def test_a_lane_of_a_race_that_is_over_is_taken_on() -> None:
    async with driving(steps=3, client=lanes_told) as drive:
        await drive.tell(race())
        await drive.sees("one epoch each")
        await drive.tell(race("finished"))
        assert "enter takes a lane on" in drive.status
        await drive.sees("take a lane on", "single run")
        await drive.press("enter")
        await drive.sees("The lanes of the race")
        await drive.press("enter")
        await drive.asks(Adopt(run=4))


async def test_r_sets_a_race_up() -> None:
    async with driving(steps=3) as drive:
        await drive.press("R")
        await drive.sees("A race", "learning rates")
        await drive.press("enter")
        await drive.until(lambda: drive.client.commands(StartRace) != [])
        started = drive.client.commands(StartRace)[0]
        assert isinstance(started, StartRace)
        assert len({spec.learning_rate for spec in started.lanes}) == len(started.lanes) >= 3
