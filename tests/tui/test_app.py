"""What all screens share: moving about, staleness, help, palette, themes, the engine's fates, dialogs and leaving."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from tests.tui.driving import Drive, done, driving, engine, squeeze, steps, training
from tests.tui.replay import ReplayClient, load
from textual.command import CommandPalette
from textual.widgets import Input

from workflow_core import protocol
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    Answer,
    BuildModel,
    Ending,
    Hello,
    MakeData,
    Notice,
    Pause,
    RaceView,
    Reset,
    Run,
    Save,
    SetTraining,
    Shutdown,
    StepName,
    Steps,
    Update,
)
from workflow_core.specs import DataSpec, TrainSpec
from workflow_tui.commands import COMMON, Command
from workflow_tui.dialogs.axes import AxesDialog
from workflow_tui.dialogs.experiment import ExperimentDialog
from workflow_tui.dialogs.files import OpenDialog, SaveDialog
from workflow_tui.dialogs.help import HelpDialog
from workflow_tui.dialogs.race import RaceDialog
from workflow_tui.dialogs.runs import RunsDialog
from workflow_tui.instruments.look import Look
from workflow_tui.lessons import lesson
from workflow_tui.screens.base import StepScreen
from workflow_tui.screens.build import BuildScreen
from workflow_tui.screens.data import DataScreen
from workflow_tui.screens.evaluate import EvaluateScreen
from workflow_tui.screens.load import LoadScreen
from workflow_tui.screens.save import SaveScreen
from workflow_tui.screens.train import TrainScreen
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.form import Form
from workflow_tui.widgets.side_panel import SidePanel
from workflow_tui.widgets.stepper import NAMES

SCREENS: tuple[type[StepScreen], ...] = (
    DataScreen,
    BuildScreen,
    TrainScreen,
    EvaluateScreen,
    SaveScreen,
    LoadScreen,
)


def stepper(drive: Drive) -> str:
    return drive.text.splitlines()[0]


def side(drive: Drive) -> str:
    return drive.app.screen.query_one(SidePanel).content


# --- moving about ----------------------------------------------------------------------------------


async def test_numbers_n_and_p_move_and_stop_at_the_ends() -> None:
    async with driving(steps=6) as drive:
        for number, step in enumerate(NAMES, start=1):
            await drive.press(str(number))
            assert drive.app.current_mode == step
            assert drive.app.screen.query_one(".step.-current").id is None
            assert f"{number} {step.capitalize()}" in stepper(drive)
        await drive.press("n")
        assert drive.app.current_mode == "load"
        for step in reversed(NAMES[:-1]):
            await drive.press("p")
            assert drive.app.current_mode == step
        await drive.press("p")
        assert drive.app.current_mode == "data"
        await drive.press("n", "n", "n")
        assert drive.app.current_mode == "evaluate"


async def test_the_stepper_shows_what_is_done_current_open_and_stale_and_the_banner_why() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3")
        assert "1 Data ✓" in stepper(drive)
        assert "2 Build ✓" in stepper(drive)
        for step in ("4 Evaluate", "5 Save", "6 Load"):
            assert f"{step} ✓" not in stepper(drive)
            assert f"{step} ↻" not in stepper(drive)
        reasons: dict[StepName, str] = {step: f"reason {number}." for number, step in enumerate(NAMES, start=1)}
        statuses = dict.fromkeys(NAMES, "stale")
        await drive.tell(Update(steps=Steps(**{**statuses, "data": "done"}, reasons=reasons)))  # type: ignore[arg-type]
        for number, step in enumerate(NAMES, start=1):
            assert f"{number} {step.capitalize()} {'✓' if step == 'data' else '↻'}" in stepper(drive)
        for number, step in enumerate(NAMES, start=1):
            await drive.press(str(number))
            banner = drive.app.screen.query_one("#banner")
            assert banner.display is (step != "data")
            if banner.display:
                assert f"Stale: reason {number}." in drive.panel("#banner")
        await drive.tell(steps(evaluate="done", save="done", load="done"))
        assert "↻" not in stepper(drive)
        assert not drive.app.screen.query_one("#banner").display


async def test_who_attaches_to_a_run_sees_it_first() -> None:
    async with driving(steps=3) as drive:
        assert drive.app.current_mode == "train"
        assert "100 / 100 epochs" in drive.status
        assert drive.client.asked == []


# --- every key -------------------------------------------------------------------------------------

Effect = Callable[[Drive], object]


def dialog(kind: type) -> Effect:
    return lambda drive: isinstance(drive.app.screen, kind)


def asked(kind: type) -> Effect:
    return lambda drive: drive.client.commands(kind)


def mode(step: str) -> Effect:
    return lambda drive: drive.app.current_mode == step


def says(text: str) -> Effect:
    return lambda drive: text in drive.text


def looked_at(drive: Drive) -> int | None:
    assert isinstance(drive.app.screen, TrainScreen)
    return drive.app.screen.look.epoch


def looks_at(epoch: int) -> Effect:
    return lambda drive: looked_at(drive) == epoch


def window(drive: Drive) -> tuple[float, float]:
    return drive.app.screen.query_one("#loss", Chart).spec.x_range


def effects(screen: type[StepScreen]) -> dict[str, Effect]:
    """For the action of every command what one sees or hears of it, while everything is done and nothing runs."""
    at = NAMES.index(screen.step)
    own: dict[StepName, dict[str, Effect]] = {
        "data": {
            "make": asked(MakeData),
            "defaults": lambda d: MakeData(spec=DataSpec()) in d.client.asked,
            "choose_file": dialog(OpenDialog),
            "columns": says("Columns are chosen from a table of your own"),
        },
        "build": {"build": asked(BuildModel), "defaults": asked(BuildModel), "choose_file": dialog(OpenDialog)},
        "train": {
            **dict.fromkeys(("run_pause", "one_epoch", "one_step", "next_line"), says("All 100 epochs are done")),
            "some_epochs": says("Train some epochs"),
            "extend": says("More epochs"),
            "stop": says("has ended already"),
            "try_rate": says("No learning rate is advised"),
            "new_seed": lambda d: [type(c).__name__ for c in d.client.asked] == ["Pause", "BuildModel", "Reset"],
            "experiment": dialog(ExperimentDialog),
            "runs": dialog(RunsDialog),
            "race": dialog(RaceDialog),
            "faster": lambda d: [c.pace for c in d.client.asked] == [50],  # type: ignore[union-attr]
            "slower": lambda d: [c.pace for c in d.client.asked] == [10],  # type: ignore[union-attr]
            "flat_out": lambda d: [c.pace for c in d.client.asked] == [None],  # type: ignore[union-attr]
            "reset": lambda d: [type(c).__name__ for c in d.client.asked] == ["Reset"],
            "log": says("log y"),
            "values": says("Parameters now"),
            "view(1)": says("Learning rate: f goes on"),
            "view(-1)": says("Speed: f goes on"),
            "panel(1)": lambda d: d.app.screen.query_one("#parameters").has_class("-marked"),
            "panel(-1)": lambda d: d.app.screen.query_one("#train-run").has_class("-marked"),
            "full": lambda d: not d.app.screen.query_one("#fit").display,
            "axes": dialog(AxesDialog),
            "look": looks_at(99),
            "look_by(-1)": lambda d: looked_at(d) in (97, 98),
            **dict.fromkeys(("look_by(1)", "look_epochs(1)", "look_last"), looks_at(99)),
            "look_epochs(-1)": looks_at(98),
            "look_first": looks_at(0),
            "look_at": says("Look at an epoch"),
            "zoom(0.5)": lambda d: window(d) == (50, 100),
            "zoom(2)": lambda d: window(d) == (0, 100),
            **dict.fromkeys(("pan(-0.5)", "pan(0.5)"), lambda d: window(d) == (0, 100)),
            "recent": lambda d: window(d) == (90, 100),
            "branch": says("Look at an epoch first"),
            "now": lambda d: looked_at(d) is None,
            "learning_rate": says("This run has ended: the learning rate of the next one is a setting"),
        },
        "evaluate": {"evaluate": lambda d: [type(c).__name__ for c in d.client.asked] == ["Evaluate"]},
        "save": {"choose": dialog(SaveDialog)},
        "load": {"choose": dialog(OpenDialog)},
    }
    common: dict[str, Effect] = {
        **{f"app.go('{step}')": mode(step) for step in NAMES},
        "next_step": mode(NAMES[min(at + 1, 5)]),
        "previous_step": mode(NAMES[max(at - 1, 0)]),
        "settings": lambda d: d.app.focused is not None and "back to the keys" in d.text,
        "side('lesson')": lambda d: side(d) == "lesson" and f"Lesson: {screen.step.capitalize()}" in d.text,
        "side('code')": lambda d: side(d) == "code" and f"Code: {screen.step.capitalize()}" in d.text,
        "app.save": dialog(SaveDialog),
        "app.load": dialog(OpenDialog),
        "app.export": dialog(SaveDialog),
        "app.theme": lambda d: not d.app.current_theme.dark,
        "app.restart_engine": says("The engine is alive"),
        "app.help": dialog(HelpDialog),
        "app.leave": lambda d: not d.app.is_running or asked(Shutdown)(d),
    }
    return own[screen.step] | common


def test_every_command_of_every_screen_has_an_expected_effect() -> None:
    for screen in SCREENS:
        assert {command.action for command in screen.all_commands()} == set(effects(screen))


def keys_of(screen: type[StepScreen]) -> list[tuple[Command, str]]:
    """Each command with each of its keys; those that are the same everywhere are pressed on one screen."""
    common = COMMON if screen is DataScreen else [c for c in COMMON if c.action in ("settings", "next_step")]
    commands = [command for command in (*screen.commands, *common) if command.action != "app.leave"]
    return [(command, key) for command in commands for key in command.keys.split(",")]


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.step)
async def test_every_key_does_what_its_command_says(screen: type[StepScreen]) -> None:
    async with driving(steps=6) as drive:
        for command, key in keys_of(screen):
            await restored(drive, screen.step)
            await drive.press(key)
            holds = effects(screen)[command.action]
            await drive.until(lambda holds=holds: holds(drive), f"{key} for {command.action}")  # type: ignore[misc]


async def restored(drive: Drive, step: StepName) -> None:
    """Back to a screen as it first was, with nothing asked yet."""
    if drive.dialog:
        await drive.press("escape")
        await drive.until(lambda: not drive.dialog)
    if drive.app.current_mode != step:
        await drive.app.go(step)
    drive.app.screen.set_focus(None)
    screen = drive.app.screen
    assert isinstance(screen, StepScreen)
    screen.side_panel.open("")
    if isinstance(screen, TrainScreen):
        screen.log_loss, screen.show_values, screen.look = False, None, Look()
        screen.views, screen.marked, screen.full_screen = [0, 0, 0, 0], 0, False
    if not drive.app.current_theme.dark:
        drive.app.action_theme()
    for event in done(3):
        drive.client.on_event(event)
    drive.client.on_event(Update(training=training(pace=20.0), steps=steps(evaluate="done", save="done").steps))
    drive.app.forget_complaint()
    await drive.settle()
    drive.client.asked.clear()


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_leaving_with_nothing_to_lose_asks_nothing(key: str) -> None:
    async with driving(steps=2) as drive:
        await drive.pilot.press(key)
        await drive.until_left()
        assert drive.client.asked == [Shutdown(if_idle=True, if_kept=True)]
        assert drive.client.closed
        assert drive.app.return_code == 0
        assert drive.app.farewell == ""


# --- help, palette, themes, lesson, code --------------------------------------------------------------


async def test_help_lists_exactly_the_commands_of_the_registry() -> None:
    async with driving(steps=6, size=(120, 90)) as drive:
        for screen in SCREENS:
            await drive.go(screen.step)
            await drive.press("question_mark")
            text = squeeze(drive.text)
            assert squeeze(screen.purpose) in text
            for command in screen.all_commands():
                assert f"{command.shown} {command.help}" in text
            others = {c.help for other in SCREENS for c in other.commands} - {c.help for c in screen.commands}
            assert not [sentence for sentence in others if sentence in text]
            await drive.press("question_mark")
            assert not drive.dialog
        await drive.press("f1", "q")
        assert not drive.dialog, "q leaves the help, not the program"
        assert drive.app.is_running


async def test_no_key_of_a_screen_stands_for_two_commands() -> None:
    for screen in SCREENS:
        keys = [key for command in screen.all_commands() for key in command.keys.split(",")]
        assert len(keys) == len(set(keys)), screen


async def test_the_palette_offers_and_runs_the_commands_of_the_screen() -> None:
    async with driving(steps=3) as drive:
        screen = drive.app.screen
        offered = [command.help for command in drive.app.get_system_commands(screen)]
        assert offered == [command.help for command in (*TrainScreen.commands, *COMMON)]
        await drive.pilot.press("ctrl+p")
        await drive.until(lambda: isinstance(drive.app.screen, CommandPalette))
        await drive.pilot.press(*"reset")
        await drive.sees("Back to epoch 0, the first one, with the same initial weights.")
        await drive.pilot.press("enter")
        await drive.until(lambda: not drive.dialog)
        await drive.settle()
        assert [type(command).__name__ for command in drive.client.asked] == ["Reset"]


async def test_the_theme_switches_on_every_screen() -> None:
    async with driving(steps=3, theme="light") as drive:
        assert not drive.app.current_theme.dark
        light = drive.app.screen.query_one("#loss").rich_style
        await drive.press("d")
        assert drive.app.current_theme.dark
        assert drive.app.screen.query_one("#loss").rich_style != light
        await drive.press("2", "d")
        assert not drive.app.current_theme.dark
        assert "class LinearRegressionModel" in drive.text


async def test_lesson_and_code_come_and_go_on_every_screen() -> None:
    async with driving(steps=6) as drive:
        for number, step in enumerate(NAMES, start=1):
            await drive.press(str(number))
            assert side(drive) == "", "at 120 columns the lesson waits to be asked for"
            await drive.press("t")
            first = lesson(step).splitlines()[2].split()[:3]
            await drive.sees(" ".join(first), "t hides it")
            await drive.press("c")
            await drive.sees(f"Code: {step.capitalize()}", "x writes it all as one script")
            await drive.press("c")
            assert side(drive) == ""


async def test_the_lesson_lies_beside_the_screen_where_there_is_room() -> None:
    async with driving(steps=1, size=(160, 45)) as drive:
        assert side(drive) == "lesson"
        await drive.press("t")
        assert side(drive) == ""
        await drive.press("2", "1")
        assert side(drive) == "", "what was chosen stays"


async def test_the_code_follows_the_settings() -> None:
    async with driving(steps=3) as drive:
        await drive.press("c")
        await drive.sees("lr=0.01")
        await drive.tell(Update(train_spec=TrainSpec(learning_rate=0.25)))
        await drive.sees("lr=0.25")


async def test_escape_hides_a_panel_that_covers_the_instruments() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.press("t")
        assert side(drive) == "lesson"
        await drive.press("escape")
        assert side(drive) == ""


# --- the engine's fates ------------------------------------------------------------------------------


def loading(client: ReplayClient) -> None:
    """An engine that has not loaded torch."""
    del client.start[1:]


async def test_while_torch_loads_the_screen_stands_and_says_so() -> None:
    async with driving(client=loading) as drive:
        assert "engine starting" in stepper(drive)
        assert "loading PyTorch" in drive.status
        assert drive.client.asked == []
        await drive.press("3")
        await drive.sees("a run that was kept comes back")
        assert "no run yet" not in drive.text
        assert "space trains" not in drive.text
        await drive.press("1")
        await drive.tell(load()[0][1])
        await drive.asks(MakeData())
        assert "engine ●" in stepper(drive)


async def test_a_race_that_is_there_alone_is_where_the_app_begins_too() -> None:
    there = RaceView(race=2, state="paused", lanes=(), epochs=9, epoch=4, pace=None)
    async with driving(client=loading) as drive:
        await drive.tell(Update(race=there))
        await drive.tell(load()[0][1])
        await drive.until(lambda: isinstance(drive.app.screen, TrainScreen))
        assert drive.client.commands(MakeData) == []


@pytest.mark.parametrize("race", [None, RaceView(race=2, state="finished", lanes=(), epochs=9, epoch=9, pace=None)])
async def test_what_an_engine_cannot_keep_is_asked_about(race: RaceView | None) -> None:
    async with driving(steps=4) as drive:
        await drive.tell(Update(engine=msgspec.structs.replace(drive.app.state.engine, keeps=False), race=race))
        await drive.pilot.press("q")
        await drive.until(lambda: drive.dialog)
        if race:
            await drive.sees("what is not kept is gone should the engine end")
        words = "end it and leave: what is not kept is gone" if race else "cannot keep it as it stands either"
        await drive.until(lambda: words in squeeze(drive.panel(".dialog")), words)
        await drive.pilot.press("s" if race else "l")
        await drive.until_left()
        assert "brings it back" not in drive.app.farewell


@pytest.mark.parametrize("key", ["r", "N", "space", "s", "full_stop"])
async def test_a_key_that_comes_before_the_engine_has_said_what_it_had_kept_waits_for_that(key: str) -> None:
    async with driving(client=loading) as drive:
        await drive.press("3")
        await drive.pilot.press(key)
        assert drive.client.asked == []
        kept = training(state="paused", epoch=50, elapsed=754.0, run=7)
        steps = Steps(data="done", build="done")
        for event in (Update(training=kept, train_spec=TrainSpec(learning_rate=0.5), steps=steps), load()[0][1]):
            drive.client.on_event(event)
        await drive.until(lambda: drive.dialog)
        await drive.until(lambda: "run 7" in squeeze(drive.text).lower())
        assert drive.client.commands(Reset) == drive.client.commands(Run) == []


async def test_what_is_typed_before_the_engine_has_said_its_settings_goes_on_top_of_them() -> None:
    own = DataSpec(weight=2.0, noise=0.5)
    made = next(event.data for event in load()[1]["MakeData"].events if isinstance(event, Update) and event.data)
    async with driving(client=loading) as drive:
        drive.app.screen.query_one("#field-noise").focus()
        await drive.pilot.press("home", "shift+end", "delete", *"0.25", "enter")
        await drive.until(lambda: drive.app.screen.query_one(Form).values["noise"] == 0.25)
        await drive.pilot.press("r")
        assert drive.client.asked == []
        for event in (Update(data_spec=own, data=made), load()[0][1]):
            drive.client.on_event(event)
        await drive.asks(MakeData(spec=msgspec.structs.replace(own, noise=0.25)))
        await drive.sees("Back to the course's settings?", "weight 2")
        assert MakeData(spec=DataSpec()) not in drive.client.asked


async def test_a_script_that_is_asked_for_early_has_the_settings_that_were_kept(tmp_path: Path) -> None:
    async with driving(client=loading) as drive:
        drive.app.files.folder = tmp_path
        await drive.pilot.press("x")
        assert not drive.dialog
        for event in (Update(train_spec=TrainSpec(learning_rate=0.125)), load()[0][1]):
            drive.client.on_event(event)
        await drive.until(lambda: isinstance(drive.app.focused, Input))
        await drive.press("enter")
        await drive.until(lambda: (tmp_path / "workflow.py").exists())
        assert "lr=0.125" in (tmp_path / "workflow.py").read_text()


async def test_the_files_that_were_written_stand_in_the_terminal_afterwards(tmp_path: Path) -> None:
    async with driving(steps=5) as drive:
        saved = drive.app.state.saved
        assert saved is not None
        for at in (1, 2):
            file = msgspec.structs.replace(saved.file, path=f"/tmp/model {at}.pt")
            await drive.tell(Update(saved=msgspec.structs.replace(saved, file=file, epoch=10 * at)))
        drive.app.files.folder = tmp_path
        await drive.press("x")
        await drive.until(lambda: isinstance(drive.app.focused, Input))
        await drive.press("enter")
        await drive.until(lambda: (tmp_path / "workflow.py").exists())
        await drive.tell(Update(training=training(state="paused", epoch=50)))
        # also where a signal or a fault ends the app, which has no time to ask anything
        lines = drive.app.farewell.splitlines()
        assert lines[0].startswith("run 1      50 of 100 epochs, paused")
        assert lines[-4:] == [
            "saved      /tmp/model 1.pt  run 1 after 10 epochs",
            "saved      /tmp/model 2.pt  run 1 after 20 epochs",
            f"saved      {tmp_path}/workflow.py  script of the workflow",
            "The engine goes on without the screen. workflow-tui brings you back to it.",
        ]


async def test_an_engine_that_cannot_load_torch_says_why() -> None:
    problem = Problem(title="No PyTorch", message="the engine cannot load it.", advice="Install it.")
    async with driving(client=loading) as drive:
        await drive.tell(engine(state="failed", problem=problem))
        assert "engine failed" in stepper(drive)
        assert "the engine cannot load it. Install it." in drive.panel("#banner")
        drive.client.problems["SetPace"] = WorkflowError("No PyTorch", "nothing can be trained.")
        await drive.press("3", "space")
        await drive.sees("Nothing can be trained.")
        await drive.press("enter")
        await drive.pilot.press("q")
        await drive.until_left()


async def test_an_engine_that_does_not_start_is_a_dialog_and_can_be_started_again() -> None:
    class Deaf(ReplayClient):
        async def connect(self, timeout: float = 10.0) -> Hello:
            raise WorkflowError("The engine did not start", "its log is empty.", "Look there.")

    async with driving(client=lambda client: setattr(client, "__class__", Deaf)) as drive:
        await drive.sees("The engine did not start", "Look there.")
        await drive.press("enter")
        assert "engine ended" in stepper(drive)
        await drive.press("a")
        await drive.until(lambda: drive.client.restarts == 1)
        await drive.sees("engine ●")


async def test_a_lost_engine_is_named_what_it_said_stays_and_a_starts_it_again() -> None:
    async with driving(steps=4) as drive:
        await drive.fill("#field-learning_rate", "0.1")
        await drive.tell(Update(train_spec=TrainSpec(learning_rate=0.1)))
        drive.client.asked.clear()
        drive.client.on_lost("the engine process was killed by SIGKILL")
        await drive.sees("killed by SIGKILL", "a starts it again.")
        assert "engine ended" in stepper(drive)
        assert "weight 0.4398" in drive.text
        await drive.press("2", "4", "space")
        assert "The engine has ended: a starts it again" in drive.status
        assert drive.client.asked == []
        assert "0.0311" in drive.panel("#metrics")
        await drive.press("a")
        await drive.until(lambda: not drive.app.state.lost and drive.client.commands(BuildModel))
        await drive.settle()
        assert drive.client.restarts == 1
        assert drive.client.asked == [
            SetTraining(spec=TrainSpec(learning_rate=0.1)),
            MakeData(spec=DataSpec()),
            BuildModel(spec=drive.app.state.model_spec),
        ]
        assert not drive.app.screen.query_one("#banner").display
        assert "What it had trained is gone" in drive.status
        assert drive.app.state.training is None


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (Update(training=training(state="paused", epoch=40)), "run 1 is back as it was after 40 epochs"),
        (Update(race=RaceView(race=2, state="paused", lanes=(), epochs=9, epoch=4, pace=None)), "race 2 is back as it"),
    ],
)
async def test_what_the_lost_engine_had_kept_is_there_again(back: Update, words: str) -> None:
    class Keeping(ReplayClient):
        async def request(self, command: protocol.Command, timeout: float | None = None) -> Answer:
            if self.restarts:  # what was kept comes before the first answer
                self.on_event(back)
            return await super().request(command, timeout)

    async with driving(steps=4, client=lambda client: setattr(client, "__class__", Keeping)) as drive:
        await drive.tell(back)
        drive.client.on_lost("the engine process was killed by SIGKILL")
        await drive.sees("killed by SIGKILL")
        await drive.press("a")
        await drive.until(lambda: words in drive.status)
        assert drive.client.commands(MakeData) == [], "nothing is made anew over it"


async def test_settings_refused_by_a_new_engine_do_not_build_on_it() -> None:
    async with driving(steps=2) as drive:
        drive.client.on_lost("gone")
        await drive.sees("engine ended")
        drive.client.problems["MakeData"] = WorkflowError("No data", "there is no room.")
        await drive.press("a")
        await drive.sees("No data")
        await drive.press("enter")
        assert drive.client.commands(BuildModel) == []


async def test_a_restart_that_fails_keeps_what_is_there() -> None:
    class Broken(ReplayClient):
        async def restart(self, timeout: float = 10.0) -> Hello:
            raise WorkflowError("The engine does not answer", "there is none.")

    async with driving(steps=3, client=lambda client: setattr(client, "__class__", Broken)) as drive:
        drive.client.on_lost("it has ended")
        await drive.sees("engine ended")
        await drive.press("a")
        await drive.sees("The engine does not answer")
        await drive.press("enter")
        assert "weight 0.4398" in drive.text
        assert "engine ended" in stepper(drive)


async def test_a_device_given_at_the_start_is_the_setting() -> None:
    async with driving(steps=1, device="cuda:1") as drive:
        assert drive.client.asked == [SetTraining(spec=TrainSpec(device="cuda:1"))]
    async with driving(steps=1, device="auto") as drive:
        assert drive.client.asked == []


# --- problems ----------------------------------------------------------------------------------------


async def test_problems_are_dialogs_whatever_their_text() -> None:
    async with driving(steps=1) as drive:
        for name in ("[/]", "[@click=app.quit]x[/]", "a\x1b]52;c;aGk=\x07b", "[bold", "]" * 3000):
            drive.client.on_event(Notice(problem=Problem(title=f"T {name}", message=f"M {name}", advice=f"A {name}")))
            start = f"T {name[:20]}" if name.isprintable() else "T a"
            await drive.until(lambda start=start: drive.dialog and start in squeeze(drive.text), start)  # type: ignore[misc]
            assert "o ok" in squeeze(drive.text)
            assert "\x1b" not in drive.text
            drive.client.on_event(Notice(problem=Problem(title="Second", message="the second problem.")))
            await drive.press("enter")
            assert not drive.dialog
            assert "the second problem" in drive.status.lower()
            await drive.tell(Update(steps=Steps(data="stale", reasons={"data": name})))
            assert "Stale:" in drive.text
            assert "\x1b" not in drive.text
        drive.client.on_lost("[/]\x1b[31m")
        await drive.sees("engine ended")
        assert "\x1b" not in drive.text


async def test_flags_of_the_command_line_are_not_told_on_the_screen() -> None:
    advice = "Drop their rows (--missing drop), or say that it has a header (--header). Keep (this)."
    problem = Problem(title="Gaps", message="Row 3 (--row N) is empty.", advice=advice)
    async with driving(steps=1) as drive:
        drive.client.on_event(Notice(problem=problem))
        await drive.until(lambda: drive.dialog and "Keep (this)." in squeeze(drive.text))
        text = squeeze(drive.text)
        assert "Row 3 is empty." in text
        assert "Drop their rows, or say" in text
        assert "--" not in text
        drive.client.on_event(Notice(problem=problem))
        await drive.press("enter")
        assert "Row 3 is empty. Drop their rows, or" in drive.status


# --- leaving -----------------------------------------------------------------------------------------


async def leaving(drive: Drive, *, running: bool) -> None:
    if running:
        await drive.tell(Update(training=training(state="running", epoch=41)))
    await drive.pilot.press("q")
    await drive.until(lambda: drive.dialog)


@pytest.mark.parametrize(
    ("running", "key", "command", "words"),
    [
        (True, "d", [], "brings you back"),
        (True, "enter", [], "brings you back"),
        (True, "s", [Pause(), Shutdown(if_idle=True, if_kept=True)], "brings it back"),
        (False, "enter", [Shutdown(if_idle=True, if_kept=True)], "brings it back"),
        (False, "l", [Shutdown(if_idle=True, if_kept=True)], "brings it back"),
    ],
)
async def test_every_way_of_leaving(running: bool, key: str, command: list[Pause | Shutdown], words: str) -> None:
    async with driving(steps=4) as drive:
        await leaving(drive, running=running)
        assert ("A training is running" if running else "The model is in no file") in drive.text
        if running:
            assert "41 of 100 epochs are done" in squeeze(drive.text)
        await drive.pilot.press(key)
        await drive.until_left()
        assert drive.client.asked == command
        assert drive.client.closed
        lines = drive.app.farewell.splitlines()
        assert lines[0].startswith("run 1      41 of" if running else "run 1      100 of 100 epochs, finished")
        assert "train      0.0036  MSE" in lines
        assert "weight     0.4398  true 0.7000" in lines
        assert words in lines[-1]
        assert "workflow-tui" in lines[-1]


@pytest.mark.parametrize(
    ("keeps", "words"), [(True, "another screen is attached to it"), (False, "what it has cannot be kept now")]
)
async def test_an_engine_that_stays_says_why(keeps: bool, words: str) -> None:
    def stays(client: ReplayClient) -> None:
        request = client.request

        async def asked(command: protocol.Command, timeout: float | None = None) -> protocol.Answer:
            await request(command, timeout)
            if not isinstance(command, Shutdown):
                return None
            client.on_event(engine(state="ready", keeps=keeps))
            return Ending(ends=False)

        client.request = asked  # type: ignore[method-assign]

    async with driving(steps=4, client=stays) as drive:
        await leaving(drive, running=True)
        await drive.pilot.press("s")
        await drive.until_left()
        last = drive.app.farewell.splitlines()[-1]
        assert last == f"The engine goes on: {words}. workflow-tui brings you back to it."


@pytest.mark.parametrize("running", [True, False])
async def test_cancel_stays(running: bool) -> None:
    async with driving(steps=4) as drive:
        for key in ("c", "escape"):
            await leaving(drive, running=running)
            await drive.press(key)
            assert not drive.dialog
            assert drive.app.is_running
        assert drive.client.asked == []


async def test_save_first_saves_and_then_leaves_and_a_cancelled_save_stays(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await leaving(drive, running=False)
        await drive.pilot.press("s")
        await drive.until(lambda: isinstance(drive.app.screen, SaveDialog))
        await drive.until(lambda: isinstance(drive.app.focused, Input))
        await drive.press("escape")
        await drive.until(lambda: not drive.dialog)
        assert drive.app.is_running
        await leaving(drive, running=False)
        await drive.pilot.press("s")
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "model.pt")
        await drive.pilot.press("enter")
        await drive.until_left()
        path = str(tmp_path / "model.pt")
        assert drive.client.asked == [Save(path=path), Shutdown(if_idle=True, if_kept=True)]


async def test_a_failed_save_does_not_leave(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        drive.client.problems["Save"] = WorkflowError("Cannot save", "the disk is full.")
        await leaving(drive, running=False)
        await drive.pilot.press("s")
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "model.pt")
        await drive.pilot.press("enter")
        await drive.sees("Cannot save")
        assert drive.app.is_running
        assert not drive.client.commands(Shutdown)


async def test_what_ran_when_the_engine_was_lost_was_interrupted() -> None:
    there = RaceView(race=2, state="running", lanes=(), epochs=900, epoch=40, pace=None)
    for update, words in (
        (Update(training=training(state="running", epoch=41)), "run 1      41 of 100 epochs, interrupted"),
        (Update(training=None, race=there), "race 2     40 of 900 epochs, interrupted"),
    ):
        async with driving(steps=4) as drive:
            await drive.go("train")
            await drive.tell(update)
            drive.client.on_lost("gone")
            await drive.settle()
            assert "when last heard. a starts the engine again" in squeeze(drive.status)
            await drive.pilot.press("q")
            await drive.until_left()
            lines = drive.app.farewell.splitlines()
            assert lines[0].startswith(words)
            assert lines[-1] == "workflow-tui brings it back, as it was kept last: the engine has ended."


@pytest.mark.parametrize(
    ("size", "name", "shown"),
    [
        ((80, 24), "night", "night ●"),
        ((80, 24), "", "engine ●"),
        ((120, 40), "a-name-of-more-than-twelve", "· a-name-of-m… ●"),
        ((200, 60), "night", "· seed 42 · night · engine ●"),
    ],
)
async def test_the_workspace_is_named_where_one_was_asked_for(size: tuple[int, int], name: str, shown: str) -> None:
    async with driving(steps=3, size=size, workspace=name) as drive:
        assert stepper(drive).rstrip().endswith(shown)
        await drive.tell(engine(state="ready", keeps=False))
        assert stepper(drive).rstrip().endswith("not kept ●"), "whatever else there is no room for"


async def test_leaving_a_lost_engine_asks_nothing() -> None:
    async with driving(steps=4) as drive:
        drive.client.on_lost("gone")
        await drive.sees("engine ended")
        await drive.pilot.press("q")
        await drive.until_left()
        assert drive.client.asked == []


async def test_what_is_typed_while_the_engine_ends_does_not_call_the_leaving_off() -> None:
    ended = asyncio.Event()

    async def end(command: protocol.Command, timeout: float | None = None) -> None:
        drive.client.asked.append(command)
        await ended.wait()

    async with driving(steps=2) as drive:
        with mock.patch.object(drive.client, "request", end):
            await drive.pilot.press("q")
            await drive.until(lambda: drive.client.commands(Shutdown))
            await drive.pilot.press("o", "3", "space", "ctrl+p")
            await drive.pilot.click("#status")
            assert not drive.dialog
            ended.set()
            await drive.until_left()
        assert drive.client.asked == [Shutdown(if_idle=True, if_kept=True)]


async def test_an_engine_that_does_not_end_keeps_nobody() -> None:
    async with driving(steps=2) as drive:
        drive.client.problems["Shutdown"] = WorkflowError("Busy", "another UI is attached.")
        await drive.pilot.press("q")
        await drive.until_left()
        assert drive.client.closed


# --- keys while a dialog is open -----------------------------------------------------------------------


async def test_keys_of_the_screen_do_nothing_while_a_dialog_is_open() -> None:
    every = sorted({key for screen in SCREENS for c in screen.all_commands() for key in c.keys.split(",")})
    async with driving(steps=4) as drive:
        await leaving(drive, running=False)
        dialog = drive.app.screen
        harmless = [key for key in every if key not in {"s", "l", "c", "k", "enter", "space", "escape"}]
        await drive.press(*harmless)
        assert drive.app.screen is dialog
        assert drive.app.current_mode == "train"
        assert drive.client.asked == []
        await drive.press("escape", "question_mark")
        closing = {"question_mark", "f1", "q", "enter", "space", "escape"}
        await drive.press(*[key for key in every if key not in closing])
        assert isinstance(drive.app.screen, HelpDialog)
        assert drive.client.asked == []
        assert drive.app.current_theme.dark


# --- the script --------------------------------------------------------------------------------------


async def test_the_script_is_written_after_a_question_where_a_file_is_there(tmp_path: Path) -> None:
    script = tmp_path / "workflow.py"
    async with driving(steps=3) as drive:
        drive.app.files.folder = tmp_path
        for answer in ("", "c", "r"):
            if answer:
                script.write_text("mine")
            await drive.press("x")
            await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "workflow.py")
            await drive.press("enter")
            if answer:
                await drive.sees("Replace the file?")
                await drive.press(answer)
            await drive.until(lambda: not drive.dialog)
            if answer == "c":
                assert script.read_text() == "mine"
            else:
                await drive.until(lambda: "Written" in drive.status)
                ast.parse(script.read_text())
                assert "lr=0.01" in script.read_text()
        assert drive.client.asked == []


async def test_the_script_follows_the_learning_rates_of_the_run_that_it_is_of(tmp_path: Path) -> None:
    by_hand = Update(training=training(lr_changes=((3, 0.2), (7, 0.05))))
    other = Update(train_spec=msgspec.structs.replace(training().spec, momentum=0.5))
    cases = (
        (by_hand, True, "Written with the learning rates set by hand in run 1: "),
        (other, False, "Written without the learning rates set by hand in run 1: "),
        (Update(train_spec=training().spec), True, "Written with the learning rates set by hand in run 1: "),
        (steps(train="stale"), False, "Written without the learning rates set by hand in run 1: "),
        (Update(training=training()), False, "Written: "),
    )
    path = tmp_path / "workflow.py"
    async with driving(steps=3, size=(200, 40)) as drive:
        drive.app.files.folder = tmp_path
        for event, followed, told in cases:
            await drive.tell(event)
            await drive.press("x")
            await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == "workflow.py")
            await drive.press("enter")
            await drive.until(path.exists)
            await drive.until(lambda: not drive.dialog)
            await drive.sees(told)
            assert ("lr_changes = {3: 0.2, 7: 0.05}\n" in path.read_text()) == followed
            path.unlink()


async def test_nothing_trained_nothing_saved() -> None:
    async with driving(steps=2) as drive:
        await drive.press("w")
        assert "Nothing is trained yet" in drive.status
        await drive.press("3", "space")
        await drive.asks(Run())
        assert msgspec.structs.asdict(drive.app.state.steps)["train"] == "done"


async def test_what_is_said_about_a_key_goes_with_the_next_one() -> None:
    async with driving(steps=3) as drive:
        await drive.press("a")
        assert "The engine is alive" in drive.status
        await drive.press("left")
        assert "The engine is alive" not in drive.status
        assert "looking at epoch" in drive.status


async def test_what_is_told_before_the_engine_is_ready_waits_until_the_run_is_shown() -> None:
    def early(client: ReplayClient) -> None:
        client.start.insert(0, Notice(problem=Problem(title="It was killed", message="the run is back.")))

    async with driving(steps=3, client=early) as drive:
        await drive.until(lambda: drive.dialog)
        assert "It was killed" in drive.text
        await drive.press("enter")
        assert drive.app.current_mode == "train"
