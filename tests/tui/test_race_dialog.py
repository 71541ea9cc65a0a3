"""Setting a race up, and going on with one of its lanes."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.tui.driving import Drive, driving, squeeze, training
from tests.tui.fake_runs import HOSTILE
from textual.widgets import Input

from workflow_core.errors import WorkflowError
from workflow_core.protocol import Adopt, LaneView, RaceView, SetPace, StartRace, Update
from workflow_core.specs import LINES, TrainSpec
from workflow_tui import race_text, typeahead
from workflow_tui.dialogs.lanes import LanesDialog
from workflow_tui.dialogs.race import RaceDialog
from workflow_tui.race_text import DIFFERS, Differs, lanes, proposal, remark, stable

COURSE = TrainSpec()
RATES, OPTIMIZERS = DIFFERS


def rates(text: str, spec: TrainSpec = COURSE) -> list[float]:
    return [lane.learning_rate for lane in lanes(text, "learning rates", spec)]


def optimizers(text: str, spec: TrainSpec = COURSE) -> list[tuple[str, float]]:
    return [(lane.optimizer, lane.learning_rate) for lane in lanes(text, "optimizers", spec)]


# --- what is typed -----------------------------------------------------------------------------------


def test_learning_rates_make_lanes_that_differ_in_nothing_else() -> None:
    spec = TrainSpec(optimizer="adam", batch_size=16, epochs=7)
    found = lanes("0.001, 1e-2;0.1 ", "learning rates", spec)
    assert found == tuple(replace(spec, learning_rate=rate) for rate in (0.001, 0.01, 0.1))


def test_optimizers_have_a_rate_each_or_that_of_the_settings() -> None:
    assert optimizers("sgd 0.1, Adam, LBFGS 1") == [("sgd", 0.1), ("adam", 0.01), ("lbfgs", 1.0)]


def test_a_flag_that_adam_has_no_use_for_does_not_refuse_sgd() -> None:
    spec = TrainSpec(optimizer="adam", nesterov=True)
    assert optimizers("sgd 0.1, adam 0.1", spec) == [("sgd", 0.1), ("adam", 0.1)]
    assert lanes("sgd, adam", "optimizers", TrainSpec(momentum=0.9, nesterov=True))[0].nesterov


@pytest.mark.parametrize(
    ("text", "differs", "says"),
    [
        ("", RATES, "name 2 to 6 learning rates, with commas between"),
        (" ", OPTIMIZERS, "name 2 to 6 optimizers, with commas between"),
        ("0.1", RATES, "a race has 2 to 6 lanes; this is 1"),
        ("1,2,3,4,5,6,7", RATES, "a race has 2 to 6 lanes; these are 7"),
        ("0.1,,0.2", RATES, "there is nothing between two of the commas"),
        ("0.1,0.2,", RATES, "there is nothing between two of the commas"),
        ("0.1,x", RATES, "'x' is not a number"),
        ("0.1,inf", RATES, "'inf' must be a finite number"),
        ("0.1,-1", RATES, "a learning rate lies above 0 and up to 1,000,000; -1 does not"),
        ("0.1,0", RATES, "a learning rate lies above 0 and up to 1,000,000; 0 does not"),
        ("0.1,1e7", RATES, "a learning rate lies above 0 and up to 1,000,000; 1e7 does not"),
        ("0.1,0.10", RATES, "lr 0.1 stands there twice"),
        ("sgd,sgd 0.01", OPTIMIZERS, "SGD lr 0.01 stands there twice"),
        (
            "sgd,adamax",
            OPTIMIZERS,
            "'adamax' is no optimizer here; there are SGD, Adam, AdamW, RMSprop, Adagrad, LBFGS",
        ),
        ("sgd,0.1", OPTIMIZERS, "'0.1' is no optimizer here"),
        ("sgd 0.1 0.2,adam", OPTIMIZERS, "SGD takes one learning rate, such as sgd 0.01"),
        ("sgd,adam nan", OPTIMIZERS, "'nan' must be a finite number"),
    ],
)
def test_what_makes_no_race_is_refused_in_one_sentence(text: str, differs: Differs, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        lanes(text, differs, COURSE)


def test_what_torch_cannot_do_is_refused_in_the_words_of_the_settings() -> None:
    with pytest.raises(ValueError, match="lbfgs cannot learn from clipped gradients"):
        lanes("sgd, lbfgs", "optimizers", TrainSpec(clip=1.0))
    with pytest.raises(ValueError, match="lbfgs runs the lines of the loop by itself"):
        lanes("sgd, lbfgs", "optimizers", TrainSpec(loop=LINES[:4]))


@given(st.text(max_size=60), st.sampled_from(DIFFERS))
def test_any_text_is_lanes_or_is_refused(text: str, differs: Differs) -> None:
    found: tuple[TrainSpec, ...] = ()
    with contextlib.suppress(ValueError):
        found = lanes(text, differs, COURSE)
    assert len(found) in (0, 2, 3, 4, 5, 6)


numbers = st.floats(1e-8, 1e6).map(lambda rate: float(f"{rate:.6g}"))


@given(numbers, st.one_of(st.none(), st.floats(1e-9, 1e7)), st.sampled_from(DIFFERS))
def test_what_is_proposed_is_a_race(rate: float, edge: float | None, differs: Differs) -> None:
    spec = TrainSpec(learning_rate=rate)
    found = lanes(proposal(differs, spec, edge), differs, spec)
    assert rate in [lane.learning_rate for lane in found]


def test_the_proposal_is_the_rate_a_tenth_ten_times_and_the_largest_stable_one() -> None:
    assert proposal("learning rates", COURSE, 0.892857) == "0.001, 0.01, 0.1, 0.892"
    assert proposal("learning rates", COURSE, None) == "0.001, 0.01, 0.1"
    assert proposal("learning rates", COURSE, 0.1001) == "0.001, 0.01, 0.1", "two lanes nearly alike"
    assert proposal("optimizers", COURSE, 0.9) == "SGD 0.01, Adam 0.01, RMSprop 0.01, Adagrad 0.01"
    lbfgs = TrainSpec(optimizer="lbfgs", learning_rate=1.0)
    assert proposal("optimizers", lbfgs, None) == "LBFGS 1, SGD 1, Adam 1, RMSprop 1"


@given(st.floats(1e-9, 1e6))
def test_the_stable_rate_is_never_rounded_up(edge: float) -> None:
    rounded = stable(COURSE, edge)
    assert rounded is not None
    assert 0.98 * edge <= rounded <= edge * (1 + 1e-12)


def test_the_stable_rate_is_that_of_full_batches_and_gradient_descent() -> None:
    assert stable(TrainSpec(batch_size=8), 0.9) is None
    assert stable(TrainSpec(optimizer="adam"), 0.9) is None
    assert stable(COURSE, None) is None
    assert stable(COURSE, math.inf) is None
    assert remark(replace(COURSE, learning_rate=1.0), 0.9) == (
        "above 0.9000, the largest stable rate: expect it to diverge"
    )
    assert remark(replace(COURSE, learning_rate=0.89), 0.9) == "about the largest stable rate"
    assert remark(COURSE, 0.9) == remark(replace(COURSE, optimizer="adam", learning_rate=1.0), 0.9) == ""


# --- the dialog --------------------------------------------------------------------------------------


@asynccontextmanager
async def at_race(size: tuple[int, int] = (80, 24)) -> AsyncIterator[Drive]:
    with mock.patch.object(typeahead, "PATIENCE", 0.1):
        async with driving(steps=2, size=size) as drive:
            drive.client.asked.clear()
            drive.app.runs.race()
            await drive.until(lambda: isinstance(drive.app.screen, RaceDialog))
            await drive.settle()
            yield drive


async def type_lanes(drive: Drive, text: str) -> None:
    drive.app.screen.query_one(Input).value = text
    await drive.settle()


async def test_a_race_is_looked_at_before_it_starts() -> None:
    async with at_race() as drive:
        assert drive.app.screen.query_one(Input).value == "0.001, 0.01, 0.1, 0.892"
        text = squeeze(drive.panel("#race-lanes"))
        assert "lane 1 lr 0.001 lane 2 lr 0.01 lane 3 lr 0.1 lane 4 lr 0.892 about the largest stable rate" in text
        assert "all: SGD · MSE · 100 epochs" in text
        await type_lanes(drive, "0.1, 2")
        says = "lane 2 lr 2 above 0.8929, the largest stable rate: expect it to diverge all"
        assert says in squeeze(drive.panel("#race-lanes"))
        await type_lanes(drive, "0.1")
        await drive.sees("× a race has 2 to 6 lanes; this is 1")
        await drive.press("enter")
        assert isinstance(drive.app.screen, RaceDialog), "a race of one was started"
        await type_lanes(drive, "0.1, " + HOSTILE)
        await drive.sees("is not a number")
        await type_lanes(drive, "0.1, 0.2")
        await drive.press("down")
        await drive.sees("● optimizers", "lane 4  Adagrad lr 0.01", "all: MSE · 100 epochs")
        await drive.press("up")
        assert drive.app.screen.query_one(Input).value == "0.1, 0.2", "what was typed is lost"
        await drive.press("enter")
        specs = tuple(replace(COURSE, learning_rate=rate) for rate in (0.1, 0.2))
        await drive.asks(StartRace(lanes=specs))
        await drive.until(lambda: not drive.dialog)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_becomes_of_the_run_under_way_is_said_before_a_race(size: tuple[int, int]) -> None:
    async with driving(steps=3, size=size) as drive:
        waits = "Run 7 waits, and is back as it is when the race is over and left with r."
        for changes, said in (({"state": "running", "epoch": 5}, True), ({"state": "finished"}, False)):
            await drive.tell(Update(training=training(run=7, **changes)))
            await drive.press("R")
            await drive.sees("Several trainings at once")
            assert (waits in squeeze(drive.panel(".dialog-text"))) is said
            await drive.press("escape")


async def test_a_race_is_left_and_what_the_engine_refuses_is_said() -> None:
    async with at_race() as drive:
        await drive.press("escape")
        assert not drive.dialog
        assert drive.client.asked == []
        drive.client.problems["StartRace"] = WorkflowError("No data", "there are no rows.", "Make data first.")
        drive.app.runs.race()
        await drive.until(lambda: isinstance(drive.app.screen, RaceDialog))
        await drive.press("down", "enter")
        await drive.sees("There are no rows.", "Make data first.")
        pace, asked = drive.client.asked
        assert pace == SetPace(pace=20.0), "the pace on the screen is not that of the race"
        assert isinstance(asked, StartRace)
        assert [lane.optimizer for lane in asked.lanes] == ["sgd", "adam", "rmsprop", "adagrad"]


def race(**changes: object) -> RaceView:
    """Three lanes: one that leads, one that has diverged, one with a hostile label."""
    spec = replace(COURSE, epochs=200)
    given = (
        LaneView(run=4, label="lr 0.1", spec=spec, state="running", epoch=60, train_loss=0.01, val_loss=0.02),
        LaneView(run=5, label="lr 2", spec=spec, state="diverged", epoch=38, train_loss=math.nan, first_bad=37),
        LaneView(run=6, label=HOSTILE, spec=spec, state="running", epoch=60, best_epoch=9, best_loss=0.5),
    )
    found = {"race": 1, "state": "running", "lanes": given, "epochs": 200, "epoch": 60, "pace": None} | changes
    return RaceView(**found)  # type: ignore[arg-type]


async def test_a_lane_is_taken_to_go_on_with() -> None:
    with mock.patch.object(typeahead, "PATIENCE", 0.1):
        async with driving(steps=2) as drive:
            drive.app.runs.adopt()
            await drive.sees("There is no race whose lane could be taken")
            await drive.tell(Update(race=race()))
            drive.client.asked.clear()
            drive.app.runs.adopt()
            await drive.until(lambda: isinstance(drive.app.screen, LanesDialog))
            await drive.settle()
            text = squeeze(drive.panel("#race-table"))
            assert text.startswith("lane state epoch train val best val @ first bad of 200 MSE MSE MSE @ epoch")
            assert "lr 0.1 running 60 0.0100 0.0200 – lr 2 diverged @ 37 38 NaN –" in text
            assert "0.5000 @ 9 train" in text
            await drive.press("escape")
            assert not drive.dialog
            assert drive.client.asked == []
            drive.app.runs.adopt()
            await drive.until(lambda: isinstance(drive.app.screen, LanesDialog))
            await drive.tell(Update(race=race(lanes=(replace(race().lanes[0], epoch=61), *race().lanes[1:]))))
            await drive.until(lambda: "lr 0.1 running 61" in squeeze(drive.panel("#race-table")))
            await drive.press("enter")
            await drive.asks(Adopt(run=6))  # the best so far
            drive.app.runs.adopt()
            await drive.until(lambda: isinstance(drive.app.screen, LanesDialog))
            await drive.tell(Update(race=None))
            await drive.until(lambda: not drive.dialog)


def test_the_texts_of_a_race_say_what_its_lanes_share() -> None:
    spec = TrainSpec(batch_size=16, scheduler="cosine", loss="l1", optimizer="adam")
    assert race_text.shared(spec, "learning rates") == "Adam · L1 · 100 epochs · batch 16 · schedule cosine"
    assert race_text.shared(spec, "optimizers") == "L1 · 100 epochs · batch 16 · schedule cosine"
