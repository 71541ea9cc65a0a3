"""The five lines on the screen: which one is next, and what each of them made, at every size."""

from __future__ import annotations

import msgspec
import pytest
from tests.tui.driving import driving, squeeze, training

from workflow_core.protocol import LineView, LoopView, MadeView, NextLine, Update
from workflow_core.scripts.train import codes
from workflow_core.specs import LINES, TrainSpec
from workflow_tui.instruments.loop import _brief, made_text


def made(
    label: str, before: tuple[float, ...] | None, after: tuple[float, ...] | None, shape: tuple[int, ...] = (1,)
) -> MadeView:
    return MadeView(label=label, shape=shape, dtype="float32", before=before, after=after)


CODE = codes(TrainSpec())

MADE: dict[str, tuple[MadeView, ...]] = {
    "forward": (
        made("y_pred", None, (0.1288, 0.1355, 0.1423, 0.149, 0.1557), (35, 1)),
        made("residual", None, (-0.1712, -0.1785, -0.1857), (35, 1)),
    ),
    "loss": (made("loss", None, (0.0922,), ()),),
    "zero_grad": (made("weight.grad", (-0.23,), None), made("bias.grad", (-0.59,), None)),
    "backward": (made("weight.grad", None, (-0.2301,)), made("bias.grad", None, (-0.5894,))),
    "step": (made("weight", (0.3367,), (0.339,)), made("bias", (0.1288,), (0.1347,))),
}


def stepped(done: int, *, batches: int = 1, fault: str = "") -> LoopView:
    """A pass of which so many lines are done."""
    lines = tuple(
        LineView(line=line, code=CODE[line], done=at < done, made=MADE[line] if at < done else ())
        for at, line in enumerate(LINES)
    )
    return LoopView(epoch=137, batch=0, batches=batches, rows=35, lines=lines, next=done, fault=fault)


async def test_s_asks_for_the_next_line() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(training=training(state="paused", epoch=50)))
        await drive.press("s")
        assert drive.client.asked == [NextLine()]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_what_the_line_made_that_ran_last_is_seen_at_every_size(size: tuple[int, int]) -> None:
    words = {
        1: "y_pred [35, 1] 0.1288 0.1355",
        2: "loss 0.0922",
        3: "weight.grad -0.2300 → None",
        4: "weight.grad None → -0.2301",
        5: "weight 0.3367 → 0.3390 (+0.0023)",
    }
    async with driving(steps=3, size=size) as drive:
        for done, seen in words.items():
            await drive.tell(Update(loop=stepped(done)))
            await drive.until(lambda seen=seen: seen in squeeze(drive.panel("#loop")))  # type: ignore[misc]
            panel = squeeze(drive.panel("#loop"))
            code = CODE[LINES[done]] if done < 5 else ""
            assert (f"▶{done + 1} {code}" in panel) == (done < 5)
            assert all(line in panel for line in CODE.values())
            assert "epoch 137" in drive.panel("#train-run")


async def test_room_is_used_for_all_that_was_made() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(loop=stepped(5)))
        panel = squeeze(drive.panel("#loop"))
        for seen in ("residual [35, 1] -0.1712", "loss 0.0922", "bias.grad None → -0.5894", "bias 0.1288 → 0.1347"):
            assert seen in panel


async def test_a_batch_and_a_fault_are_named() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(loop=stepped(3, batches=4, fault="NameError: name 'loss' is not defined")))
        assert "epoch 137 · batch 0 of 4" in drive.panel("#train-run")
        assert "NameError: name 'loss' is not defined" in drive.panel("#loop")
        await drive.tell(Update(loop=None))
        assert "NameError" not in drive.panel("#loop")


async def test_an_experiment_says_that_it_is_one() -> None:
    spec = TrainSpec(loop=("forward", "loss", "backward", "step"))
    async with driving(steps=3) as drive:
        await drive.tell(Update(training=training(spec=spec), train_spec=spec))
        assert "EXPERIMENT" in drive.panel("#train-run")
        assert "Experiment: zero_grad is switched off" in drive.panel("#banner")
        assert "– optimizer.zero_grad()" in drive.panel("#loop")
        await drive.tell(Update(train_spec=TrainSpec(), training=training()))
        assert "EXPERIMENT" not in drive.text


async def test_between_passes_the_lines_tell_of_the_last_epoch() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(Update(training=training(gradients={"weight": -0.1, "bias": 0.02})))
        panel = squeeze(drive.panel("#loop"))
        for seen in ("y_pred [35, 1]", "MSE 0.0036", "∂weight -0.1000 ∂bias +0.0200", "weight 0.4398 bias 0.3607"):
            assert seen in panel
        await drive.tell(Update(training=training(gradients={})))
        assert ".grad is None" in drive.panel("#loop")


async def test_at_80x24_the_lines_tell_of_the_last_epoch_in_a_few_figures() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.tell(Update(training=training(gradients={"weight": -0.0406, "bias": -0.0569})))
        panel = squeeze(drive.panel("#loop"))
        for seen in (
            "y_pred = model(X_train) [35, 1]",
            "optimizer.zero_grad() .grad None",
            "loss.backward() -0.0406 -0.0569",
            "optimizer.step() 0.4398 0.3607",
        ):
            assert seen in panel
        await drive.tell(Update(loop=stepped(5)))
        panel = squeeze(drive.panel("#loop"))
        assert "optimizer.zero_grad() None None" in panel


async def test_a_few_figures_are_those_of_the_step_alone_and_norms_are_no_gradients() -> None:
    clipped = made("weight.grad, clipped", (2.0,), (1.0,)), made("bias.grad, clipped", (4.0,), (2.0,))
    counted = made("evaluations", None, (20.0,), ())
    moved = MADE["step"]
    for extra in ((), clipped, (counted,)):
        assert _brief("step", (*extra, *moved)) == "0.3390 0.1347"
    assert _brief("loss", MADE["loss"]) == ""
    assert _brief("step", (made("w", (1.0, 2.0), (1.0, 2.0), (2,)),)) == "", "tensors do not fit"
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.tell(Update(loop=None, training=training(gradients={"a.weight": 0.5, "b.weight": 0.25})))
        panel = squeeze(drive.panel("#loop"))
        assert "loss.backward() norm 0.0699" in panel
        assert "0.5000" not in panel
    async with driving(steps=3, size=(120, 40)) as drive:
        await drive.tell(Update(training=training(gradients={"a.weight": 0.5, "b.weight": 0.25})))
        assert "‖∂a.weight‖ 0.5000 ‖∂b.weight‖ 0.2500" in squeeze(drive.panel("#loop"))
        await drive.tell(Update(training=training(state="diverged", epoch=20, held=18, first_bad=19)))
        assert "put back, as after 18 epochs: weight 0.4398 bias 0.3607" in squeeze(drive.panel("#loop"))


def test_a_tensor_in_one_line() -> None:
    assert made_text(made("0.weight.grad", None, (0.1, 0.2, 0.3, 0.4, 0.5), (8, 3))) == (
        "0.weight.grad [8, 3] None → 0.1000 0.2000 0.3000 0.4000 …"
    )
    assert made_text(made("w", (1.0,), (1.0,))) == "w 1.0000"
    assert made_text(made("w", (1.0,), (float("nan"),))) == "w 1.0000 → NaN (NaN)"
    hostile = msgspec.structs.replace(made("\x1b[31m[/]", (1.0,), (2.0,)))
    assert "\x1b" not in made_text(hostile)
