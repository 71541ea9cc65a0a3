"""What a run survives of lost lines: links that drop, shells and tmux servers that end, screens that are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.core.conftest import Watcher, end_engine
from tests.e2e.processes import processes_of
from tests.e2e.program import PROGRAM, SCREENS, epoch, ready
from tests.soak.line import KILLS, Line, press, pty_line, run, tmux_line, until
from tests.soak.machine import needs_proc, needs_tmux
from tests.soak.runs import ask
from tests.soak.table import sizes, tell

from workflow_core import sockets
from workflow_core.protocol import Command, Run, SetPace, SetTraining, Stop
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace

PACE = 200
GONE_WITHIN = 5.0
"""Seconds after the line is lost in which the process of the screen has to end."""
BUSY = 1.5
"""Seconds of a processor that it may take for that; one that spins takes all there are."""
DIALOGS = ("", "", "question_mark", "l", "u", "e", "w", "slash")
"""Keys before the line drops: whatever stands there must not keep the screen from ending."""
ROWS, COLUMNS = slice(2, 18), slice(7, 59)
"""Where the loss is drawn."""

Loss = Callable[[Line, int], None]
"""What happens to a screen on a line, by its pid."""


class Rounds:
    """One training in one engine, and the screens that come to it and lose their line, in turns.

    `wrong` says what went wrong, a line each time.
    """

    def __init__(self, workspace: Workspace, planned: int) -> None:
        self.workspace = workspace
        self.planned = planned
        self.seed = random.randrange(10**6)
        self.chance = random.Random(self.seed)
        self.reached = -1
        self.columns = 0
        self.took: list[float] = []
        self.busy: list[float] = []
        self.wrong: list[str] = []
        if self.ask().state["training"] is not None:
            self.ask(Stop(keep=False))
        self.ask(SetTraining(spec=TrainSpec(epochs=planned, device="cpu")), SetPace(pace=PACE))
        pid = workspace.engine_pid()
        assert pid is not None
        self.engine = pid

    def ask(self, *commands: Command, see: Callable[[Watcher], object] = lambda told: True) -> Watcher:
        """What a client that comes, asks for something and goes again has been told."""
        return ask(self.workspace, *commands, see=see)

    @contextlib.contextmanager
    def noted(self, at: int) -> Iterator[None]:
        """What fails in here is told with the number of the round, and the next one comes."""
        try:
            yield
        except AssertionError as error:
            self.wrong.append(f"round {at}: {error}")

    def screens(self) -> list[int]:
        """The processes of the workspace beside its engine."""
        return [pid for pid in processes_of(self.workspace.path) if pid != self.engine]

    def open(self, line: Line, *, hangups_ignored: bool = False) -> int:
        """Start the program on a line; its pid."""
        run(line, [PROGRAM, "--workspace", self.workspace.path], hangups_ignored=hangups_ignored)
        until(line, lambda _: self.screens())
        (pid,) = self.screens()
        return pid

    def train(self, line: Line) -> None:
        """See what there is, history and all; begin it by its keys, or have it pause and go on where it runs."""
        until(line, ready)
        if self.reached < 0:
            press(line, "3")
            until(line, lambda screen: SCREENS["3"] in screen)
        else:
            screen = until(line, lambda screen: epoch(screen) >= self.reached and "running" in screen and drawn(screen))
            self.columns = drawn(screen)
            wanted = (COLUMNS.stop - COLUMNS.start) * self.reached // self.planned
            assert self.columns >= wanted, f"{wanted} columns of history should stand there:\n{screen}"
            press(line, "space")
            self.reached = epoch(until(line, lambda screen: "paused." in screen))
        press(line, "space")
        screen = until(line, lambda screen: epoch(screen) > self.reached and "paused." not in screen)
        self.reached = epoch(screen)

    def end(self, line: Line, pid: int, loss: Loss) -> None:
        """Have a screen lose what it stands on, and see it go and the training go on."""
        before = busy(pid)
        assert before is not None, f"it had ended before:\n{line.screen}"
        loss(line, pid)
        begun, last = time.monotonic(), before
        while (now := busy(pid)) is not None and time.monotonic() - begun <= GONE_WITHIN:
            last = now
            time.sleep(0.01)
        self.took.append(time.monotonic() - begun)
        self.busy.append(last - before)
        if now is not None:
            os.kill(pid, signal.SIGKILL)
        assert now is None, f"it stayed, and took {last - before:.2f} s of a processor"
        assert last - before <= BUSY, f"it took {last - before:.2f} s of a processor to end"

    def goes_on(self) -> None:
        """Nobody looks, and the training goes on as if somebody did."""
        told = self.ask(see=lambda told: told.training.epoch > self.reached or told.training.state != "running")
        assert told.training.state == "running", told.training.state
        assert told.history.epochs == told.training.epoch, "and its history is whole"
        self.reached = told.training.epoch

    def told(self, what: str, count: int) -> None:
        """The line for the table; then see that nothing was lost, and that nothing else is left."""
        more = f"gone within {max(self.took):.2f} s, at most {1000 * max(self.busy):.0f} ms of a processor for it"
        tell(f"{what} (seed {self.seed})", count, len(self.wrong), more)
        assert not self.wrong, "\n".join([f"seed {self.seed}", *self.wrong])
        assert set(processes_of(self.workspace.path)) == {self.engine}
        assert self.workspace.engine_pid() == self.engine
        assert self.workspace.lock() is None, "the engine holds it"
        assert sockets.answers(self.workspace.socket)
        log = self.workspace.path / "ui.log"
        assert not log.exists(), log.read_text()
        assert "Traceback" not in self.workspace.log.read_text()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for all of them, with one engine."""
    own = Workspace.open(tmp_path_factory.mktemp("workspace"))
    yield own
    end_engine(own)


def busy(pid: int) -> float | None:
    """The seconds of a processor that a process has had; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drawn(screen: str) -> int:
    """In how many columns of the chart of the loss something is drawn."""
    rows = [line[COLUMNS].ljust(COLUMNS.stop) for line in screen.split("\n")[ROWS]]
    return sum(
        any("\u2801" <= sign <= "\u28ff" or sign in "●▲" for sign in column) for column in zip(*rows, strict=True)
    )


def lose_line(line: Line, pid: int) -> None:
    """The link drops, or tmux ends."""
    line.drop()


def terminate(line: Line, pid: int) -> None:
    """Somebody ends it."""
    os.kill(pid, signal.SIGTERM)


def kill(line: Line, pid: int) -> None:
    """It has no time for anything."""
    os.kill(pid, signal.SIGKILL)


@sizes(4, 100)
def test_dropped_links_cost_nothing(count: int, workspace: Workspace) -> None:
    """100 screens that lose their line: bash and tmux, SIGHUP as usual and ignored, 25 of each."""
    needs_proc()
    needs_tmux()
    rounds = Rounds(workspace, planned=1000 * count + 4000)
    for at in range(count):
        inside = tmux_line(KILLS[at // 4 % len(KILLS)]) if at % 4 > 1 else pty_line()
        with rounds.noted(at), inside as line:
            pid = rounds.open(line, hangups_ignored=at % 2 == 1)
            rounds.train(line)
            press(line, *filter(None, [rounds.chance.choice(DIALOGS)]))
            time.sleep(rounds.chance.uniform(0, 0.3))
            rounds.end(line, pid, lose_line)
            rounds.goes_on()
    rounds.told("links dropped: bash and tmux, SIGHUP on and off", count)


@sizes(1, 40)
def test_lines_lost_while_the_screen_starts_cost_nothing(count: int, workspace: Workspace) -> None:
    """40 lines that drop at a random moment of the start, SIGHUP as usual and ignored."""
    needs_proc()
    rounds = Rounds(workspace, planned=1000 * count + 4000)
    rounds.ask(Run())
    for at in range(count):
        with rounds.noted(at), pty_line() as line:
            pid = rounds.open(line, hangups_ignored=at % 2 == 1)
            time.sleep(rounds.chance.uniform(0, 1.5))
            rounds.end(line, pid, lose_line)
            rounds.goes_on()
    rounds.told("links dropped while the screen starts", count)


@sizes(1, 20)
def test_killed_screens_cost_nothing(count: int, workspace: Workspace) -> None:
    """20 screens that are told to end or are killed."""
    needs_proc()
    rounds = Rounds(workspace, planned=1000 * count + 4000)
    for at in range(count):
        with rounds.noted(at), pty_line() as line:
            pid = rounds.open(line)
            rounds.train(line)
            rounds.end(line, pid, terminate if at % 2 else kill)
            rounds.goes_on()
    rounds.told("screens ended by SIGTERM and kill -9", count)


@sizes(1, 20)
def test_tmux_keeps_the_screen_of_a_client_that_was_lost(count: int, workspace: Workspace) -> None:
    """20 clients of one tmux that lose their line: the screen in it stays, as quiet as before."""
    needs_proc()
    needs_tmux()
    rounds = Rounds(workspace, planned=1000 * count + 4000)
    with tmux_line() as inside:
        pid = rounds.open(inside)
        rounds.train(inside)
        for at in range(count):
            with rounds.noted(at), pty_line(["tmux", "-L", inside.name, "attach"]) as client:
                until(client, lambda screen: epoch(screen) > rounds.reached)
                client.drop()
                client.shell.wait(5)
                rounds.goes_on()
                until(inside, lambda screen: epoch(screen) >= rounds.reached)
                assert rounds.screens() == [pid]
        rounds.end(inside, pid, lose_line)
    rounds.told("clients of tmux lost, one screen", count)
