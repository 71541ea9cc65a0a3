"""The loop taken apart in a dialog: lines off and on, moved, the usual mistakes, and back to the textbook's."""

from __future__ import annotations

from dataclasses import dataclass

from tests.tui.driving import driving

from workflow_core.protocol import SetTraining, Update
from workflow_core.specs import LINES, TrainSpec
from workflow_tui.dialogs.experiment import TRIES, ExperimentDialog
from workflow_tui.instruments.loop import experiment_text


@dataclass(frozen=True)
class Case:
    keys: tuple[str, ...]
    spec: TrainSpec


CASES = (
    Case(("down", "down", "space"), TrainSpec(loop=("forward", "loss", "backward", "step"))),
    Case(("down", "down", "space", "space"), TrainSpec()),
    Case(("down", "down", "down", "down", "u"), TrainSpec(loop=("forward", "loss", "zero_grad", "step", "backward"))),
    Case(("d", "u", "u", "u"), TrainSpec()),
    Case(("5", "0"), TrainSpec()),
    Case((*["down"] * 9, "space"), TrainSpec(optimizer_over="another")),
    *(
        Case((str(number),), TrainSpec(loop=tried.loop, optimizer_over=tried.optimizer_over))
        for number, (_, tried) in enumerate(TRIES, start=1)
    ),
)


async def test_keys_make_the_loop_that_is_asked_for() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        for case in CASES:
            drive.client.asked.clear()
            await drive.tell(Update(train_spec=TrainSpec()))
            await drive.press("e", *case.keys)
            assert isinstance(drive.app.screen, ExperimentDialog)
            await drive.press("enter")
            assert drive.client.asked == [SetTraining(spec=case.spec)], case.keys


async def test_escape_leaves_the_loop_as_it_is_and_every_line_can_be_seen() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.press("e")
        await drive.sees(
            "y_pred = model(X_train)", "optimizer.step()", "holds the parameters of", "0 the textbook's loop"
        )
        await drive.press("3", "escape")
        assert drive.client.asked == []


def test_what_is_different_is_said_in_a_sentence() -> None:
    assert experiment_text(TrainSpec()) == ""
    assert "zero_grad is switched off" in experiment_text(TrainSpec(loop=("forward", "loss", "backward", "step")))
    moved = experiment_text(TrainSpec(loop=(*LINES[:3], "step", "backward")))
    assert "the order is forward, loss, zero_grad, step, backward" in moved
    assert "another model" in experiment_text(TrainSpec(optimizer_over="another"))
