"""The table of runs on the screen: every key, what the engine is asked, and what happens while runs come and go."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from tests.tui.driving import Drive, driving, frame, squeeze, training
from tests.tui.fake_runs import HOSTILE, keeping, kept, many, several
from textual.geometry import Region
from textual.widgets import DataTable, Input

from workflow_core.errors import WorkflowError
from workflow_core.protocol import DeleteRuns, EditRun, FileView, ReadSeries, RestoreRun, RunView, SavedView, Update
from workflow_core.specs import TrainSpec
from workflow_tui import typeahead
from workflow_tui.dialogs.compare import CompareDialog
from workflow_tui.dialogs.runs import RunsDialog
from workflow_tui.screens.base import StepScreen
from workflow_tui.widgets.calm_table import CalmTable

SIZES = ((20, 5), (40, 12), (80, 24), (120, 40), (200, 60))


@asynccontextmanager
async def at_runs(runs: tuple[RunView, ...], size: tuple[int, int] = (120, 40)) -> AsyncIterator[Drive]:
    """The table of these runs, run 1 of which is the one that is there."""
    # keys behind one that closes a dialog wait that long
    with mock.patch.object(typeahead, "PATIENCE", 0.1):
        async with driving(client=keeping(runs), size=size) as drive:
            drive.client.asked.clear()
            for _ in range(2):
                drive.app.runs.open()
                await drive.app.screen.run_action("pin")  # a key that comes before the table stands
            await drive.until(lambda: isinstance(drive.app.screen, RunsDialog))
            await tell(drive, Update(training=training(run=1)))
            yield drive


def table(drive: Drive) -> CalmTable:
    return drive.app.screen.query_one(CalmTable)


def order(drive: Drive) -> list[int]:
    """The runs as they stand in the table."""
    return list(map(int, table(drive)._shown))


def row(drive: Drive, run: int) -> str:
    """The line of a run as it is drawn."""
    return drive.panel("#runs").splitlines()[2 + order(drive).index(run)]


def chosen(drive: Drive) -> int:
    """The run under the cursor, as the line below the table names it."""
    head = drive.panel("#run-details").splitlines()[1]
    assert head.startswith(f"run {table(drive).chosen} ")
    return int(head.split()[1])


async def choose(drive: Drive, run: int) -> None:
    """Move the cursor to a run."""
    at, wanted = table(drive).cursor_row, order(drive).index(run)
    await drive.press(*["down" if wanted > at else "up"] * abs(wanted - at))
    assert chosen(drive) == run


async def tell(drive: Drive, event: Update) -> None:
    """The engine says something, and the table has followed."""
    drive.client.on_event(event)
    await drive.settle()
    for _ in range(2):  # a table that was hidden has its room only afterwards
        if isinstance(drive.app.screen, RunsDialog | CompareDialog):
            drive.app.screen.follow()
        await drive.settle()


async def test_every_run_stands_there_with_its_settings_and_its_result() -> None:
    async with at_runs(several(), (160, 40)) as drive:
        assert "Runs · 6 runs, by run, newest first" in drive.text
        assert order(drive) == [2, 6, 5, 4, 3, 1]
        assert squeeze(row(drive, 5)) == (
            "~ 5 adam in batches lr 0.01, 0.005 from epoch 40 · Adam · batch 32 "
            "finished 100/100 0.0216 0.1080 0.1080 @ 99 0:10 2023-11-14"
        )
        assert squeeze(row(drive, 4)) == "4 lr 2 · SGD diverged 38/100 NaN inf 0.9000 @ 0 0:09 2023-11-14"
        assert row(drive, 2).startswith(" ^ ")
        assert row(drive, 1).startswith("  > ")
        assert "run 2 · stopped · 70 of 100 epochs in 0:07" in drive.text
        assert "lr 0.01 · SGD · noise 0.05 · noise seed 7 · MSE" in drive.text
        await choose(drive, 4)
        assert "train_loss became NaN in epoch 37" in drive.text
        assert "MSE: train NaN · val inf · best val 0.9000 at epoch 0 of 0–37" in drive.text
        await drive.press("+", "l", "g", "1", "n", "d", "w", "escape")
        assert not drive.dialog, "it was opened twice"
        assert drive.client.asked == [], "keys of the screen below did something"


async def test_an_empty_table_says_what_will_be_there_and_its_keys_do_nothing() -> None:
    async with at_runs(()) as drive:
        await drive.sees("Every run will stand here with its settings", "space on Train starts one")
        await drive.press("space", "c", "enter", "p", "r", "v", "o", "O", "e", "x", "delete", "down", "end")
        assert isinstance(drive.app.screen, RunsDialog)
        assert drive.client.asked == []
        await tell(drive, Update(runs=(kept(1),)))
        assert "Every run will stand here" not in drive.text
        assert "100/100" in row(drive, 1)
        await drive.press("u")
        assert not drive.dialog


async def test_it_is_sorted_by_every_column_and_the_other_way_round() -> None:
    async with at_runs(several(), (80, 24)) as drive:
        for words in ("restore settings", "turn order", "x delete", "u close", "MSE: train", "> on the charts"):
            assert words in drive.text
        await choose(drive, 3)
        await drive.press("o")
        assert "by name, from a to z" in drive.text
        assert order(drive) == [2, 5, 3, 6, 4, 1]
        await drive.press("O")
        assert "by name, from z to a" in drive.text
        assert order(drive) == [2, 3, 5, 6, 4, 1]
        assert chosen(drive) == 3, "the cursor left its run"
        for title in ("settings", "state", "epochs", "train", "val", "best val", "time", "begun"):
            await drive.press("o")
            assert f"by {title}, " in drive.text
            heads = drive.panel("#runs").splitlines()[0]
            assert f"{title}▼" in heads or f"{title}▲" in heads, f"{title} is out of sight"
        await drive.press("o")
        assert "by run, newest first" in drive.text
        assert chosen(drive) == 3
        await drive.press(*["right"] * 12, *["left"] * 12)
        for key, text in (("right", "settings"), ("right", "state"), ("left", "settings"), ("left", "name")):
            await drive.press(key)
            assert drive.panel("#runs").split()[:2] == ["run▼", text]
        at = drive.panel("#runs").splitlines()[0].index("state")
        for text in ("by state, from a to z", "by state, from z to a"):
            await drive.pilot.click(CalmTable, offset=(at + 1, 0))
            await drive.settle()
            assert text in drive.text
        await drive.press("q")
        assert not drive.dialog
        assert not drive.app._exit


async def test_runs_are_pinned_and_named() -> None:
    async with at_runs(several()) as drive:
        await choose(drive, 3)
        for pinned, there in ((True, [3, 2, 6, 5, 4, 1]), (False, [2, 6, 5, 4, 3, 1])):
            await drive.press("p")
            await drive.asks(EditRun(run=3, pinned=pinned))
            await drive.until(lambda there=there: order(drive) == there)  # type: ignore[misc]
            assert chosen(drive) == 3
        await drive.press("r")
        assert "Name of run 3" in drive.text
        assert drive.app.screen.query_one(Input).value == "fast"
        await drive.press("end", *" one", "enter")
        await drive.asks(EditRun(run=3, name="fast one"))
        await drive.until(lambda: "fast one" in row(drive, 3))
        drive.client.asked.clear()
        await drive.press("r", "escape")
        await drive.press("r", "enter")
        assert drive.client.asked == [], "a name that did not change was sent"
        await drive.press("r", "home", "shift+end", "delete", "enter")
        await drive.asks(EditRun(run=3, name=""))


async def test_a_name_that_is_hostile_or_long_is_harmless_everywhere() -> None:
    async with at_runs((kept(3, name=HOSTILE, train={"clip": 1.0}), kept(2), kept(1))) as drive:
        assert "[/]\ufffd[31m[@click" in row(drive, 3)
        await drive.press("r")
        field = drive.app.screen.query_one(Input)
        field.value = ""
        field.replace(HOSTILE * 9, 0, 0)
        assert len(field.value) == 60
        await drive.press("enter")
        await drive.until(lambda: drive.client.asked)
        (edit,) = drive.client.asked
        assert isinstance(edit, EditRun)
        assert edit.name is not None
        assert 50 < len(edit.name) <= 60
        assert not {"\x1b", "\u202e"} & set(edit.name)
        for key, title in (("x", "Delete run 3 ([/]"), ("e", "Export run 3 ([/]"), ("enter", "run 3 ([/]")):
            await drive.press(key)
            await drive.sees(title)
            await drive.press("escape")
        await drive.press("space", "down", "space", "c")
        assert "[/]" in drive.panel("#compared")
        assert not drive.app._exit


async def test_runs_are_marked_and_compared() -> None:
    async with at_runs(several()) as drive:
        await drive.press("c")
        await drive.sees("two or more of them can be compared")
        await choose(drive, 5)
        await drive.press("space")
        assert row(drive, 5).startswith("*")
        await choose(drive, 3)
        await drive.press("c")
        assert isinstance(drive.app.screen, CompareDialog)
        text = squeeze(drive.panel("#compared"))
        assert text.startswith("run 5 run 3 adam in batches fast state finished finished epochs done/planned 100/100")
        assert "train MSE 0.0216 0.0144 * val MSE 0.1080 0.0720 *" in text
        assert "Settings that differ ≠ rate set by hand 0.005 from 40 never ≠ learning rate 0.01 0.1" in text
        assert text.endswith("28 equal settings a shows them")
        await drive.press("a")
        assert "= loss MSE MSE" in squeeze(drive.panel("#compared"))
        assert "= batch seed 42 –" in squeeze(drive.panel("#compared"))
        await drive.press("a")
        assert "= loss" not in drive.panel("#compared")
        await tell(drive, Update(runs=(replace(kept(5), epochs=44, train_loss=0.25, name="slow"), kept(3))))
        text = squeeze(drive.panel("#compared"))
        assert "slow" in text
        assert "44/100 100/100 train MSE 0.2500 0.0144 *" in text
        await tell(drive, Update(runs=(kept(5),)))
        assert isinstance(drive.app.screen, RunsDialog), "a comparison of one run stayed"
        await tell(drive, Update(runs=many(20)))
        await drive.press("home")
        for _ in range(13):
            await drive.pilot.press("down", "space")
        await drive.press("c")
        await drive.sees("runs are marked; 12 at most")


async def test_deleting_asks_and_names_what_goes() -> None:
    async with at_runs(several()) as drive:
        await choose(drive, 3)
        for answer in ("c", "escape", "enter"):
            await drive.press("x")
            await drive.sees("Delete run 3 (fast)?", "100 epochs of run 3 (fast)")
            await drive.press(answer)
        assert drive.client.asked == []
        await drive.press("delete", "d")
        await drive.asks(DeleteRuns(runs=(3,)))
        await drive.until(lambda: order(drive) == [2, 6, 5, 4, 1])
        await drive.until(lambda: chosen(drive) == 1)
        await drive.press("x")
        await drive.sees("Not deleted: it is on the charts now")
        await drive.press("home", "space", "down", "space", "x")
        await drive.sees("Delete 2 runs?", "190 epochs of run 2 and run 6", "1 of them is pinned.")
        await drive.press("d")
        await drive.asks(DeleteRuns(runs=(2, 6)))
        await drive.until(lambda: order(drive) == [5, 4, 1])
        await drive.press("x")
        await drive.sees("Delete run 4?")
        await drive.press("escape", "space", "end", "space", "x")
        await drive.sees("Not deleted: run 1 is on the charts now")


async def test_settings_are_restored_after_a_question_that_says_what_changes_and_what_would_be_lost() -> None:
    async with at_runs(several()) as drive:
        await choose(drive, 1)
        await drive.press("enter")
        await drive.sees("The settings are those of run 1 already")
        await choose(drive, 5)
        for answer in ("c", "escape", "enter"):
            await drive.press("enter")
            await drive.sees("Back to the settings of run 5 (adam in batches)?", "The weights of run 1 are in no file")
            assert "optimizer SGD → Adam" in drive.text
            assert "batch size all rows → 32" in drive.text
            assert "would be gone" not in drive.text
            await drive.press(answer)
        await tell(drive, Update(training=training(run=1, state="running", epoch=50)))
        await drive.press("enter")
        await drive.sees("A training runs: space on Train pauses it")
        await tell(drive, Update(training=training(run=1), train_spec=TrainSpec(learning_rate=0.77)))
        await drive.press("enter")
        await drive.sees(
            "learning rate 0.77 → 0.01", "No kept run has the settings as they stand now: they would be gone"
        )
        assert drive.client.asked == []
        await drive.press("r")
        await drive.asks(RestoreRun(run=5))
        await drive.until(lambda: not drive.dialog)
        assert drive.app.state.train_spec == several()[1].spec.train
        await drive.sees("set as for run 5 (adam in batches)")
        drive.app.runs.open()
        file = FileView(path="model.pt", kind="state_dict", size=1, tensors=(), values={}, verified=True)
        await tell(drive, Update(saved=SavedView(run=1, epoch=100, file=file)))
        await drive.press("down")
        await drive.press("enter")
        await drive.asks(RestoreRun(run=6))
        await drive.until(lambda: not drive.dialog)


async def test_what_the_engine_refuses_is_said_in_the_table() -> None:
    async with at_runs(several()) as drive:
        drive.client.problems["EditRun"] = WorkflowError("The disk is full", "it takes no more.", "Free some room.")
        await drive.press("p")
        await drive.sees("it takes no more. Free some room.")
        drive.client.problems["RestoreRun"] = WorkflowError("Gone", "the table of run 5 is gone.")
        await choose(drive, 5)
        await drive.press("enter", "r")
        await drive.sees("the table of run 5 is gone.")
        assert isinstance(drive.app.screen, RunsDialog)
        drive.app.link.lose("killed")
        await drive.press("p")
        await drive.sees("The engine has ended")
        drive.app.forget_complaint()
        await drive.sees("The engine has ended; this is the last it said of its runs.")
        await drive.press("u")
        await drive.sees("The engine has ended (killed).")


async def test_the_last_three_runs_are_drawn_until_somebody_chooses_and_their_losses_are_read_once() -> None:
    async with at_runs(several()) as drive:
        earlier = drive.app.earlier

        def drawn() -> list[int]:
            return [run.run for run in earlier.under(drive.app.state)]

        assert drawn() == [6, 5, 3], "4 blew up, and would leave the others no room"
        await choose(drive, 5)
        await drive.press("v")
        assert "~" not in row(drive, 5)
        await choose(drive, 4)
        await drive.press("v")
        assert "~" in row(drive, 4)
        assert drawn() == [6, 4, 3]
        await tell(drive, Update(runs=(kept(8, epochs=0), kept(7), *several())))
        assert drawn() == [7, 6, 4], "a choice was forgotten"
        await choose(drive, 1)
        await drive.press("v")
        await drive.sees("Run 1 is on the charts itself")
        await choose(drive, 8)
        await drive.press("v")
        await drive.sees("Run 8 has no epoch that could be drawn")
        drive.app.forget_complaint()

        run = several()[0]
        assert earlier.columns(run) == ()
        await drive.until(lambda: earlier.columns(run))
        columns = earlier.columns(run)
        assert (columns[0].start, columns[-1].stop) == (0, 120)
        assert math.isclose(columns[0].first, 0.101)
        (asked,) = drive.client.commands(ReadSeries)
        assert isinstance(asked, ReadSeries)
        assert (asked.run, asked.start, asked.stop, asked.names) == (6, 0, 120, ("train_loss",))
        drive.client.problems["ReadSeries"] = WorkflowError("Gone", "no such run.")
        assert earlier.columns(kept(3)) == ()
        await drive.until(lambda: len(drive.client.commands(ReadSeries)) == 2)
        await drive.settle()
        assert earlier.columns(kept(3)) == ()
        assert 3 in earlier._asked, "what cannot be read was asked for again at once"
        assert drive.app.flash is None


async def test_runs_that_come_change_and_go_leave_the_cursor_where_it_is() -> None:
    async with at_runs(several()) as drive:
        await choose(drive, 4)
        await tell(drive, Update(runs=(kept(8), kept(7), *several())))
        assert order(drive) == [2, 8, 7, 6, 5, 4, 3, 1]
        assert chosen(drive) == 4
        await tell(drive, Update(runs=tuple(run for run in several() if run.run != 6)))
        assert chosen(drive) == 4
        await tell(drive, Update(runs=()))
        assert "No run is kept yet" in drive.text
        await tell(drive, Update(runs=several()))
        assert order(drive) == [2, 6, 5, 4, 3, 1]


async def test_a_run_under_way_moves_in_its_row_and_nothing_else_is_repainted() -> None:
    runs = (kept(3), kept(2, state="running", epochs=10, train={"learning_rate": 0.5}), kept(1))
    async with at_runs(runs) as drive:
        regions: list[tuple[Region, ...]] = []
        repaint = DataTable.refresh

        def refresh(self: DataTable[object], *region: Region, **options: object) -> object:
            if isinstance(self, CalmTable):
                regions.append(region)
            return repaint(self, *region, **options)  # type: ignore[arg-type]

        await tell(drive, Update(training=training(run=2, state="running", epoch=54, spec=runs[1].spec.train)))
        with (
            mock.patch.object(DataTable, "refresh", refresh),
            mock.patch.object(StepScreen, "refresh_state") as below,
        ):
            view = training(run=2, state="running", epoch=55, train_loss=0.5, val_loss=0.25, spec=runs[1].spec.train)
            await tell(drive, Update(training=view))
            below.assert_not_called()
        assert "55/100 0.5000 0.2500" in squeeze(row(drive, 2))
        assert regions
        assert all(region and all(each.height == 1 and each.width < 20 for each in region) for region in regions)


async def test_five_hundred_runs_are_there() -> None:
    async with at_runs(many(500)) as drive:
        assert "500 runs" in drive.text
        await drive.press("end")
        assert chosen(drive) == 1
        await drive.press("o", "space", "home")
        assert chosen(drive) == order(drive)[0] == 485
        assert len(order(drive)) == 500


@pytest.mark.soak
async def test_it_stands_at_every_size_and_in_both_themes() -> None:
    async with at_runs(many(60), SIZES[-1]) as drive:
        drive.app.action_theme()
        for size in SIZES:
            await drive.pilot.resize_terminal(*size)
            await drive.settle()
            await drive.press("down", "right", "pagedown")
            lines = frame(drive.app)
            assert {cell_len(line.text) for line in lines} == {size[0]}
