"""What is old looks old on every screen, and what is not keeps its colours."""

from __future__ import annotations

import asyncio

import pytest
from tests.tui.driving import Drive, colours, driving, steps
from tests.tui.replay import ReplayClient

from workflow_core.protocol import Answer, Command, StepName, Update
from workflow_core.specs import DataSpec
from workflow_tui.theme import ROLES, Role, role_hex
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.stepper import NAMES

SIZES = [(120, 40), (80, 24)]
STALE = role_hex("stale", dark=True)
AXES = role_hex("muted", dark=True)
LIVELY = {role_hex(role, dark=True) for role in ROLES} - {STALE, AXES, role_hex("target", dark=True)}
PANELS: dict[StepName, tuple[str, ...]] = {
    "data": ("#rows", "#splits"),
    "build": ("#source", "#parameters", "#reference"),
    "train": ("#loop",),
    "evaluate": ("#metrics", "#gaps", "#predictor .answers"),
    "save": ("#what", "#contents"),
    "load": ("#contents", "#change", "#proof"),
}


def colour(role: Role) -> str:
    return role_hex(role, dark=True)


def look_old(drive: Drive, step: StepName, *, old: bool) -> None:
    for panel in PANELS[step]:
        assert (colours(drive, panel) == {STALE}) is old, f"{panel} of {step}: {colours(drive, panel)}"
    for chart in drive.app.screen.query(Chart):
        assert chart.stale is old
        assert bool(colours(drive, f"#{chart.id}") & LIVELY) is not old


def everything(client: ReplayClient) -> None:
    """An engine that has done all six steps and is not told to do any anew."""
    for name in ("MakeData", "BuildModel"):
        del client.answers[name]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_made_of_other_data_looks_old(size: tuple[int, int]) -> None:
    async with driving(steps=6, size=size, client=everything) as drive:
        await drive.go("evaluate")
        await drive.fill("#predictor Input", "0.5")
        await drive.press("escape")
        assert colour("prediction") in colours(drive, "#predictor .answers")
        stale = dict.fromkeys(NAMES[2:], "stale")
        for old in (False, True, False):
            await drive.tell(steps(**({} if not old else stale), reasons=dict.fromkeys(stale, "the data changed")))
            for step in NAMES[2:]:
                await drive.go(step)
                look_old(drive, step, old=old)


async def test_a_file_of_a_model_that_went_on_looks_old_and_the_model_does_not() -> None:
    async with driving(steps=6, client=everything) as drive:
        await drive.tell(steps(evaluate="stale", save="stale", load="stale"))
        await drive.go("save")
        assert colours(drive, "#contents") == {STALE}
        assert colours(drive, "#what") & LIVELY
        await drive.go("evaluate")
        assert colours(drive, "#metrics") == {STALE}
        assert colours(drive, "#gaps") & LIVELY


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("step", "field"), [("data", "seed"), ("build", "seed")])
async def test_what_the_fields_no_longer_say_looks_old_until_they_do(
    step: StepName, field: str, size: tuple[int, int]
) -> None:
    async with driving(steps=2, size=size, client=everything) as drive:
        await drive.go(step)
        look_old(drive, step, old=False)
        await drive.fill(f"#field-{field}", "x")
        look_old(drive, step, old=True)
        assert "· not in effect ─" in drive.text, "and the title has room to say why"
        await drive.press("escape")
        look_old(drive, step, old=False)


async def test_what_a_slow_engine_has_not_made_yet_looks_old() -> None:
    answer = asyncio.Event()

    class Slow(ReplayClient):
        async def request(self, command: Command, timeout: float | None = None) -> Answer:
            self.asked.append(command)
            await answer.wait()
            return None

    async with driving(steps=2, client=lambda client: setattr(client, "__class__", Slow)) as drive:
        drive.app.screen.query_one("#field-weight").focus()
        await drive.pilot.press("home", "shift+end", "delete", "2", "enter")
        await drive.sees("Waiting for the engine")
        await drive.until(lambda: colours(drive, "#rows") == {STALE})
        drive.client.on_event(Update(data_spec=DataSpec(weight=2.0)))
        answer.set()
        await drive.settle()
        look_old(drive, "data", old=False)
