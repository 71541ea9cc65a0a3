"""What is said of kept runs: settings that are special, results with their units, and what differs between runs."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed
from tests.tui.driving import training
from tests.tui.fake_runs import BEGUN, HOSTILE, kept, several

from workflow_core.protocol import LaneView, RaceView, RunView
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_tui import compare_text, runs_text
from workflow_tui.run_settings import changes, common, settings_of, special_text, summary_text
from workflow_tui.state import State

NOW = datetime(2023, 11, 15, 12, 0, tzinfo=UTC)


def special(run: RunView, *others: RunView) -> str:
    usual = common(settings_of(each.spec) for each in (run, *others))
    return special_text(settings_of(run.spec), usual, run.lr_changes)


# --- settings ----------------------------------------------------------------------------------------


def test_rate_and_optimizer_are_always_said_and_else_only_what_most_runs_have_not() -> None:
    plain = [kept(number) for number in range(1, 4)]
    odd = kept(4, train={"learning_rate": 0.1, "optimizer": "adam", "batch_size": 32}, data={"noise": 0.05})
    assert special(odd, *plain) == "lr 0.1 · Adam · batch 32 · noise 0.05"
    assert special(plain[0], *plain[1:], odd) == "lr 0.01 · SGD"


def test_of_two_runs_the_one_with_the_programs_own_setting_is_the_usual_one() -> None:
    plain, odd = kept(1), kept(2, train={"batch_size": 32})
    assert special(plain, odd) == "lr 0.01 · SGD"
    assert special(odd, plain) == "lr 0.01 · SGD · batch 32"
    usual = [common(map(settings_of, specs)) for specs in ((plain.spec, odd.spec), (odd.spec, plain.spec))]
    assert usual[0] == usual[1]


def test_where_most_runs_have_another_setting_the_programs_own_is_special() -> None:
    batches = [kept(number, train={"batch_size": 32}) for number in range(1, 4)]
    assert special(kept(4), *batches) == "lr 0.01 · SGD · all rows"


def test_a_setting_that_does_nothing_is_not_said() -> None:
    run = kept(1, train={"optimizer": "adam", "momentum": 0.9, "scheduler_epochs": 7}, data={"curve": 3.0})
    assert special(run, kept(2), kept(3)) == "lr 0.01 · Adam"


def test_rates_set_by_hand_are_said_with_the_epoch() -> None:
    once, twice = ((40, 0.005),), ((40, 0.005), (60, 0.001))
    assert special(kept(1, lr_changes=once), kept(2)) == "lr 0.01, 0.005 from epoch 40 · SGD"
    assert special(kept(1, lr_changes=twice), kept(2)) == "lr 0.01, 0.001 from epoch 60, 1 before it · SGD"


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"train": {"epochs": 1_000_000}}, "1,000,000 epochs"),
        ({"train": {"loss": "huber", "delta": 2.0}}, "Huber · delta 2"),
        ({"train": {"scheduler": "cosine"}}, "schedule cosine"),
        ({"train": {"clip": 0.5}}, "clip norm 0.5"),
        ({"train": {"weight_decay": 0.1}}, "weight decay 0.1"),
        ({"train": {"deterministic": True}}, "repeatable on"),
        ({"train": {"loop": ("forward", "loss", "backward", "step")}}, "without zero_grad"),
        (
            {"train": {"loop": ("zero_grad", "forward", "loss", "backward", "step")}},
            "order zero_grad, forward, loss, backward, step",
        ),
        ({"train": {"optimizer_over": "another"}}, "optimizer of another model"),
        ({"model": {"kind": "mlp", "hidden": (8, 4)}}, "MLP · hidden 8, 4"),
        ({"data": {"standardize": True}}, "standardised"),
        ({"data": {"weight": 2.5}}, "true weight 2.5"),
        ({"data": {"split": SplitSpec(train=0.6, validation=0.2, test=0.2)}}, "split 60/20/20"),
        ({"data": {"kind": "sample", "sample": "norris"}}, "· NIST Norris"),
    ],
)
def test_every_kind_of_setting_has_its_phrase(change: dict[str, dict[str, object]], phrase: str) -> None:
    plain = [kept(number) for number in range(1, 4)]
    assert phrase in special(kept(4, **change), *plain)


def test_the_summary_goes_on_with_what_a_run_was_trained_by_and_on() -> None:
    run = kept(1, data={"noise": 0.05})
    usual = common(settings_of(each.spec) for each in (kept(2), kept(3), run))
    text = summary_text(settings_of(run.spec), usual)
    assert text == "lr 0.01 · SGD · noise 0.05 · MSE · 100 epochs · all rows · nn.Parameter · straight line"


def test_names_out_of_files_are_harmless_in_settings() -> None:
    data = DataSpec(kind="table", file=f"/tmp/{HOSTILE}.csv", features=(HOSTILE,), target="y")
    for setting in settings_of(WorkflowSpec(data=data)).values():
        assert "\x1b" not in setting.phrase + setting.value
        assert "\u202e" not in setting.phrase + setting.value


rates = st.floats(1e-6, 10, allow_nan=False)
specs = st.builds(
    TrainSpec, learning_rate=rates, epochs=st.integers(1, 500), batch_size=st.sampled_from((0, 16)), clip=rates
)


@given(specs, specs)
def test_two_settings_that_differ_never_read_the_same(one: TrainSpec, other: TrainSpec) -> None:
    before, after = WorkflowSpec(train=one), WorkflowSpec(train=other)
    assert bool(changes(before, after)) == (one != other)
    assert changes(before, before) == []


def test_what_changes_is_named_with_both_values_and_nothing_beside_it() -> None:
    before, after = WorkflowSpec(), WorkflowSpec(train=TrainSpec(optimizer="adam", learning_rate=0.1, batch_size=32))
    assert changes(before, after) == ["learning rate 0.01 → 0.1", "optimizer SGD → Adam", "batch size all rows → 32"]


def test_a_change_of_what_did_nothing_before_is_named() -> None:
    before = WorkflowSpec(train=TrainSpec(optimizer="adam"))
    after = WorkflowSpec(train=TrainSpec(optimizer="sgd", momentum=0.9))
    assert changes(before, after) == ["optimizer Adam → SGD", "momentum 0 → 0.9"]


# --- results -----------------------------------------------------------------------------------------


def test_losses_come_with_what_they_are_of() -> None:
    assert runs_text.unit(kept(1)) == "MSE"
    assert runs_text.unit(kept(1, train={"loss": "l1"})) == "L1"
    run = kept(1, data={"standardize": True}, loss_scale=2464.0, train_loss=0.5, val_loss=0.25, best_loss=0.125)
    assert runs_text.unit(run) == "MSE std."
    assert runs_text.losses_text(run) == (
        "MSE standardised: train 0.5000 · val 0.2500 · best val 0.1250 at epoch 99 of 0–99 · times 2464 in own units"
    )
    assert "own units" not in runs_text.losses_text(changed(run, loss_scale=None))
    for loss, scale in (("huber", 9.0), ("smooth_l1", 3.0)):
        robust = kept(1, data={"standardize": True}, train={"loss": loss, "delta": 2.0}, loss_scale=scale)
        assert runs_text.losses_text(robust).endswith(f"times {scale:.4f} in own units, delta 6.0000")


def test_without_validation_rows_the_best_epoch_is_of_the_training_and_says_so() -> None:
    run = kept(1, val_loss=None, best_loss=0.0036)
    assert runs_text.best_text(run) == "0.0036 @ 99 train"
    assert runs_text.best_text(kept(1, best_loss=0.0189)) == "0.0189 @ 99"
    assert "best train 0.0036" in runs_text.losses_text(run)
    assert runs_text.best_text(kept(1, best_epoch=None, best_loss=None)) == "–"


def test_a_run_without_an_epoch_says_so() -> None:
    run = kept(1, epochs=0, train_loss=None, val_loss=None, best_epoch=None, best_loss=None, state="ready")
    assert runs_text.losses_text(run) == "no epoch yet"
    assert runs_text.state_text(run) == "not begun"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (kept(1), "finished"),
        (kept(1, reason="stopped early: the validation loss has not fallen for 20 epochs"), "stopped early"),
        (kept(1, state="diverged"), "diverged"),
        (kept(1, state="stopped"), "stopped"),
        (kept(1, state="interrupted"), "interrupted"),
        (kept(1, state="running"), "running"),
        (kept(1, state=HOSTILE), "[/]\ufffd[31m[@click=app…"),
    ],
)
def test_every_state_in_words(run: RunView, words: str) -> None:
    assert runs_text.state_text(run) == words


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(hours=1), "today 11:00"),
        (timedelta(hours=13), "yesterday 23:00"),
        (timedelta(days=40), "2023-10-06"),
        (timedelta(days=-1), "2023-11-16"),
    ],
)
def test_when_a_run_began(ago: timedelta, text: str) -> None:
    assert runs_text.when_text((NOW - ago).timestamp(), NOW) == text


@pytest.mark.parametrize("begun", [math.nan, math.inf, 1e300, -1e300])
def test_a_time_that_is_none_is_a_dash(begun: float) -> None:
    assert runs_text.when_text(begun, NOW) == "–"
    assert runs_text.when_text(begun, None) == "–"


def test_details_hold_everything_about_a_run() -> None:
    run = next(run for run in several() if run.run == 3)
    head, settings, losses, end = runs_text.details(run, settings_of(run.spec), {})
    assert "run 3 (fast) · finished · 100 of 100 epochs in 0:08 · begun 2023-11-1" in head
    assert settings.startswith("lr 0.1 · SGD · ")
    assert losses.startswith("MSE: train 0.0144 · val 0.0720")
    assert end == "goes on from run 1 after 50 epochs"
    lost = next(run for run in several() if run.run == 6)
    assert runs_text.details(lost, settings_of(lost.spec), {})[-1] == "the engine ended before the run did"


@given(st.text(max_size=100))
def test_a_name_is_one_visible_line_of_at_most_sixty_characters(text: str) -> None:
    name = runs_text.name_of(text)
    assert len(name) <= runs_text.NAME
    assert name == name.strip()
    assert runs_text.name_of(name) == name
    assert not {"\x1b", "\n", "\u202e"} & set(name)
    assert "\x1b" not in runs_text.title(kept(1, name=text))


def test_several_runs_in_a_sentence() -> None:
    runs = [kept(1), kept(2, name="fast"), kept(3)]
    assert runs_text.titles(runs[:1], 6) == "run 1"
    assert runs_text.titles(runs, 6) == "run 1, run 2 (fast) and run 3"
    assert runs_text.titles([kept(number) for number in range(1, 11)], 2) == "run 1, run 2 and 8 more"


# --- what is under way -------------------------------------------------------------------------------


def test_the_run_under_way_is_listed_as_it_stands_now_and_the_others_as_they_are_kept() -> None:
    state = State(runs=(kept(2, state="running", epochs=10), kept(1)))
    view = training(
        run=2, state="running", epoch=37, train_loss=0.5, val_loss=None, elapsed=9.0, lr_changes=((20, 1.0),)
    )
    now, before = runs_text.live(replace(state, training=view))
    assert (now.epochs, now.train_loss, now.val_loss, now.elapsed) == (37, 0.5, None, 9.0)
    assert now.lr_changes == ((20, 1.0),)
    assert before == kept(1)
    assert runs_text.engaged(replace(state, training=view)) == {2}


def test_a_run_that_was_reset_keeps_its_record() -> None:
    state = State(runs=(kept(1),), training=training(run=1, state="ready", epoch=0))
    assert runs_text.live(state) == (kept(1),)


def test_the_lanes_of_a_race_are_listed_as_they_stand_now() -> None:
    lanes = tuple(
        LaneView(run=number, label="", spec=TrainSpec(), state="running", epoch=60, train_loss=0.1 * number)
        for number in (1, 2)
    )
    race = RaceView(race=1, state="running", lanes=lanes, epochs=100, epoch=60, pace=None)
    state = State(runs=(kept(2, epochs=50), kept(1, epochs=50)), race=race)
    assert [(run.run, run.epochs, run.train_loss) for run in runs_text.live(state)] == [(2, 60, 0.2), (1, 60, 0.1)]
    assert runs_text.engaged(state) == {1, 2}


# --- side by side ------------------------------------------------------------------------------------


def compared(*runs: RunView) -> dict[str, compare_text.Line]:
    return {line.label: line for line in compare_text.lines(runs, NOW)}


def test_what_differs_comes_before_what_is_equal_and_after_the_results() -> None:
    kinds = [line.kind for line in compare_text.lines(several()[:3], NOW)]
    assert kinds == sorted(kinds, key=["result", "differs", "equal"].index)
    lines = compared(kept(1), kept(2, train={"learning_rate": 0.1}, data={"noise": 0.05}))
    assert {label for label, line in lines.items() if line.kind == "differs"} == {"learning rate", "noise"}
    assert lines["learning rate"].values == ("0.01", "0.1")
    assert lines["optimizer"].kind == "equal"


def test_what_one_run_has_no_use_for_is_a_dash_and_differs_only_where_its_value_does() -> None:
    lines = compared(kept(1), kept(2, train={"optimizer": "adam"}))
    assert lines["momentum"] == compare_text.Line("equal", "momentum", ("0", "–"))
    lines = compared(kept(1, train={"momentum": 0.9}), kept(2, train={"optimizer": "adam"}))
    assert lines["momentum"] == compare_text.Line("differs", "momentum", ("0.9", "–"))


def test_values_that_differ_in_their_last_digit_are_shown_in_full() -> None:
    lines = compared(kept(1, train={"learning_rate": 0.1}), kept(2, train={"learning_rate": 0.1 + 1e-15}))
    assert lines["learning rate"].kind == "differs"
    assert lines["learning rate"].values == ("0.1", "0.100000000000001")


def test_the_least_of_comparable_losses_is_marked_and_nan_never_is() -> None:
    lines = compared(kept(1), kept(2), kept(3, train_loss=math.nan))
    assert lines["train MSE"].least == {0}
    assert lines["train MSE"].values[2] == "NaN"
    assert compared(kept(1), kept(1))["train MSE"].least == set()


def test_losses_of_different_kinds_are_not_compared_and_each_says_its_own() -> None:
    lines = compared(kept(1), kept(2, train={"loss": "l1"}))
    assert lines["train loss"].values == ("0.0072 MSE", "0.0108 L1")
    assert lines["train loss"].least == set()
    lines = compared(kept(1), kept(2, val_loss=None))
    assert lines["best loss"].least == set()
    assert lines["best loss"].values[1].endswith("train MSE")


def test_rates_set_by_hand_are_a_line_of_their_own() -> None:
    lines = compared(kept(1, lr_changes=((40, 0.005),)), kept(2))
    assert lines["rate set by hand"] == compare_text.Line("differs", "rate set by hand", ("0.005 from 40", "never"))
    assert "rate set by hand" not in compared(kept(1), kept(2))


def test_a_model_of_a_persons_own_is_compared_by_its_file_and_arguments() -> None:
    one = ModelSpec(kind="custom", file="/a/net.py", class_name="Net", arguments={"width": 8})
    runs = [changed(kept(n), spec=WorkflowSpec(model=changed(one, arguments={"width": n}))) for n in (8, 16)]
    lines = compared(*runs)
    assert lines["arguments"].values == ("width=8", "width=16")
    assert lines["model file"].kind == "equal"


def test_begun_is_of_the_zone_of_the_screen() -> None:
    assert compared(kept(0), kept(1))["begun"].values == ("yesterday 22:13", "yesterday 22:14")
    assert BEGUN == 1_700_000_000.0


def test_a_branch_says_whose_weights_it_began_with() -> None:
    lines = compared(kept(2, parent=1, parent_epoch=92), kept(1))
    assert lines["goes on from"].values == ("run 1, epoch 91", "–")
    assert "goes on from" not in compared(kept(1), kept(3))


def test_an_experiment_is_called_one_even_where_all_runs_are_it() -> None:
    run = kept(1, train={"loop": ("forward", "loss", "backward", "step")})
    usual = common([settings_of(run.spec)])
    assert "without zero_grad" in special_text(settings_of(run.spec), usual)


def test_a_run_that_was_ended_by_hand_is_not_called_finished() -> None:
    assert runs_text.state_text(kept(1, reason="stopped by hand")) == "stopped"
    assert runs_text.state_text(kept(1, reason="epochs")) == runs_text.state_text(kept(1)) == "finished"
