"""What runs in which workspace is told, ended and begun from outside, in words and for scripts."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from tests.core.conftest import end_engine
from tests.core.test_back import kept_epoch
from tests.soak.machine import needs_names_of_bytes
from wcwidth import wcswidth

from workflow_core import launcher, remote, remote_commands
from workflow_core.client import EngineClient
from workflow_core.errors import WorkflowError
from workflow_core.headless import main as headless
from workflow_core.launcher import child_of
from workflow_core.protocol import LeaveRace, Pause, Reset, Run, StartRace, Stop
from workflow_core.remote_commands import table
from workflow_core.saying import json_line
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


async def standing(name: str) -> Standing:
    (found,) = await survey([Workspace.find(name)])
    return found


def said(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    out, error = capsys.readouterr()
    return out.splitlines(), error


async def test_a_training_is_begun_told_of_and_ended(home: Path, attach: Attach) -> None:
    begun = await remote.start(Workspace.open("gpu"), LONG)
    assert (begun.engine, begun.run, begun.epochs) == ("live", 1, 1_000_000)
    with pytest.raises(WorkflowError, match="is running in"):
        await remote.start(Workspace.open("gpu"), LONG)
    ui = await attach(Workspace.open("gpu"))
    await ui.until(lambda: ui.history.epochs > 500)
    now = await standing("gpu")
    assert (now.engine, now.state, now.run) == ("live", "running", 1)
    assert (now.epoch or 0) > 500
    assert (now.rate or 0) > 0
    ended = await remote.stop(Workspace.find("gpu"))
    assert (ended.engine, ended.state) == ("none", "paused")
    await ui.until(lambda: ui.lost)
    after = await standing("gpu")
    assert (after.engine, after.state, after.epoch, after.train_loss) == (
        *("none", "paused", ended.epoch),
        ended.train_loss,
    )
    with pytest.raises(WorkflowError, match="no engine runs in"):
        await remote.stop(Workspace.find("gpu"))
    # the next engine has the run, and nothing is begun over it
    with pytest.raises(WorkflowError, match="is paused in"):
        await remote.start(Workspace.open("gpu"), LONG)
    assert (await standing("gpu")).epoch == ended.epoch


async def test_of_trainings_that_are_begun_at_once_one_is_and_as_it_was_asked_for(home: Path, attach: Attach) -> None:
    asked = [
        WorkflowSpec(
            data=DataSpec(weight=float(weight)),
            train=TrainSpec(epochs=1_000_000 + weight, learning_rate=0.001 * weight, device="cpu"),
        )
        for weight in range(1, 6)
    ]
    told = await asyncio.gather(
        *(remote.start(Workspace.open("at once"), spec) for spec in asked), return_exceptions=True
    )
    (first,) = (number for number, each in enumerate(told) if isinstance(each, Standing))
    refused = [each for number, each in enumerate(told) if number != first]
    assert {type(each) for each in refused} == {WorkflowError}
    assert all("is running in" in str(each) for each in refused)
    ui = await attach(Workspace.open("at once"))
    await ui.until(lambda: ui.training)
    assert (ui.training.run, ui.training.spec) == (1, asked[first].train)
    assert (ui.state["data_spec"], ui.state["train_spec"]) == (asked[first].data, asked[first].train)


async def test_who_waits_too_long_for_a_turn_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.open("busy")
    monkeypatch.setattr(remote, "LOADING", 0.1)
    turn = workspace.turn()
    assert turn is not None
    with pytest.raises(WorkflowError, match="has not come to its end"):
        await remote.start(workspace, LONG)
    os.close(turn)


async def test_on_a_disk_without_locks_a_training_is_begun_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "turn", mock.Mock(side_effect=OSError(errno.ENOLCK, "no locks")))
    assert (await remote.start(Workspace.open("nfs"), LONG)).run == 1


async def test_an_engine_that_was_killed_is_told_of(home: Path) -> None:
    workspace = Workspace.open("box")
    await remote.start(workspace, LONG)
    child = child_of(workspace)
    assert child is not None
    async with asyncio.timeout(20):
        while not (await standing("box")).epoch:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)  # until the store has it
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    found = await standing("box")
    assert (found.engine, found.state, found.run) == ("crashed", "interrupted", 1)
    assert (found.epoch or 0) > 0


async def test_a_race_is_told_of_and_ended(home: Path, attach: Attach) -> None:
    ui = await attach(Workspace.open("race"))
    spec = TrainSpec(epochs=1_000_000, device="cpu")
    await ui.request(StartRace(lanes=(spec, TrainSpec(epochs=1_000_000, device="cpu", learning_rate=0.1))), timeout=60)
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].epoch > 10)
    now = await standing("race")
    assert (now.race, now.state, now.run) == (1, "running", None)
    ended = await remote.stop(Workspace.find("race"))
    assert (ended.race, ended.state) == (1, "paused")
    await ui.until(lambda: ui.lost)
    assert len({lane.epoch for lane in ui.state["race"].lanes}) == 1, "the epoch under way came to its end"
    child = child_of(Workspace.find("race"))
    assert child is not None
    child.wait(10)
    after = await standing("race")
    assert (after.race, after.run, after.state) == (1, None, "paused")
    told = ("race", "best", "state", "epoch", "epochs", "train_loss", "val_loss")
    assert [getattr(after, name) for name in told] == [getattr(ended, name) for name in told], "as it was told before"
    assert f"race 1, best run {after.best}" in table([after])[1]


async def test_what_is_told_without_an_engine_is_what_another_one_would_find(home: Path, attach: Attach) -> None:
    workspace = Workspace.open("back")
    ui = await attach(workspace)
    await ui.request(Run(epochs=5), timeout=60)
    await ui.until(lambda: ui.training and ui.training.state == "paused")
    lanes = (TrainSpec(epochs=9, device="cpu"), TrainSpec(epochs=9, device="cpu", learning_rate=0.1))
    await ui.request(StartRace(lanes=lanes))
    await ui.until(lambda: ui.state["race"].state == "finished")
    await ui.request(LeaveRace())
    await remote.stop(workspace)
    found = await standing("back")
    assert (found.run, found.race, found.state, found.epoch) == (1, None, "paused", 5)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    await ui.request(Reset())
    await remote.stop(workspace)
    found = await standing("back")
    assert (found.run, found.state, found.epoch) == (4, "ready", 0), "which has no epoch yet"
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    await ui.request(Run(epochs=1))
    await ui.until(lambda: ui.training.state == "paused")
    await ui.request(Stop(keep=False))
    await remote.stop(workspace)
    found = await standing("back")
    assert (found.run, found.race, found.state) == (None, None, "")
    workspace.store.write_bytes(b"no database" * 100)
    found = await standing("back")
    assert (found.state, found.reason) == ("unreadable", "file is not a database")


@pytest.mark.parametrize("command", [["stop", ""], ["resume", ""], ["ls", ""]])
def test_a_name_that_is_empty_is_none_of_a_workspace(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    Workspace.open(None)  # which is not meant by it
    assert remote_commands.main(command) == 1
    assert "1 to 100 printable characters" in capsys.readouterr().err
    assert headless(["train", "--detach", "--workspace", ""]) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text_are_listed_and_do_nothing(home: Path, encoding: str) -> None:
    needs_names_of_bytes(home)
    names = (b"raw\xff", b"\xc2\x9b31m", "幅".encode(), b"\x1b[31m")
    for name in names:
        folder = os.fsencode(home / "workflow-tui") + b"/" + name
        os.makedirs(folder)
        open(folder + b"/engine.lock", "w").close()
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for flags in ([], ["--json"]):
        command = [sys.executable, "-P", "-m", "workflow_tui.cli", "ls", *flags]
        listed = subprocess.run(command, env=environment, capture_output=True, check=True)
        lines = listed.stdout.decode(encoding).splitlines()
        assert all(line.isprintable() for line in lines)
        assert len(lines) == len(names) + (not flags)
        assert not listed.stderr
        if flags:
            assert {os.fsencode(json.loads(line)["name"]) for line in lines} == set(names)
        elif encoding == "utf-8":
            assert {wcswidth(line.partition("none")[0]) for line in lines[1:]} == {lines[0].index("engine")}


async def test_what_could_not_be_kept_is_not_promised(
    home: Path, attach: Attach, capsys: pytest.CaptureFixture[str]
) -> None:
    Workspace.open("broken").store.write_bytes(b"no database" * 1000)
    ui = await attach(Workspace.open("broken"))
    await ui.request(Run(epochs=3), timeout=60)
    await ui.until_state("paused")
    assert (await standing("broken")).keeps is False
    assert await asyncio.to_thread(remote_commands.main, ["stop", "broken"]) == 1
    lines, complaint = said(capsys)
    assert (lines, "run 1 cannot be kept as it stands, after 3 epochs" in complaint) == ([], True)
    assert await asyncio.to_thread(remote_commands.main, ["stop", "broken", "--force"]) == 1
    lines, complaint = said(capsys)
    assert lines == ["The engine of broken has ended. Run 1 was paused after 3 of 100 epochs."]
    assert "Run 1 could not be kept as it stood then" in complaint


async def test_stopping_what_has_just_ended_begins_nothing(home: Path, attach: Attach) -> None:
    ui = await attach(Workspace.open("over"))
    lanes = tuple(TrainSpec(epochs=3, device="cpu", learning_rate=rate) for rate in (0.1, 0.2))
    await ui.request(StartRace(lanes=lanes), timeout=60)
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].state == "finished")
    before = ui.state["race"]
    await ui.request(Pause(at_epoch=True))
    assert (ui.state["race"], ui.state["training"]) == (before, None)
    await ui.request(Run(epochs=2))
    await ui.until_state("paused")
    await ui.request(Pause(at_epoch=True))
    assert (ui.training.state, ui.training.epoch) == ("paused", 2)


async def test_an_engine_that_does_not_answer_is_stale_and_not_taken_for_none(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.2")
    workspace = Workspace.open("hangs")
    begun = await remote.start(workspace, LONG)
    assert begun.pid is not None
    async with asyncio.timeout(20):
        while kept_epoch(workspace.kept_run) < 1:  # and so on record
            await asyncio.sleep(0.02)
    os.kill(begun.pid, signal.SIGSTOP)
    try:
        looked = await standing("hangs")
        with pytest.raises(WorkflowError, match=rf"\(pid {begun.pid}\) does not answer.*kill -9 {begun.pid}"):
            await remote.stop(workspace)
        assert await asyncio.to_thread(remote_commands.main, ["stop", "hangs", "--json"]) == 1
    finally:
        os.kill(begun.pid, signal.SIGCONT)
    assert (looked.engine, looked.pid, looked.run) == ("stale", begun.pid, 1)
    assert looked.state == "running", "for all that is known"
    (line,), error = said(capsys)
    assert json.loads(line)["error"]["title"] == "The engine does not answer"
    assert "does not answer" in error
    assert (await remote.stop(workspace)).state == "paused"


async def test_an_engine_that_is_still_loading_is_asked_what_it_had_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "subprocess", subprocess)  # which takes a while
    workspace = Workspace.open("loads")
    await remote.start(workspace, LONG)
    before = await remote.stop(workspace)
    assert before.epoch
    client = EngineClient(workspace)
    await client.connect()
    ended = await remote.stop(workspace)
    await client.close()
    assert (ended.run, ended.state, ended.epoch) == (1, "paused", before.epoch)


async def test_an_engine_without_a_run_is_idle(home: Path, attach: Attach) -> None:
    await attach(Workspace.open("idle"))
    assert (await standing("idle")) == Standing(
        name="idle", path=str(home / "workflow-tui" / "idle"), engine="live", pid=Workspace.find("idle").engine_pid()
    )


def test_the_commands_speak_to_people_and_to_scripts(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert remote_commands.main(["ls"]) == 0
    assert "There is no workspace yet" in said(capsys)[0][0]
    assert remote_commands.main(["ls", "--json"]) == 0
    assert said(capsys) == ([], "")
    assert remote_commands.main(["ls", "nowhere"]) == 1
    assert "there is no workspace nowhere" in said(capsys)[1]
    assert remote_commands.main(["stop"]) == 2
    assert said(capsys)[1].count("\n") == 1
    csv = tmp_path / "own.csv"
    csv.write_text("x,y\n" + "\n".join(f"{x},{2 * x + 1}" for x in range(40)))
    flags = ["--data", str(csv), "--target", "y", "--epochs", "900000", "--lr", "0.0001"]
    assert headless(["train", *flags, "--detach", "--workspace", "mine"]) == 0
    lines, error = said(capsys)
    assert lines == [
        "Run 1 trains 900,000 epochs in workspace mine.",
        "workflow-tui attach mine looks at it, workflow-tui stop mine ends it.",
    ]
    assert error == ""
    assert headless(["train", *flags, "--detach", "--workspace", "mine"]) == 1
    assert "run 1" in said(capsys)[1]
    assert remote_commands.main(["ls"]) == 0
    heads, row = said(capsys)[0]
    assert heads.split() == ["workspace", "engine", "run", "state", "epoch", "train", "val", "epochs/s"]
    assert row.split()[:5] == ["mine", "live", "run", "1", "running"]
    assert remote_commands.main(["ls", "nowhere", "mine"]) == 1
    lines, error = said(capsys)
    assert lines[1].split()[:5] == row.split()[:5], "what is there is listed all the same"
    assert "there is no workspace nowhere" in error
    assert remote_commands.main(["stop", "mine"]) == 0
    lines, _ = said(capsys)
    assert lines[0].startswith("The engine of mine has ended. Run 1 was paused after ")
    assert lines[1] == "It is kept; workflow-tui attach mine brings it back, workflow-tui resume mine goes on with it."
    assert remote_commands.main(["ls", "--json", "mine"]) == 0
    (line,) = said(capsys)[0]
    told = json.loads(line)
    assert (told["name"], told["engine"], told["state"], told["epochs"]) == ("mine", "none", "paused", 900_000)
    assert remote_commands.main(["stop", "mine", "--json"]) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--detach", "--save", "m.pt"], "--save does not go with --detach"),
        (["--detach", "--every", "10"], "--every does not go with --detach"),
        (["--workspace", "a"], "--workspace goes with --detach only"),
    ],
)
def test_what_does_not_go_with_a_training_that_is_left_alone(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert headless(["train", *flags]) == 2
    assert words in said(capsys)[1]


def test_figures_that_are_not_finite_and_names_that_are_hostile_are_harmless() -> None:
    bad = Standing(
        name="\x1b]52;c;aGk=\x07[bold]",
        path="/x",
        engine="crashed",
        state="diverged",
        run=3,
        epoch=10,
        epochs=20,
        train_loss=float("nan"),
        val_loss=float("inf"),
    )
    lines = table([bad, Standing(name="a", path="/a", engine="none")])
    assert len({len(line) for line in lines[:2]}) <= 2
    assert "\x1b" not in "".join(lines)
    assert "nan" in lines[1]
    assert json.loads(json_line(msgspec.structs.asdict(bad)))["train_loss"] is None


def test_what_is_no_workspace_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "gone"):
        with pytest.raises(WorkflowError, match="there is no workspace"):
            Workspace.find(path)
    assert not (tmp_path / "gone").exists()
    Workspace.open(tmp_path / "made").lock()
    assert Workspace.find(tmp_path / "made").path == tmp_path / "made"
