"""What was kept goes on without a screen, and what went wrong meanwhile is told to the first screen that comes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.conftest import end_engine, until_kept
from tests.core.test_back import ACT, kept_epoch, of_files

from workflow_core import remote, remote_commands
from workflow_core.engine import checkpoint
from workflow_core.errors import WorkflowError
from workflow_core.headless import main as headless
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    Evaluate,
    MakeData,
    NextLine,
    Notice,
    Pause,
    Run,
    Save,
    SetPace,
    SetTraining,
    Shutdown,
    StartRace,
)
from workflow_core.remote_commands import table
from workflow_core.specs import DataSpec, TrainSpec, WorkflowSpec
from workflow_core.standing import Standing, survey
from workflow_core.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked")
Attach = Callable[[Workspace], Any]
LONG = WorkflowSpec(train=TrainSpec(epochs=1_000_000, device="cpu"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Workspaces by name lie here; engines in them are ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for workspace in Workspace.all():
        end_engine(workspace)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained is soon kept."""
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.2")


def kept_pace(workspace: Workspace) -> float | None:
    found = checkpoint.read(workspace.kept_run)
    return found.kept.run.view.pace if found is not None and found.kept.run is not None else None


async def until_trained(workspace: Workspace) -> None:
    """Wait until some epochs are kept."""
    async with asyncio.timeout(20):
        while kept_epoch(workspace.kept_run) < 1:
            await asyncio.sleep(0.02)


def told_to_do(ui: Any) -> str:
    """The advice of the first notice."""
    return str(next(event.problem.advice for event in ui.events if isinstance(event, Notice)))


async def looked_at(workspace: Workspace) -> Standing:
    (found,) = await survey([workspace])
    return found


def kill(workspace: Workspace) -> None:
    child = child_of(workspace)
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)


def ends(workspace: Workspace) -> bool:
    """Does the engine end by itself, soon?"""
    child = child_of(workspace)
    return child is None or child.wait(10) == 0


async def test_a_killed_training_goes_on_and_the_next_screen_learns_of_it(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("box")
    await remote.start(workspace, LONG)
    await until_trained(workspace)
    kill(workspace)
    there = checkpoint.read(workspace.kept_run)
    assert there is not None
    assert there.kept.run is not None
    (before,) = await survey([workspace])
    again = await remote.resume(workspace)
    assert (again.engine, again.state, again.run, again.epochs) == ("live", "running", 1, 1_000_000)
    assert again.again == (before.epoch or 0) - there.kept.run.view.epoch
    assert (await remote.resume(workspace)).state == "running", "one that runs is left running"
    (looked,) = await survey([workspace])
    assert (looked.engine, looked.state) == ("live", "running")
    ui = await attach(workspace)
    await ui.until(lambda: ui.notices and ui.training.epoch > (again.epoch or 0))
    assert "while run 1 was training" in ui.notices[0]
    assert told_to_do(ui) == "It has gone on since."
    later = await attach(workspace)
    await later.until(lambda: later.state.get("training"))
    assert later.notices == [], "told once, to somebody who saw it"


async def test_the_next_screen_learns_of_it_also_where_the_engine_ends_before(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("box")
    await remote.start(workspace, LONG)
    await until_trained(workspace)
    kill(workspace)
    await remote.resume(workspace)
    await until_trained(workspace)
    await remote.stop(workspace)
    assert ends(workspace)
    assert workspace.news.stat().st_mode & 0o777 == 0o600
    ui = await attach(workspace)
    await ui.until(lambda: ui.notices and ui.state.get("training"))
    assert [notice for notice in ui.notices if "while run 1 was training" in notice] == ui.notices[:1]
    assert told_to_do(ui) == "It has gone on since.", "though it is paused again"
    await ui.request(Shutdown())
    assert await asyncio.to_thread(ends, workspace)
    assert not workspace.news.exists()
    later = await attach(workspace)
    await later.until(lambda: later.state.get("training"))
    assert later.notices == [], "told once, to somebody who saw it"


async def test_what_there_is_to_tell_outlives_one_that_is_killed_too(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("box")
    await remote.start(workspace, LONG)
    for _ in range(2):
        await until_trained(workspace)
        kill(workspace)
        await remote.resume(workspace)
        async with asyncio.timeout(20):
            while not workspace.news.exists():
                await asyncio.sleep(0.01)
    ui = await attach(workspace)
    await ui.until(lambda: len(ui.notices) == 2)
    assert all("while run 1 was training" in notice for notice in ui.notices)


async def test_who_resumes_is_told_what_is_another_than_it_was_and_the_next_screen_too(
    home: Path, attach: Attach, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.open("box")
    begun = await remote.start(workspace, replace(LONG, model=of_files(home)))
    assert begun.notices == ()
    await until_trained(workspace)
    kill(workspace)
    (home / "act.py").write_text(ACT.replace("tanh", "relu"))
    assert await asyncio.to_thread(remote_commands.main, ["resume", "box"]) == 0
    lines, error = capsys.readouterr()
    assert lines.startswith("Run 1 goes on")
    crash, code = error.splitlines()
    assert crash.startswith("workflow-tui: The engine was ended from outside: it was killed")
    assert "space" not in crash, "there is no such key here"
    assert code.startswith("workflow-tui: The code of the model has changed: ")
    assert "act.py has changed since run 1 was trained with it, and run 1 goes on with the code as it is now" in code
    await looked_at(workspace)  # which has nobody to tell, either
    assert await asyncio.to_thread(remote_commands.main, ["resume", "box", "--json"]) == 0
    lines, error = capsys.readouterr()
    assert error == ""
    assert [f"workflow-tui: {notice}" for notice in json.loads(lines)["notices"]] == [crash, code]
    ui = await attach(workspace)
    await ui.until(lambda: len(ui.notices) == 2)
    assert "act.py has changed" in ui.notices[1]
    assert (await remote.resume(workspace)).notices == ()


async def test_lines_and_settings_are_kept_once_it_is_quiet(
    home: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "3600")
    workspace = Workspace.open("lines")
    ui = await attach(workspace)
    for _ in range(5 * 7 + 2):
        await ui.request(NextLine(), timeout=60)
    await ui.request(SetTraining(spec=TrainSpec(epochs=777)))
    await ui.request(SetPace(pace=33.0))
    async with asyncio.timeout(20):
        while kept_pace(workspace) != 33.0:
            await asyncio.sleep(0.02)
    kill(workspace)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    assert (ui.training.epoch, ui.training.state, ui.training.pace) == (7, "paused", 33.0)
    assert ui.state["train_spec"].epochs == 777
    await ui.until(lambda: ui.notices)
    assert "while run 1 was paused. The run is back as it was after 7 epochs." in ui.notices[0]


async def test_a_race_goes_on(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("race")
    ui = await attach(workspace)
    lanes = tuple(TrainSpec(epochs=1_000_000, device="cpu", learning_rate=rate) for rate in (0.1, 0.01))
    await ui.request(StartRace(lanes=lanes), timeout=60)
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].epoch > 10)
    ended = await remote.stop(workspace)
    assert ends(workspace)
    assert "ending: `workflow-tui stop` asked for it" in workspace.log.read_text()
    again = await remote.resume(workspace)
    assert (again.race, again.state) == (1, "running")
    assert (again.epoch or 0) >= (ended.epoch or 0) > 10
    assert again.best in (1, 2)
    assert f"race 1, best run {again.best}" in table([again])[1]


async def test_what_goes_on_is_the_run_that_was_kept_whatever_the_next_one_is_to_be(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("set")
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=replace(LONG.train, epochs=500_000)), timeout=60)
    await ui.request(Run(epochs=50))
    await ui.until(lambda: ui.training and ui.training.state == "paused")
    await ui.request(SetTraining(spec=replace(LONG.train, learning_rate=0.5)))
    again = await remote.resume(workspace)
    assert (again.run, again.state, again.epochs) == (1, "running", 500_000)
    await ui.request(Pause())
    await ui.request(MakeData(spec=DataSpec(weight=0.1)))
    with pytest.raises(WorkflowError, match="the data changed"):
        await remote.resume(workspace)
    assert ui.training.run == 1
    assert ui.training.epoch > 50


async def test_a_race_that_is_over_is_not_gone_on_with_and_gives_way_to_a_new_training(
    home: Path, attach: Attach, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.open("raced")
    ui = await attach(workspace)
    await ui.request(Run(), timeout=60)
    await ui.until_state("finished")
    lanes = tuple(TrainSpec(epochs=20, device="cpu", learning_rate=rate) for rate in (0.1, 0.01))
    await ui.request(StartRace(lanes=lanes))
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].state == "finished")
    with pytest.raises(WorkflowError, match="the race is over"):
        await remote.resume(workspace)
    assert ui.state["race"] is not None
    begun = await remote.start(workspace, WorkflowSpec(train=TrainSpec(epochs=300, device="cpu")))
    assert (begun.run, begun.replaced, begun.race) == (4, 1, None), "and not run 1, extended"
    await ui.until(lambda: ui.training.run == 4 and ui.training.state == "finished")


async def test_there_must_be_something_that_can_go_on(home: Path, attach: Attach) -> None:
    empty = Workspace.open("empty")
    with pytest.raises(WorkflowError, match="nothing is kept"):
        await remote.resume(empty)
    assert ends(empty), "an engine was left behind for nothing"
    said = empty.log.read_text()
    assert "ending: nothing came of the `workflow-tui resume` or `train --detach`" in said
    assert "`workflow-tui stop` asked" not in said
    over = Workspace.open("over")
    ui = await attach(over)
    await ui.request(Run(epochs=100), timeout=60)
    await ui.until_state("finished")
    with pytest.raises(WorkflowError, match="all 100 epochs are done"):
        await remote.resume(over)
    await ui.request(Evaluate())
    assert ui.lost == [], "the engine of a screen was ended"


async def test_a_training_that_cannot_be_begun_leaves_no_engine(home: Path, tmp_path: Path) -> None:
    workspace = Workspace.open("wrong")
    spec = replace(LONG, data=DataSpec(kind="table", file=str(tmp_path / "nowhere.csv"), target="y"))
    with pytest.raises(WorkflowError, match="nowhere"):
        await remote.start(workspace, spec)
    assert ends(workspace)


def test_it_speaks_to_people_and_to_scripts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert remote_commands.main(["resume"]) == 2
    assert remote_commands.main(["resume", "nowhere"]) == 1
    assert "there is no workspace nowhere" in capsys.readouterr().err
    assert headless(["train", "--epochs", "900000", "--detach", "--workspace", "my run"]) == 0
    assert remote_commands.main(["stop", "my run"]) == 0
    capsys.readouterr()
    assert remote_commands.main(["resume", "my run"]) == 0
    went, how = capsys.readouterr().out.splitlines()
    assert went.startswith("Run 1 goes on, after "), "with nothing trained again"
    assert went.endswith(" of 900,000 epochs.")
    assert how == "workflow-tui attach 'my run' looks at it, workflow-tui stop 'my run' ends it."
    assert remote_commands.main(["resume", "my run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["engine"], told["state"], told["epochs"]) == ("my run", "live", "running", 900_000)


async def test_what_is_not_kept_is_told_to_whoever_comes_until_it_is_kept_again(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("full")
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=LONG.train), timeout=60)
    workspace.kept_run.mkdir()  # as good as a full disk
    assert ui.state["engine"].keeps
    await ui.request(Run())
    await ui.until(lambda: ui.notices)
    assert "no checkpoint of it can be written" in ui.notices[0]
    await ui.until(lambda: not ui.state["engine"].keeps)
    late = await attach(workspace)
    await late.until(lambda: late.notices)
    assert late.notices[0] == ui.notices[0]
    (looked,) = await survey([workspace])
    assert not looked.keeps
    assert "running, not kept" in table([looked])[1]
    workspace.kept_run.rmdir()
    await ui.until(lambda: ui.state["engine"].keeps)
    last = await attach(workspace)
    await last.until(lambda: last.state.get("training"))
    assert (last.notices, last.state["engine"].keeps) == ([], True)
    assert (await remote.stop(workspace)).keeps


async def test_stopping_says_when_the_last_checkpoint_could_not_be_written(
    home: Path, attach: Attach, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.open("late")
    await remote.start(workspace, LONG)
    await until_kept(workspace)
    workspace.checkpoints.rename(workspace.path / "away")  # whatever is being written there just now
    assert await asyncio.to_thread(remote_commands.main, ["stop", "late"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert f"run 1 cannot be kept as it stands, after {(await looked_at(workspace)).epoch:,} epochs" in error
    assert (await looked_at(workspace)).state == "paused", "the engine lives on with it"
    (workspace.path / "away").rename(workspace.checkpoints)
    assert await asyncio.to_thread(remote_commands.main, ["stop", "late"]) == 0, "at once, and not at the next try"
    assert "It is kept" in capsys.readouterr().out
    await remote.resume(workspace)
    workspace.checkpoints.rename(workspace.path / "away")
    assert await asyncio.to_thread(remote_commands.main, ["stop", "--force", "late"]) == 1
    out, error = capsys.readouterr()
    assert "The engine of late has ended. Run 1 was paused after" in out
    assert "It is kept" not in out
    assert f"Run 1 could not be kept as it stood then: {workspace.log} says why." in error


HANGING = """
import os, time
from workflow_core.engine import server

server.KEEP_GRACE = 0.5
rename = os.replace

def hanging(source, target):
    while os.path.basename(target) == "run.pt" and os.path.exists({hangs!r}):
        time.sleep(0.02)
    rename(source, target)

os.replace = hanging
"""


async def test_stopping_says_when_the_disk_does_not_answer(
    home: Path,
    attach: Attach,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hangs = tmp_path / "hangs"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HANGING.format(hangs=str(hangs)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    workspace = Workspace.open("mute")
    await remote.start(workspace, LONG)
    await until_kept(workspace)
    hangs.touch()
    assert await asyncio.to_thread(remote_commands.main, ["stop", "mute"]) == 1
    assert "run 1 cannot be kept as it stands" in capsys.readouterr().err
    assert await asyncio.to_thread(remote_commands.main, ["stop", "mute", "--force"]) == 1
    out, error = capsys.readouterr()
    assert "The engine of mute has ended. Run 1 was paused after" in out
    assert "It is kept" not in out
    assert f"Run 1 could not be kept as it stood then: {workspace.log} says why." in error
    assert "the last checkpoint is not written: the disk hangs" in workspace.log.read_text()


async def test_an_engine_with_something_to_tell_is_not_ended_as_idle(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("news")
    await remote.start(workspace, LONG)
    await until_trained(workspace)
    kill(workspace)
    with pytest.raises(WorkflowError, match="is paused in"):
        await remote.start(workspace, LONG)  # which is refused: there is a run to go on with
    assert workspace.engine_pid() is not None
    ui = await attach(workspace)
    await ui.until(lambda: ui.notices)
    assert "killed" in ui.notices[0]
    assert (await ui.request(Shutdown(if_idle=True))).ends


async def test_a_finished_run_that_is_in_no_file_does_not_give_way_unsaid(
    home: Path, attach: Attach, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["train", "--epochs", "20", "--detach", "--workspace", "again"]
    told: list[list[str]] = []
    for run in (1, 2, 3):
        assert await asyncio.to_thread(headless, flags) == 0
        told.append(capsys.readouterr().out.splitlines())
        ui = await attach(Workspace.find("again"))
        await ui.until(lambda ui=ui, run=run: ui.training.run == run and ui.training.state == "finished")
        if run == 2:
            await ui.request(Save(path=str(tmp_path / "model.pt")))
    assert [len(lines) for lines in told] == [2, 3, 2]
    assert told[1][1] == "Run 1 gave way to it: its record stays, its weights were in no file."
    # the next engine knows the file as well, as long as it is there
    workspace = Workspace.find("again")
    await ui.request(Save(path=str(tmp_path / "third.pt")))
    assert (await remote.stop(workspace)).keeps
    assert await asyncio.to_thread(headless, flags) == 0
    assert "gave way" not in capsys.readouterr().out
    ui = await attach(workspace)
    await ui.until(lambda: ui.training.run == 4 and ui.training.state == "finished")
    await ui.request(Save(path=str(tmp_path / "fourth.pt")))
    assert (await remote.stop(workspace)).keeps
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    assert ui.state["saved"].file.path == str(tmp_path / "fourth.pt")
    assert ui.state["steps"].save == "done"
    assert (await remote.stop(workspace)).keeps
    (tmp_path / "fourth.pt").unlink()
    assert await asyncio.to_thread(headless, flags) == 0
    assert "Run 4 gave way" in capsys.readouterr().out


@pytest.mark.parametrize("variable", ["WORKFLOW_TUI_IDLE_SECONDS", "WORKFLOW_TUI_CHECKPOINT_SECONDS"])
@pytest.mark.parametrize("said", ["soon", "0", "-3", "inf", "nan"])
def test_no_engine_starts_with_a_time_that_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, said: str
) -> None:
    monkeypatch.setenv(variable, said)
    assert headless(["train", "--detach", "--workspace", "never"]) == 1
    assert f"{variable} is '{said}', which is no number of seconds" in capsys.readouterr().err
