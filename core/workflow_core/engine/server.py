"""The engine's socket: who is attached, what they are told, and when the engine ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable

from msgspec.structs import replace

from workflow_core import sockets
from workflow_core.engine.board import Board
from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.keeper import INTERVAL, Keeper
from workflow_core.engine.library import KEPT, Library
from workflow_core.engine.news import News
from workflow_core.engine.peer import Peer
from workflow_core.engine.worker import Worker
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    Answer,
    Ending,
    EngineView,
    Epochs,
    ExportRun,
    Extend,
    NextLine,
    Notice,
    Pause,
    Request,
    Run,
    Save,
    Shutdown,
    StartRace,
    Update,
)
from workflow_core.store import Store
from workflow_core.workspace import Workspace

GRACE = 0.9
"""Seconds an ending engine gives to the epoch or the command under way."""
BATCH_GRACE = 25.0
"""Seconds it gives instead where a training is under way, whose batch may be slow: who ends containers waits for 30."""
KEEP_GRACE = 8.0
"""Seconds an ending engine gives to the last checkpoint: that of a race of large models may take a while."""
STORE_GRACE = 0.2
"""Seconds an ending engine gives to the disk for all else."""
RUNS_INTERVAL = 1.0
"""Seconds between two lists of runs while nothing but their epochs changes."""
FLUSH_GRACE = 0.2
"""Seconds an ending engine gives to UIs that do not read."""
BEGINS = (Run, Extend, NextLine)
"""What goes on with a run that is there, or begins another one."""
UNSAVED_TIMEOUT = 24 * 3600.0
"""Seconds an engine that nobody looks at keeps a training that is not saved."""

log = logging.getLogger(__name__)


class Server:
    """One engine on one workspace. Everything here belongs to the event loop's thread but `_post`.

    `on_wait` is called as it ends, with the seconds that it begins to wait for at most.
    """

    def __init__(
        self,
        workspace: Workspace,
        idle_timeout: float,
        *,
        interval: float = INTERVAL,
        crashed: bool = False,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._workspace = workspace
        self._idle_timeout = idle_timeout
        self._peers: dict[Peer, asyncio.Task[None] | None] = {}
        self._inbox = Inbox()
        self._asked: list[tuple[Peer, Request]] = []
        self._busy_at = time.monotonic()
        self._gone_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[str] = self._loop.create_future()
        self._listener: asyncio.Server | None = None
        self._inode = 0
        self._on_wait = on_wait
        self._wait = 0.0
        self._keeping: set[asyncio.Task[None]] = set()
        self._problems: list[Problem] = []
        self._news = News(workspace)
        self._troubles: dict[str, Problem] = {}
        self._store = self._open_store()
        view = EngineView(pid=os.getpid(), log=str(workspace.log), keeps=self._store is not None)
        self._board = Board(view)
        self._runs_at = 0.0
        self._runs_due: asyncio.TimerHandle | None = None
        self._library = Library(
            self._store, workspace.checkpoints, functools.partial(self._post, self._runs_have_changed)
        )
        # without its record no run comes back, and its number may be that of another one: what was kept stays
        self._keeper = (
            Keeper(
                workspace.kept_run,
                functools.partial(self._recorded, self._store),
                functools.partial(self._post, self._trouble, "checkpoint"),
                interval,
            )
            if self._store is not None
            else None
        )
        self._worker = Worker(
            self._inbox,
            view,
            functools.partial(self._post, self._publish),
            workspace.checkpoints,
            self._library,
            self._keeper,
            functools.partial(self._post, self._tell_soon),
            crashed=crashed,
        )

    def _open_store(self) -> Store | None:
        """The workspace's store; where it cannot be used, whoever attaches is told, and training goes on without."""
        try:
            return Store(self._workspace.store, functools.partial(self._post, self._trouble, "record"))
        except WorkflowError as error:
            log.warning("no store: %s", error)
            self._problems.append(error.problem)
            return None
        except (sqlite3.Error, OSError) as error:
            log.warning("no store: %s", error)
            broken = getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT")
            mend = "Mend or remove the file" if broken else "Make room on the disk, or see to it"
            self._problems.append(
                Problem(
                    title="Epochs will not be recorded",
                    message=f"{self._workspace.store} cannot be used: {error}. "
                    "Trainings run all the same, and are gone with the engine.",
                    advice=f"{mend}, and start the engine again.",
                )
            )
            return None

    def _recorded(self, store: Store, seconds: float) -> bool:
        """See that all epochs are on disk. Raises WorkflowError where the workspace, by now, may be that of another."""
        if not self._workspace.held():
            message = f"{self._workspace.path} was removed, or another folder has taken its place."
            raise WorkflowError("Not kept", message, "Put it back.")
        return store.flush(seconds)

    def _tell_soon(self, problem: Problem) -> None:
        """Tell those that are there, and where none of them has a screen to show it on, the first one that has."""
        if all(peer.quiet for peer in self._attached()):
            self._news.add(problem)
        self._tell(problem)

    def _trouble(self, what: str, problem: Problem | None) -> None:
        """Tell those that are there, and those that come, until it is over (None)."""
        if problem is not None:
            self._troubles[what] = problem
            self._tell(problem)
        elif self._troubles.pop(what, None) is None:
            return
        self._publish(Update(engine=self._board.engine))

    def _tell(self, problem: Problem) -> None:
        for peer in self._attached():
            peer.note(Notice(problem=problem))

    @property
    def patience(self) -> float:
        """Seconds that it may take to end from now on, beside the second that is usual."""
        return max(self._wait, BATCH_GRACE if self._going else 0.0)

    async def serve(self) -> bool:
        """Serve until `end` is called or there has been nothing to do for long. Raises OSError without a socket.

        False where the batch under way did not come to its end then, so that what was trained last is lost.
        """
        await self._listen()
        self._worker.start()
        if self._store is not None:
            self._library.open()
        keeper = asyncio.create_task(self._keep())
        try:
            reason = await self._ending
            log.info("ending: %s", reason)
            return await self._farewell(reason)
        finally:
            keeper.cancel()

    def end(self, reason: str) -> None:
        """End the engine after the batch under way."""
        if not self._ending.done():
            self._ending.set_result(reason)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back in the event loop's thread; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the engine has ended
            self._loop.call_soon_threadsafe(callback, *arguments)

    # the socket

    async def _listen(self) -> None:
        if self._listener is not None:
            self._listener.close()
        server = sockets.listen(self._workspace.socket)
        self._inode = self._workspace.socket.stat().st_ino
        self._listener = await asyncio.start_unix_server(self._welcome, sock=server)

    async def _keep(self) -> None:
        """Once a second: make a socket that vanished anew, and end an engine that nobody has needed for long."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_timeout / 4))
            held = self._workspace.held()
            if held and not self._reachable():
                with contextlib.suppress(OSError):
                    await self._listen()
                    log.info("made the socket anew")
            self._end_if_removed(held)
            self._end_if_idle()

    def _reachable(self) -> bool:
        try:
            return self._workspace.socket.stat().st_ino == self._inode
        except FileNotFoundError:
            return False
        except OSError:  # the disk cannot tell now: the socket that is there stays
            return True

    def _end_if_removed(self, held: bool) -> None:
        """An engine whose folder is gone waits until it is put back, but not for ever: nobody can come to it."""
        now = time.monotonic()
        if held:
            if self._gone_at is not None:
                log.info("its workspace is back")
            self._gone_at = None
            return
        if self._gone_at is None:
            log.warning("its workspace is gone, or another folder has taken its place")
            self._gone_at = now
        if self._attached() or self._asked:
            self._gone_at = now
        elif now - self._gone_at > self._idle_timeout:
            # not even for a training: what it learns could be seen and saved by nobody
            self.end("its workspace was removed, and nobody can reach it any more")

    def _end_if_idle(self) -> None:
        now = time.monotonic()
        attached = self._attached()
        if self._asked or self._training or not all(peer.quiet for peer in attached):
            self._busy_at = now
        if attached:
            return
        limit = max(UNSAVED_TIMEOUT, self._idle_timeout) if self._worker.unsaved else self._idle_timeout
        if now - self._busy_at > limit:
            self.end("nobody was attached and there was nothing to do")

    # peers

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, self._board)
        self._peers[peer] = asyncio.current_task()
        try:
            await peer.talk(functools.partial(self._attach, peer), functools.partial(self._request, peer))
        finally:
            del self._peers[peer]
            if not peer.quiet:  # to ask how it stands, again and again, is no use of it
                self._busy_at = time.monotonic()

    def _attach(self, peer: Peer) -> None:
        log.info("%s attached", peer.name)
        for problem in (*self._problems, *self._troubles.values(), *self._news):
            peer.note(Notice(problem=problem))
        if not peer.quiet:
            self._news.told()

    def _attached(self) -> list[Peer]:
        return [peer for peer in self._peers if peer.attached]

    def _publish(self, event: Update | Epochs) -> None:
        if isinstance(event, Update) and isinstance(event.engine, EngineView):
            event = replace(event, engine=replace(event.engine, keeps=self._store is not None and not self._troubles))
        self._board.fold(event)
        for peer in self._attached():
            peer.events.note(event)
            peer.wake()

    def _request(self, peer: Peer, request: Request) -> None:
        if isinstance(request.command, Shutdown) and request.command.if_kept:
            keeping = asyncio.create_task(self._end_if_kept(peer, request, request.command))
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)
            return
        if isinstance(request.command, Shutdown):
            self._end_for(peer, request, request.command)
            return
        self._asked.append((peer, request))
        if isinstance(request.command, BEGINS):
            self._news.gone_on()
        reply = functools.partial(self._post, self._answer, peer, request)
        if isinstance(request.command, KEPT):
            self._library.submit(request.command, self._held(), reply)
        else:
            self._inbox.put(Job(request.command, reply))

    async def _end_if_kept(self, peer: Peer, request: Request, command: Shutdown) -> None:
        if self._board.engine.state == "ready":  # once it stands still, which was told before it was put to be kept
            stands = asyncio.Event()
            self._inbox.put(Job(Pause(), lambda problem, value: self._post(stands.set)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stands.wait(), KEEP_GRACE)
        if self._keeper is not None:
            await self._loop.run_in_executor(None, self._keeper.flush, KEEP_GRACE)
        self._end_for(peer, request, command)

    def _end_for(self, peer: Peer, request: Request, command: Shutdown) -> None:
        lost = command.if_kept and self._worker.unsaved
        ends = not lost and (not command.if_idle or self._idle_but_for(peer))
        peer.answer(request.id, None, Ending(ends=ends))
        if ends:
            log.info("%s asks it to end", peer.name)
            self.end(_asker(peer, command))

    def _held(self) -> dict[int, str]:
        """The runs that are needed as they are, and what for."""
        held: dict[int, str] = {}
        if self._board.engine.state == "loading":
            held |= dict.fromkeys(self._library.left, "it may be about to come back")
        if (race := self._board.race) is not None:
            held |= {lane.run: "it is a lane of the race that is there" for lane in race.lanes}
        if (training := self._board.training) is not None:
            held[training.run] = "it is the run that is there"
        return held

    def _runs_have_changed(self, at_once: bool) -> None:
        """Tell of the runs now, or where one has merely gone on, once a second."""
        if at_once:
            self._publish_runs()
        elif self._runs_due is None:
            self._runs_due = self._loop.call_at(self._runs_at + RUNS_INTERVAL, self._publish_runs)

    def _publish_runs(self) -> None:
        if self._runs_due is not None:
            self._runs_due.cancel()
        self._runs_at, self._runs_due = self._loop.time(), None
        self._publish(Update(runs=self._library.listing()))

    def _answer(self, peer: Peer, request: Request, problem: Problem | None, value: Answer) -> None:
        self._asked = [(other, each) for other, each in self._asked if each is not request]
        self._busy_at = time.monotonic()
        peer.answer(request.id, problem, value)

    @property
    def _training(self) -> bool:
        """Is a training or a race running, or asked for and not begun?"""
        asked = any(isinstance(request.command, Run | Extend | StartRace) for _, request in self._asked)
        return asked or self._running

    @property
    def _running(self) -> bool:
        there = self._board.training, self._board.race
        return any(each is not None and each.state == "running" for each in there)

    @property
    def _going(self) -> bool:
        """Is more trained by now, or about to be, than was given to be kept?"""
        stepping = any(isinstance(request.command, NextLine) for _, request in self._asked)
        return self._running or stepping or (self._keeper is not None and self._keeper.making)

    def _idle_but_for(self, peer: Peer) -> bool:
        return not (self._training or self._news) and all(other is peer for other in self._attached())

    def _refuse_unanswered(self) -> None:
        """Nobody waits for an answer that will not come, or takes a save for done that may not be."""
        for peer, request in list(self._asked):
            if isinstance(request.command, Save | ExportRun):
                message = "the engine ended before the file was known to be written; if it is there, it is whole."
                problem = Problem(title="Perhaps not saved", message=message, advice="Look whether the file is there.")
            else:
                problem = Problem(title="Not done", message="the engine ended before this was done.")
            self._answer(peer, request, problem, None)

    async def _farewell(self, reason: str) -> bool:
        if self._listener is not None:
            self._listener.close()
        going = self._going
        self._inbox.close()
        self._library.close()
        in_time = await self._last_batch(reason, going)
        if self._keeper is not None:
            if not self._worker.is_alive():  # and has put the last one
                self._allow(KEEP_GRACE)
            await self._loop.run_in_executor(None, self._keeper.close, KEEP_GRACE)  # which waits for the store
            if "checkpoint" not in self._troubles and not (self._keeper.kept and in_time):
                why = "the disk hangs" if in_time else "the batch under way did not end"
                log.warning("the last checkpoint is not written: %s", why)
                self._troubles["checkpoint"] = Problem(title="Not kept", message=f"{why}.")
                self._publish(Update(engine=self._board.engine))
        if self._store is not None:
            await self._loop.run_in_executor(None, self._store.close, STORE_GRACE)
        await self._loop.run_in_executor(None, self._news.close, STORE_GRACE)
        self._refuse_unanswered()
        lost = "" if in_time else ", and what was trained since the last checkpoint is lost: the batch was too slow"
        problem = Problem(title="The engine has ended", message=f"the engine has ended: {reason}{lost}.")
        notice = Notice(problem=problem, last=True)
        peers = self._attached()
        for peer in peers:
            peer.note(notice)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_GRACE):
                await asyncio.gather(*(peer.flushed() for peer in peers))
        for peer in self._peers:
            peer.drop()
        if talks := [task for task in self._peers.values() if task is not None]:
            await asyncio.wait(talks, timeout=FLUSH_GRACE)
        return in_time

    async def _last_batch(self, reason: str, going: bool) -> bool:
        """Give the worker its time; False where a training was `going` and did not come to the end of its batch."""
        if self._board.engine.state != "ready":
            return True
        if going:
            self._allow(BATCH_GRACE)
        await self._join(GRACE)
        going = going or self._going
        if not (going and self._worker.is_alive()):
            return True
        self._allow(BATCH_GRACE)
        log.info("waiting for the batch under way")
        message = f"the engine ends: {reason}. It waits for the batch under way, up to {BATCH_GRACE:g} seconds."
        self._tell(Problem(title="The engine is ending", message=message))
        await self._join(BATCH_GRACE - GRACE)
        if not self._worker.is_alive():
            return True
        log.warning(
            "the batch under way did not end within %g s: what came after the last checkpoint is lost", BATCH_GRACE
        )
        return False

    async def _join(self, seconds: float) -> None:
        await self._loop.run_in_executor(None, self._worker.join, max(seconds, 0.0))

    def _allow(self, seconds: float) -> None:
        self._wait = seconds
        self._on_wait(seconds)


def _asker(peer: Peer, command: Shutdown) -> str:
    if not peer.quiet:
        return "a screen asked for it"
    if command.if_idle:
        return "nothing came of the `workflow-tui resume` or `train --detach` that it was started for"
    return "`workflow-tui stop` asked for it"
