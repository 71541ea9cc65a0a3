"""The engine as a process: one a workspace, undisturbed by its UIs, and gone without a trace when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workflow_core import sockets
from workflow_core.client import EngineClient
from workflow_core.engine.board import BACKLOG
from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of, launch
from workflow_core.protocol import (
    HEADER,
    MAX_FRAME,
    PROTOCOL_VERSION,
    BuildModel,
    Epochs,
    Evaluate,
    Event,
    Hello,
    Load,
    MakeData,
    Notice,
    Pause,
    Predict,
    Predictions,
    Request,
    Reset,
    Run,
    Save,
    SetPace,
    SetTraining,
    Shutdown,
    Update,
    decode_event,
    encode,
)
from workflow_core.specs import DataSpec, TrainSpec
from workflow_core.workspace import Workspace, started

if TYPE_CHECKING:
    from tests.core.conftest import Watcher

Attach = Callable[[Workspace], Awaitable["Watcher"]]

COURSE = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())["04"]
ENDLESS = SetTraining(spec=TrainSpec(epochs=1_000_000_000))


async def fresh(engine: Workspace, attach: Attach) -> Watcher:
    """A watcher of the shared engine, with the course's settings and no epochs trained."""
    watcher = await attach(engine)
    await watcher.until(lambda: watcher.state["engine"].state == "ready")
    for command in (Reset(), MakeData(spec=DataSpec()), BuildModel(), SetTraining(spec=TrainSpec()), SetPace()):
        await watcher.request(command)
    watcher.events.clear()
    return watcher


async def ended(workspace: Workspace, seconds: float) -> int:
    """Wait for the engine to end: its exit status."""
    child = child_of(workspace)
    assert child is not None
    async with asyncio.timeout(seconds):
        while child.poll() is None:
            await asyncio.sleep(0.01)
    return child.returncode


def pieces(workspace: Workspace) -> list[tuple[int, int]]:
    """The epochs that are on disk: from which on, and how many."""
    with contextlib.closing(sqlite3.connect(workspace.store)) as db:
        return db.execute("SELECT start, count FROM epochs ORDER BY start").fetchall()


class Raw:
    """A connection that says whatever a test wants it to."""

    def __init__(self, workspace: Workspace) -> None:
        self.socket = sockets.connect(workspace.socket, timeout=10)

    def hello(self, version: int = PROTOCOL_VERSION) -> None:
        self.socket.sendall(encode(Hello(version=version, name="raw")))

    def read(self) -> Event | None:
        """The next event; None where the engine has closed the connection."""
        try:
            header = self._exactly(HEADER.size)
            return decode_event(self._exactly(HEADER.unpack(header)[0]))
        except (EOFError, ConnectionError):
            return None

    def read_to_end(self) -> list[Event]:
        events = []
        while (event := self.read()) is not None:
            events.append(event)
        self.socket.close()
        return events

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (part := self.socket.recv(size - len(data))):
                raise EOFError
            data += part
        return data


# the workflow


async def test_the_whole_workflow_over_the_socket(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    assert ui.state["engine"].torch_version
    assert "cpu" in ui.state["engine"].devices
    await ui.request(Run())
    view = await ui.until_state("finished")
    assert list(view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)
    assert ui.history.epochs == 100
    await ui.request(Evaluate())
    assert ui.state["evaluation"].metrics["test"].mse == pytest.approx(COURSE["test"], rel=1e-5)
    await ui.request(Save(path="walk.pt", kind="checkpoint", overwrite=True))
    assert Path(ui.state["saved"].file.path) == engine.checkpoints / "walk.pt"
    await ui.request(Load(path="walk.pt"))
    assert ui.state["loaded"].proof.equal
    answer = await ui.request(Predict(x=((0.5,),), source="loaded"))
    assert isinstance(answer, Predictions)
    assert answer.points[0][1] == pytest.approx(view.parameters["weight"] * 0.5 + view.parameters["bias"], rel=1e-6)
    assert {getattr(ui.steps, name) for name in ("data", "build", "train", "evaluate", "save", "load")} == {"done"}
    with pytest.raises(WorkflowError, match="epochs are done"):
        await ui.request(Run())


async def test_what_changed_is_told_before_the_reply(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    for weight in (0.1, 0.2, 0.3):
        await ui.request(MakeData(spec=DataSpec(weight=weight)))
        assert ui.state["data"].coefficients["x"] == weight


async def test_two_uis_see_the_same(engine: Workspace, attach: Attach) -> None:
    first = await fresh(engine, attach)
    await first.request(Run(epochs=40))
    await first.until_state("paused")
    second = await attach(engine)
    await second.request(Run())
    for ui in (first, second):
        await ui.until_state("finished")
        await ui.until(functools.partial(lambda ui: ui.steps.train == "done", ui))
    assert first.history.to_data() == second.history.to_data()
    assert first.state | {"history": None} == second.state | {"history": None}


async def test_pausing_flat_out_takes_no_time(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(ENDLESS)
    waits = []
    for _ in range(10):
        await ui.request(Run())
        before = ui.history.epochs
        await ui.until(functools.partial(lambda before: ui.history.epochs > before, before))
        begun = time.perf_counter()
        await ui.request(Pause())
        waits.append(time.perf_counter() - begun)
        assert ui.training.state == "paused"
        assert ui.history.epochs == ui.training.epoch
    assert sorted(waits)[len(waits) // 2] < 0.05


async def test_events_are_coalesced(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(ENDLESS)
    begun = time.perf_counter()
    await ui.request(Run())
    await ui.until(lambda: sum(isinstance(event, Epochs) for event in ui.events) >= 10)
    elapsed = time.perf_counter() - begun
    await ui.request(Pause())
    assert elapsed > 9 * 0.05
    assert ui.history.epochs > 50
    assert ui.training.elapsed <= time.perf_counter() - begun


async def test_a_pace_is_kept_and_changed_at_once(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(Run(epochs=1))
    await ui.until_state("paused")  # the process's first optimizer costs a second
    await ui.request(SetPace(pace=50.0))
    begun = time.perf_counter()
    await ui.request(Run(epochs=26))
    await ui.until_state("paused")
    assert 0.45 < time.perf_counter() - begun < 1.5  # 25 intervals of 20 ms
    await ui.request(SetPace(pace=1.0))
    await ui.request(Run())
    await ui.until(lambda: ui.training.epoch > 27)
    begun = time.perf_counter()
    await ui.request(SetPace())
    await ui.until_state("finished")
    assert time.perf_counter() - begun < 0.9  # the second between two epochs was not waited out
    assert ui.training.pace is None


async def test_a_pause_does_not_wait_for_the_next_epoch(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(SetPace(pace=1.0))
    await ui.request(Run())
    await ui.until(lambda: ui.training.epoch == 1)
    begun = time.perf_counter()
    await ui.request(Pause())
    assert time.perf_counter() - begun < 0.5
    assert (ui.training.state, ui.training.epoch) == ("paused", 1)


async def test_work_between_epochs_does_not_stop_the_training(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(ENDLESS)
    await ui.request(Run())
    await ui.request(Evaluate())
    await ui.request(Save(path="running.pt", overwrite=True))
    assert ui.training.state == "running"
    assert ui.state["evaluation"].epoch <= ui.state["saved"].epoch
    await ui.until(lambda: ui.steps.evaluate == ui.steps.save == "stale")
    await ui.request(Reset())
    assert (ui.training.state, ui.training.epoch, ui.history.epochs) == ("ready", 0, 0)


async def test_divergence_reaches_the_ui_with_its_nans(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(SetTraining(spec=TrainSpec(learning_rate=1.5, epochs=1_000_000)))
    await ui.request(Run())
    view = await ui.until_state("diverged")
    assert view.first_bad == ui.history.first_bad == ui.history.epochs - 1
    assert str(view.first_bad) in view.reason


# peers


async def test_requests_that_do_not_fit_are_answered(engine: Workspace, attach: Attach) -> None:
    await fresh(engine, attach)
    raw = Raw(engine)
    raw.hello()
    body = b"\x83\xa4type\xa7request\xa2id\x07\xa7command\x81\xa4type\xa3fly"
    raw.socket.sendall(HEADER.pack(len(body)) + body)

    def answer() -> Event | None:
        while isinstance(event := raw.read(), Hello | Update):
            pass
        return event

    event = await asyncio.to_thread(answer)
    assert getattr(event, "id", None) == 7
    assert "fly" in event.problem.message  # type: ignore[union-attr]
    raw.socket.close()


@pytest.mark.parametrize(
    "frame",
    [HEADER.pack(5) + b"\xc1junk", HEADER.pack(MAX_FRAME + 1) + b"x" * 100_000, encode(Hello(version=1, name="again"))],
)
async def test_frames_that_mean_nothing_end_only_their_own_connection(
    engine: Workspace, attach: Attach, frame: bytes
) -> None:
    ui = await fresh(engine, attach)
    raw = Raw(engine)
    raw.hello()
    with contextlib.suppress(ConnectionError):
        raw.socket.sendall(frame)
    events = await asyncio.to_thread(raw.read_to_end)
    assert isinstance(events[-1], Notice)
    assert "refused" in events[-1].problem.title
    await ui.request(Run(epochs=1))
    assert not ui.lost


async def test_another_version_is_told_so(engine: Workspace) -> None:
    raw = Raw(engine)
    raw.hello(PROTOCOL_VERSION + 1)
    events = await asyncio.to_thread(raw.read_to_end)
    assert [type(event) for event in events] == [Hello, Notice]
    assert f"not {PROTOCOL_VERSION + 1}" in events[-1].problem.message  # type: ignore[union-attr]


async def test_a_ui_that_does_not_read_costs_nothing_and_catches_up(engine: Workspace, attach: Attach) -> None:
    ui = await fresh(engine, attach)
    await ui.request(SetPace(pace=None))
    await ui.request(ENDLESS)
    deaf = Raw(engine)
    deaf.hello()
    # one answer larger than all buffers on the way, so that nothing gets through until it is read
    deaf.socket.sendall(encode(Request(id=1, command=Predict(x=((0.5,),) * 50_000))))
    await ui.request(Predict(x=((0.5,),)))
    await ui.request(Run())
    await ui.until(lambda: ui.history.epochs > BACKLOG + 1_000, 60)
    rate = ui.training.rate
    await ui.request(Pause())
    assert rate > 100

    seen: list[Event] = []

    def catch_up() -> None:
        while (event := deaf.read()) is not None:
            seen.append(event)
            if isinstance(event, Update) and event.training and event.training.state == "paused":
                return

    await asyncio.to_thread(catch_up)
    deaf.socket.close()
    last = seen[-1]
    assert isinstance(last, Update)
    assert last.engine
    assert last.history
    assert last.history.epochs == ui.history.epochs
    assert last.training == ui.training
    # what it was told in the meantime is bounded
    assert sum(len(encode(event)) for event in seen) < 8 * 1024 * 1024


# the process


async def test_the_first_answer_does_not_wait_for_torch(workspace: Workspace, attach: Attach) -> None:
    ui = await attach(workspace)
    first = ui.events[0]
    assert isinstance(first, Update)
    assert first.engine
    assert first.engine.state == "loading"
    assert stat.S_IMODE(workspace.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(workspace.pid_file.stat().st_mode) == 0o600
    # what is asked for now is done once torch is there
    await ui.request(Run(epochs=1), timeout=60)
    assert ui.state["engine"].state == "ready"
    await ui.until_state("paused")


async def test_files_are_as_open_as_the_users_others_and_the_users_folder_is_let_go(
    workspace: Workspace, tmp_path: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        launch(workspace)
    finally:
        os.umask(before)
    ui = await attach(workspace)
    there = workspace.checkpoints / "there.pt"
    there.touch()
    there.chmod(0o604)
    for name in ("new.pt", "there.pt"):
        await ui.request(Save(path=name, overwrite=True), timeout=60)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in workspace.checkpoints.iterdir()}
    assert modes == {"new.pt": 0o640, "there.pt": 0o604}
    for private in (workspace.socket, workspace.pid_file, workspace.lock_file, workspace.log):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    cwd = Path(f"/proc/{workspace.engine_pid()}/cwd")
    assert not cwd.exists() or cwd.samefile(workspace.path)


async def test_a_killed_engine_is_noticed_and_replaced(workspace: Workspace, attach: Attach) -> None:
    ui = await attach(workspace)
    pid = workspace.engine_pid()
    assert pid is not None
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    await ui.until(lambda: ui.lost, 1.0)
    assert time.perf_counter() - begun < 1.0
    assert ui.lost == ["the engine process was killed by SIGKILL"]
    assert workspace.socket.exists()
    hello = await ui.client.restart()
    assert hello.pid == workspace.engine_pid() != pid
    await ui.request(Shutdown())


@pytest.mark.usefixtures("without_torch")
class TestProcess:
    """What needs no torch is tested with engines that have none: they start in no time."""

    async def test_a_torch_that_cannot_be_loaded_is_a_state(self, workspace: Workspace, attach: Attach) -> None:
        ui = await attach(workspace)
        await ui.until(lambda: ui.state["engine"].state == "failed")
        assert "libtorch is [broken]" in ui.state["engine"].problem.message
        with pytest.raises(WorkflowError, match="importing torch failed"):
            await ui.request(Run())
        assert "Traceback" in workspace.log.read_text()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_signal_ends_it_cleanly(self, workspace: Workspace, attach: Attach, number: signal.Signals) -> None:
        ui = await attach(workspace)
        pid = workspace.engine_pid()
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, number)
        assert await ended(workspace, 1.5) == 0
        await ui.until(lambda: ui.lost)
        assert number.name in ui.lost[0]
        assert number.name in ui.notices[0]
        left = {path.name for path in workspace.path.iterdir()}
        assert left == {"engine.lock", "engine.log", "checkpoints", "workspace.sqlite"}

    async def test_of_many_engines_one_stays(self, workspace: Workspace) -> None:
        command = [sys.executable, "-P", "-m", "workflow_core.engine", "--workspace", str(workspace.path)]
        engines = [await asyncio.create_subprocess_exec(*command) for _ in range(8)]
        try:
            async with asyncio.timeout(20):
                while sum(engine.returncode is None for engine in engines) > 1:
                    await asyncio.sleep(0.01)
            (winner,) = (engine for engine in engines if engine.returncode is None)
            assert {engine.returncode for engine in engines} == {0, None}
            clients = [EngineClient(workspace) for _ in range(3)]
            hellos = await asyncio.gather(*(client.connect(20) for client in clients))
            assert {hello.pid for hello in hellos} == {winner.pid, workspace.engine_pid()}
            await clients[0].request(Shutdown())
            assert await winner.wait() == 0
            for client in clients:
                await client.close()
        finally:
            for engine in engines:
                if engine.returncode is None:
                    engine.kill()
                    await engine.wait()

    async def test_stale_leftovers_are_replaced(self, workspace: Workspace, attach: Attach) -> None:
        sockets.listen(workspace.socket).close()
        workspace.pid_file.write_text(f"{os.getpid()} {started(os.getpid())}9\n")
        await attach(workspace)
        child = child_of(workspace)
        assert child is not None
        assert workspace.engine_pid() == child.pid

    async def test_a_long_path_works(self, workspace: Workspace, attach: Attach) -> None:
        deep = Workspace.open(workspace.path.joinpath(*["long" * 20] * 3))
        try:
            ui = await attach(deep)
            await ui.request(Shutdown())
            assert await ended(deep, 5) == 0
        finally:
            if (child := child_of(deep)) is not None:
                child.kill()

    async def test_a_socket_that_vanished_is_made_anew(self, workspace: Workspace, attach: Attach) -> None:
        first = await attach(workspace)
        workspace.socket.unlink()
        second = await attach(workspace)
        assert first.state["engine"].pid == second.state["engine"].pid
        assert not first.lost

    async def test_a_workspace_that_was_removed_ends_it_and_its_name_may_be_taken(
        self, workspace: Workspace, attach: Attach, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORKFLOW_TUI_IDLE_SECONDS", "1")
        first = await attach(workspace)
        old = child_of(workspace)
        assert old is not None
        workspace.path.rename(workspace.path.with_name("gone"))
        again = Workspace.open(workspace.path)
        second = await attach(again)
        assert second.state["engine"].pid != old.pid
        inode = again.socket.stat().st_ino
        await first.client.close()
        async with asyncio.timeout(5):
            while old.poll() is None:
                await asyncio.sleep(0.02)
        assert again.socket.stat().st_ino == inode, "the old engine touched what is not its own any more"
        assert again.engine_pid() == second.state["engine"].pid
        old_log = workspace.path.with_name("gone") / "engine.log"
        assert "workspace was removed" in old_log.read_text()

    async def test_shutdown_if_idle_leaves_others_alone(self, workspace: Workspace, attach: Attach) -> None:
        first, second = await attach(workspace), await attach(workspace)
        await first.request(Shutdown(if_idle=True))
        await first.client.close()
        await second.request(Pause(), timeout=5) if second.state["engine"].state == "ready" else None
        assert not second.lost
        async with asyncio.timeout(5):
            while not second.lost:
                with contextlib.suppress(WorkflowError):
                    await second.request(Shutdown(if_idle=True))
                await asyncio.sleep(0.01)
        assert await ended(workspace, 5) == 0

    async def test_it_ends_when_nobody_wants_it(self, workspace: Workspace) -> None:
        command = [sys.executable, "-P", "-m", "workflow_core.engine", "--workspace", str(workspace.path)]
        # with nothing at all to read from or write to
        closed = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command, "--idle-timeout", "0.2"]
        engine = await asyncio.create_subprocess_exec(*closed)
        async with asyncio.timeout(10):
            assert await engine.wait() == 0
        assert "nobody was attached" in workspace.log.read_text()
        assert not workspace.socket.exists()

    def test_bad_arguments_are_refused(self) -> None:
        command = [sys.executable, "-m", "workflow_core.engine", "--workspace", "x", "--idle-timeout", "never"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert "idle-timeout" in result.stderr


async def test_a_training_that_nobody_can_reach_any_more_ends(
    workspace: Workspace, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_TUI_IDLE_SECONDS", "2")
    ui = await attach(workspace)
    await ui.request(ENDLESS)
    await ui.request(Run(), timeout=60)
    child = child_of(workspace)
    assert child is not None
    gone = workspace.path.with_name("gone")
    workspace.path.rename(gone)
    # whoever is attached has the training for as long as he stays; the engine looks once in half a second
    await ui.until(lambda: ui.lost or ui.training.elapsed > 3.5)
    assert not ui.lost
    await ui.client.close()
    left = time.monotonic()
    async with asyncio.timeout(10):
        while child.poll() is None:
            await asyncio.sleep(0.02)
    assert time.monotonic() - left > 1.4, "it waits as long as for anything else: the folder may be put back"
    assert child.returncode == 0
    assert "workspace was removed" in (gone / "engine.log").read_text()


async def test_a_training_whose_folder_is_moved_away_goes_on_and_is_there_again_with_it(
    workspace: Workspace, attach: Attach
) -> None:
    ui = await attach(workspace)
    await ui.request(ENDLESS)
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.training.epoch > 100)
    child = child_of(workspace)
    assert child is not None
    await ui.client.close()
    before = ui.training
    gone = workspace.path.with_name("gone")
    workspace.path.rename(gone)
    async with asyncio.timeout(20):
        for words in ("its workspace is gone", "the store cannot be written"):
            while words not in (gone / "engine.log").read_text():
                assert child.poll() is None
                await asyncio.sleep(0.02)
    gone.rename(workspace.path)
    ui = await attach(workspace)
    assert ui.state["engine"].pid == child.pid
    assert (ui.training.run, ui.training.state) == (before.run, "running")
    assert ui.training.epoch > before.epoch
    await ui.until(lambda: ui.state["engine"].keeps)  # all that waited is on disk
    await ui.request(Pause())
    view = await ui.until_state("paused")
    async with asyncio.timeout(20):
        while sum(count for _, count in pieces(workspace)) < view.epoch:
            await asyncio.sleep(0.05)
    starts, counts = zip(*pieces(workspace), strict=True)
    assert list(starts) == [sum(counts[:at]) for at in range(len(counts))], "no gap, and nothing twice"
    assert sum(counts) == view.epoch


async def test_a_training_outlives_its_ui_and_ends_in_order(workspace: Workspace, attach: Attach) -> None:
    first = await attach(workspace)
    # asked for before torch is there: the run is to come, so the engine is not idle
    await asyncio.gather(first.request(ENDLESS), first.request(Run()), first.request(Shutdown(if_idle=True)))
    await first.request(Shutdown(if_idle=True))
    await first.client.close()
    second = await attach(workspace)
    await second.until(lambda: second.training.epoch > 10)
    pid = workspace.engine_pid()
    assert pid is not None
    begun = time.perf_counter()
    os.kill(pid, signal.SIGTERM)
    assert await ended(workspace, 2) == 0
    assert time.perf_counter() - begun < 1.0
    lock = workspace.lock()
    assert lock is not None
    os.close(lock)
    assert not sockets.answers(workspace.socket)
