"""The one thread that touches torch: it loads it, carries out the commands in turn, and trains in between."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.keeper import Keeper
from workflow_core.engine.library import Library
from workflow_core.engine.slow import Slow
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import Answer, EngineView, Epochs, RunView, Update

if TYPE_CHECKING:
    from workflow_core.engine.session import Session

log = logging.getLogger(__name__)

TRIES = 3
"""Times that a run is brought back by engines which do not live through it: the workspace must open all the same."""
SETTLE = 0.5
"""Seconds without a command after which what lines and settings have changed is kept, where nothing is under way."""
SLICE = 0.01
"""Seconds that a slow command and the training take in turns."""


class _Failed(NamedTuple):
    """Why a command was not carried out."""

    problem: Problem


class Worker(threading.Thread):
    """Carries out what comes through `inbox` until that is closed; `publish` is called from this thread.

    A command that goes wrong is answered, and the thread lives on. Where torch cannot be loaded the engine's state
    becomes `failed` and every command is answered with that. The run that `keeper` has of an earlier engine is there
    again; `tell` gets a Problem where it cannot be, and where that engine had `crashed`.
    """

    def __init__(
        self,
        inbox: Inbox,
        view: EngineView,
        publish: Callable[[Update | Epochs], None],
        files: Path,
        library: Library,
        keeper: Keeper | None = None,
        tell: Callable[[Problem], None] = lambda problem: None,
        *,
        crashed: bool = False,
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self.session: Session | None = None
        self._inbox = inbox
        self._view = view
        self._publish = publish
        self._files = files
        self._library = library
        self._keeper = keeper
        self._tell = tell
        self._crashed = crashed
        self._slow: list[tuple[Job, Slow]] = []
        self._faults: Callable[[str], contextlib.AbstractContextManager[None]]

    @property
    def unsaved(self) -> bool:
        """Would epochs of training be gone if the engine ended now?"""
        return self.session is not None and self.session.unsaved

    def run(self) -> None:
        """The thread: load torch, then work."""
        try:
            self._load()
        except BaseException as error:  # whatever a broken installation raises, the engine must be able to say so
            log.exception("torch cannot be loaded")
            problem = Problem(
                title="PyTorch cannot be loaded",
                message=f"importing torch failed with {type(error).__name__}: {str(error)[:500]}.",
                advice=f"Mend the installation; the whole story is in {self._view.log}.",
            )
            self._publish(Update(engine=replace(self._view, state="failed", problem=problem)))
            self._refuse_all(problem)
            return
        while not self._inbox.closed:
            session = self.session
            assert session is not None
            still = not (session.running or self._slow)
            if still and session.unsettled:
                self._settle(session)
            if (job := self._inbox.get(block=still)) is not None:
                self._begin(session, job)
                continue
            if self._slow:
                self._work_slowly()
            if session.running:
                self._advance(session)
        if self.session is not None:
            self._close(self.session)

    def _load(self) -> None:
        begun = time.monotonic()
        module = importlib.import_module("workflow_core.engine.session")
        self._faults = importlib.import_module("workflow_core.engine.faults").mended
        self.session = module.Session(self._publish, self._files, self._library, self._keeper)
        self._restore(self.session)
        view = module.describe(self._view)
        self._publish(Update(engine=replace(view, load_seconds=time.monotonic() - begun)))
        log.info("torch %s loaded in %.1f s", view.torch_version, time.monotonic() - begun)
        # in a thread of its own: the first commands need not wait for what only the first run needs
        threading.Thread(target=module.warm_up, name="warm-up", daemon=True).start()

    def _restore(self, session: Session) -> None:
        """Bring back what an earlier engine has kept."""
        if self._keeper is None:
            return
        checkpoint = importlib.import_module("workflow_core.engine.checkpoint")
        tried = self._keeper.path.with_suffix(".tried")
        try:
            found = checkpoint.read(self._keeper.path) if _tries(tried) < TRIES else None
            if found is None and self._keeper.path.exists():
                raise WorkflowError(
                    "What was kept was not brought back",
                    f"the engine did not live through it {TRIES} times.",
                    "Start again to try once more, before anything else is trained.",
                )
            run, race, problems, changes = None, None, list[Problem](), list[Problem]()
            if found is not None:
                with self._faults("the last run"):
                    run, race, problems = session.restore(found)
                    changes = checkpoint.changes(found, run, race)
                if problems:
                    problems = self._set_aside(self._keeper, *problems)
            if self._crashed and (run or race or not problems):
                problems = [*checkpoint.crash(run, race, self._killed(), self._recorded), *problems]
            for problem in (*problems, *changes):
                self._tell(problem)
        except WorkflowError as error:
            self._tell(*self._set_aside(self._keeper, error.problem))
        except Exception as error:
            log.exception("the last run cannot be brought back")
            self._tell(*self._set_aside(self._keeper, self._fault(error)))
        finally:
            with contextlib.suppress(OSError):
                tried.unlink(missing_ok=True)

    def _set_aside(self, keeper: Keeper, *problems: Problem) -> list[Problem]:
        """What is kept from now on is without that which did not come back: it stays beside, and they say where."""
        if (aside := keeper.set_aside()) is None:
            return list(problems)
        stays = f"What was kept stays in {aside}."
        return [replace(each, advice=" ".join(filter(None, (each.advice, stays)))) for each in problems]

    def _killed(self) -> list[RunView]:
        """The runs that were training when the engine before was killed."""
        found = []
        for run in self._library.killed:
            with contextlib.suppress(WorkflowError):
                found.append(self._library.find(run))
        return found

    def _recorded(self, run: int) -> int:
        """Epochs of a run that are on record."""
        with contextlib.suppress(WorkflowError):  # none of them may have come to the disk
            return self._library.find(run).epochs
        return 0

    def _settle(self, session: Session) -> None:
        """Keep what has changed, unless there is more to come: each line of the loop copies the state of no model."""
        self._inbox.wait(SETTLE)
        if not self._inbox.waiting:
            self._kept(session.settle)

    def _close(self, session: Session) -> None:
        self._kept(session.close)

    def _kept(self, keep: Callable[[], None]) -> None:
        try:
            keep()
        except Exception:
            log.exception("the run cannot be kept")

    def _begin(self, session: Session, job: Job) -> None:
        """Carry out a command and reply, or put it among the slow ones."""
        result = self._try(job, lambda: session.handle(job.command))
        if isinstance(result, _Failed):
            job.reply(result.problem, None)
        elif isinstance(result, Answer):
            job.reply(None, result)
        else:
            self._slow.append((job, result))

    def _work_slowly(self) -> None:
        """A slice of the slow command whose turn it is."""
        job, slow = self._slow[0]
        until = time.monotonic() + SLICE

        def work() -> Answer | Slow:
            with self._faults(type(job.command).__name__):
                return slow.answer() if slow.advance(until) else slow

        result = self._try(job, work)
        del self._slow[0]
        if result is slow:
            self._slow.append((job, slow))  # the next one has its turn: a large map must not keep a glance waiting
            return
        if isinstance(result, _Failed):
            job.reply(result.problem, None)
        else:
            assert isinstance(result, Answer)
            job.reply(None, result)

    def _try(self, job: Job, work: Callable[[], Answer | Slow]) -> Answer | Slow | _Failed:
        try:
            return work()
        except WorkflowError as error:
            return _Failed(error.problem)
        except Exception as error:
            log.exception("%s failed", type(job.command).__name__)
            return _Failed(self._fault(error))

    def _advance(self, session: Session) -> None:
        until = time.monotonic() + SLICE if self._slow else math.inf
        try:
            session.advance(self._inbox, until)
        except Exception:
            # the runner ends a run that fails; what comes here is our own mistake, and must not repeat for ever
            log.exception("training failed")
            session.abandon()

    def _refuse_all(self, problem: Problem) -> None:
        while (job := self._inbox.get(block=True)) is not None:
            job.reply(problem, None)

    def _fault(self, error: Exception) -> Problem:
        return Problem(
            title="The engine hit a fault of its own",
            message=f"it could not do this ({type(error).__name__}); nothing else is affected.",
            advice=f"What happened is in {self._view.log}.",
        )


def _tries(path: Path) -> int:
    """How many engines have begun what this one begins, and have not come to its end; this one counts from now on."""
    tries = 0
    with contextlib.suppress(OSError, ValueError):
        tries = int(path.read_text(encoding="ascii"))
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii", opener=_private) as file:
        file.write(str(tries + 1))
    return tries


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
