"""Drives the app in tests: a replayed engine below it, keys into it, text out of it, and no sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import textual.app
import textual.pilot
from tests.tui.replay import RECORDING, ReplayClient, load
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widget import Widget

from workflow_core.protocol import Command, Epochs, Event, StepName, Steps, TrainingView, Update
from workflow_tui import app as app_module
from workflow_tui.app import WorkflowApp
from workflow_tui.screens.base import StepScreen
from workflow_tui.widgets import chart as chart_module
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.stepper import NAMES

DEADLINE = 15.0
"""Seconds until a state that does not come counts as a failure; a busy machine needs some."""

Size = tuple[int, int]


@dataclass
class Drive:
    """An app in flight, the pilot at its keys and the replayed engine under it."""

    app: WorkflowApp
    pilot: Pilot[int | None]
    client: ReplayClient

    async def until(self, predicate: Callable[[], object], what: str = "") -> None:
        """Wait until `predicate` holds, or fail with what is on the screen instead."""
        await until(self.pilot, predicate, what)

    async def press(self, *keys: str) -> None:
        """Press keys and let the app draw what they led to."""
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        """Until commands are answered, events folded, and all of it is drawn."""
        await self.pilot.pause()
        await self.until(self._settled)
        await self.pilot.pause()

    def _settled(self) -> bool:
        busy = any(worker.group == "commands" and not worker.is_finished for worker in self.app.workers)
        typed = self.app._in_flight is not None or self.app._typed
        drawn = all(chart._due is None for chart in self.app.screen.query(Chart))
        screen = self.app.screen
        laid_out = not any(node._layout_required for node in (screen, *screen.query(Widget)) if node.display)
        return not busy and not typed and drawn and laid_out and (self.dialog or not self.app._dirty)

    async def tell(self, event: Event) -> None:
        """The engine says something."""
        self.client.on_event(event)
        await self.settle()

    async def go(self, step: StepName) -> None:
        """Go to a step and let it do what it does on a visit."""
        await self.pilot.press(str(NAMES.index(step) + 1))
        await self.until(lambda: isinstance(self.app.screen, StepScreen) and self.app.screen.step == step)
        await self.settle()

    async def fill(self, field: str, text: str, *then: str) -> None:
        """Put `text` into a field in place of what is there, then press enter, or other keys."""
        self.app.screen.query_one(field).focus()
        await self.press("home", "shift+end", "delete", *text, *(then or ("enter",)))

    async def sees(self, *texts: str) -> None:
        """Wait until all of `texts` are on the screen."""
        await self.until(lambda: all(text in self.text for text in texts), f"{texts}")

    async def asks(self, command: Command) -> None:
        """Wait until the engine was asked this."""
        await self.until(lambda: command in self.client.asked, f"{command}")

    async def until_left(self) -> None:
        """Wait until the app has asked to end."""
        deadline = time.monotonic() + DEADLINE
        while not self.app._exit:
            assert time.monotonic() < deadline, "the app is still there"
            await asyncio.sleep(0.01)

    @property
    def text(self) -> str:
        """Everything on the screen."""
        return screen_text(self.app)

    @property
    def status(self) -> str:
        """The status line of the step on the screen."""
        return panel_text(self.app.screen.query_one("#status"))

    def panel(self, selector: str) -> str:
        """The text of one widget as it is drawn, its border with it."""
        return panel_text(self.app.screen.query_one(selector))

    @property
    def dialog(self) -> bool:
        """Something lies above the step's screen."""
        return not isinstance(self.app.screen, StepScreen)


@asynccontextmanager
async def driving(
    *,
    size: Size = (120, 40),
    steps: int = 0,
    client: Callable[[ReplayClient], None] | None = None,
    recording: Path = RECORDING,
    **options: Any,
) -> AsyncIterator[Drive]:
    """The app on a replayed engine, its first screen drawn.

    `steps` says how many of the six the engine of the `recording` has done before the app attaches, `client` may change
    the engine before that, and `options` are the app's.
    """
    made: list[ReplayClient] = []

    def make(on_event: Callable[[Event], None], on_lost: Callable[[str], None]) -> ReplayClient:
        replay = ReplayClient(on_event, on_lost, recording)
        replay.start[1:1] = done(
            steps, recording
        )  # before torch is loaded: what is done is known when the engine gets ready
        if client is not None:
            client(replay)
        made.append(replay)
        return replay

    app = WorkflowApp(make, **options)
    with contextlib.ExitStack() as patches:
        # drawing more often than people need shortens every wait
        patches.enter_context(mock.patch.object(app_module, "DRAW_INTERVAL", 0.02))
        patches.enter_context(mock.patch.object(chart_module, "INTERVAL", 0.02))
        patches.enter_context(mock.patch.object(Stylesheet, "_parse_rules", _parse_once))
        # the pilot waits after every key until the process has been idle for a while; `settle` knows what to wait for
        for module in (textual.app, textual.pilot):
            patches.enter_context(mock.patch.object(module, "wait_for_idle", _moment))
        async with app.run_test(size=size) as pilot:
            drive = Drive(app, pilot, made[0])
            await drive.until(app.link._connected.is_set)
            await drive.settle()
            yield drive
            app.exit()  # nothing is drawn while the screens are taken down


_parse_rules = Stylesheet._parse_rules
_parsed: dict[object, list[RuleSet]] = {}


def _parse_once(sheet: Stylesheet, *args: Any, **options: Any) -> list[RuleSet]:
    """Stylesheets are the same in every test: read each of them once, and not for every app."""
    key = (args, tuple(options.items()), tuple(sheet._variables.items()))
    if key not in _parsed:
        _parsed[key] = _parse_rules(sheet, *args, **options)
    return _parsed[key]


async def _moment(*_: float) -> None:
    await asyncio.sleep(0.001)


def done(steps: int, recording: Path = RECORDING) -> list[Event]:
    """What the recorded engine says while the first `steps` of the six are done."""
    _, answers = load(recording)
    names = (("MakeData",), ("BuildModel",), ("SetTraining", "Run"), ("Evaluate",), ("Save",), ("Load",))
    kinds = [name for step in names[:steps] for name in step if name in answers]
    return [event for name in kinds for event in answers[name].events]


def engine(**changes: Any) -> Update:
    """The recorded engine, changed."""
    view = next(e.engine for e in reversed(load()[0]) if isinstance(e, Update) and e.engine is not msgspec.UNSET)
    return Update(engine=msgspec.structs.replace(view, **changes))


def training(**changes: Any) -> TrainingView:
    """The recorded run as it ended, changed."""
    views = [e.training for e in done(3) if isinstance(e, Update | Epochs) and isinstance(e.training, TrainingView)]
    return msgspec.structs.replace(views[-1], **changes)


def steps(**changes: Any) -> Update:
    """Steps as they are after data, model and training, changed."""
    return Update(steps=Steps(**({"data": "done", "build": "done", "train": "done"} | changes)))


async def until(pilot: Pilot[Any], predicate: Callable[[], object], what: str = "") -> None:
    """Wait until `predicate` holds, or fail with what is on the screen instead."""
    deadline = time.monotonic() + DEADLINE
    while not predicate():
        assert pilot.app.is_running, f"the app ended before this came: {what or predicate}"
        if time.monotonic() > deadline:
            raise AssertionError(f"this never came: {what or predicate}\n{screen_text(pilot.app)}")
        await pilot.pause(0.01)


def frame(app: Any) -> list[Strip]:
    """The whole screen, as the compositor hands it to the terminal."""
    strips: list[Strip] = app.screen._compositor.render_strips()
    return strips


def screen_text(app: Any) -> str:
    """The text of the whole screen."""
    return "\n".join(strip.text.rstrip() for strip in frame(app))


def colours(drive: Drive, selector: str) -> set[str]:
    """The colours of the words and markers inside a widget, frames and guides left out."""
    widget = drive.app.screen.query_one(selector)
    strips = frame(drive.app)
    x, y, width, height = widget.content_region
    found = set()
    for strip in strips[y : y + height]:
        for text, style, _ in strip.crop(x, x + width):
            if text.strip(" │╭╮╰╯─├└┐┘") and style is not None and style.color is not None:
                found.add(str(style.color.get_truecolor().hex))
    return found


def squeeze(text: str) -> str:
    """Text with its borders and the widths of its columns left out."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def panel_text(widget: Widget) -> str:
    """The text of the part of the screen that a widget lies on."""
    rows = [strip.text for strip in widget.screen._compositor.render_strips()]
    x, y, width, height = widget.region
    return "\n".join(row[x : x + width].rstrip() for row in rows[y : y + height])
