"""The runs of the workspace: how each is kept while it trains, and what is asked of them, in threads of their own.

Nothing here touches torch or waits for it: a training of ten million epochs is read, named or exported while it goes
on, and no command to it waits meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec.structs import replace

from workflow_core import atomic
from workflow_core.engine.exporter import Exporter
from workflow_core.engine.files import absolute
from workflow_core.engine.record import Record
from workflow_core.errors import Problem, WorkflowError
from workflow_core.history import CAP, MAX_BUCKETS, HistoryData
from workflow_core.protocol import (
    Answer,
    Command,
    DeleteRuns,
    EditRun,
    ExportRun,
    ReadSeries,
    RunView,
    SeriesAnswer,
)
from workflow_core.sanitize import sanitize
from workflow_core.specs import DataSpec, ModelSpec
from workflow_core.store import NoSuchSeries, Store
from workflow_core.store.schema import no_run

KEPT = (ReadSeries, EditRun, DeleteRuns, ExportRun)
"""What the library answers."""
LISTED = 200
"""Runs that are listed beside the pinned ones."""
MAX_PINNED = 200
MAX_NAME = 100
"""Characters of a run's name."""
MAX_LIST = 4 * 1024 * 1024
"""Bytes of the list: it must fit into one frame with everything else that a UI is told at first."""
PATIENCE = 5.0
"""Seconds to wait for the disk before saying that it does not take what was asked."""

log = logging.getLogger(__name__)


class Library:
    """The runs by their numbers; for any thread. Without a store they are numbered from 1, and known while it lives.

    Relative names of files mean `files`. `changed` is called when `listing` gives something else: with True where that
    should be shown at once, with False where a run has merely gone on (once until the next call of `listing`).
    """

    def __init__(
        self,
        store: Store | None = None,
        files: Path = Path(),
        changed: Callable[[bool], None] = lambda at_once: None,
    ) -> None:
        self._store = store
        self._files = files
        self._changed = changed
        self._lock = threading.Lock()
        self._views: dict[int, RunView] = {}
        # of which the disk may not know yet
        self._forgotten: set[int] = set()
        self._there = (-1, -1)
        self._stale = False
        self._numbers = {"run": itertools.count(1), "race": itertools.count(1)}
        # in order, so that what is asked of a run after its name was changed shows the name
        self._clerk = ThreadPoolExecutor(1, "library")
        self._exporters = ThreadPoolExecutor(2, "export")
        self._exporting: list[int] = []
        self._exporter = Exporter()

    # --- for whoever trains ------------------------------------------------------------------------

    def number(self) -> int:
        """The number of a new run: none of this workspace has had it, or will have it again."""
        return self._store.number() if self._store is not None else next(self._numbers["run"])

    def race_number(self) -> int:
        """The number of a new race, likewise."""
        return self._store.number("race") if self._store is not None else next(self._numbers["race"])

    def there(self, run: int, race: int) -> None:
        """Note which run and which race an engine to come will find; 0 for none."""
        if self._store is not None and self._there != (run, race):
            self._there = run, race
            self._store.there(run, race)

    def record(self, number: int, data: DataSpec, model: ModelSpec, race: int = 0) -> Record:
        """What a run of these settings is kept by."""
        return Record(self, self._store, number, data, model, race)

    @property
    def killed(self) -> tuple[int, ...]:
        """The runs that were training when the engine before was killed."""
        return self._store.killed if self._store is not None else ()

    @property
    def left(self) -> frozenset[int]:
        """The runs that the engine before has left to come back."""
        return self._store.left if self._store is not None else frozenset()

    def history(self, run: int, epochs: int) -> HistoryData | None:
        """The first `epochs` of a run as a `History` holds them; None where there is no store.

        Raises WorkflowError where there is no such run, or it cannot be read.
        """
        if self._store is None:
            return None
        with _reading(self._store, run):
            return self._store.history(run, epochs)

    def figures(self, run: int, start: int, stop: int) -> dict[str, array[float]] | None:
        """Every figure of the epochs `start` to `stop` (exclusive) by series; None where there is no store.

        Raises WorkflowError where there is no such run, or it cannot be read.
        """
        if self._store is None:
            return None
        with _reading(self._store, run):
            return self._store.read(run, start, stop)

    def find(self, run: int) -> RunView:
        """A run by its number. Raises WorkflowError where there is none, or it cannot be read."""
        with self._lock:
            view = self._views.get(run)
        if view is not None:
            return view
        if self._store is None:
            raise no_run(run)
        with _reading(self._store, run):
            return self._store.find(run)

    def put(self, view: RunView) -> None:
        """How a run stands; its name and pin stay as they are."""
        with self._lock:
            old = self._views.get(view.run)
            if old is not None:
                view = replace(view, name=old.name, pinned=old.pinned)
            self._views[view.run] = view
            at_once = old is None or old.state != view.state
            told, self._stale = self._stale, True
        if at_once or not told:
            self._changed(at_once)

    def forget(self, runs: Sequence[int]) -> None:
        """Let runs and their records go."""
        with self._lock:
            self._forgotten.update(runs)
            for run in runs:
                self._views.pop(run, None)
        if self._store is not None:
            for run in runs:
                self._store.delete(run)
        self._changed(True)

    # --- for whoever shows them ----------------------------------------------------------------------

    def listing(self) -> tuple[RunView, ...]:
        """The pinned runs and the newest others, newest first."""
        with self._lock:
            self._stale = False
            views = sorted(self._views.values(), key=lambda view: -view.run)
            others = {view.run for view in [view for view in views if not view.pinned][:LISTED]}
            self._views = {view.run: view for view in views if view.pinned or view.run in others}
            views = list(self._views.values())
        room = itertools.accumulate(len(msgspec.msgpack.encode(view)) for view in views)
        return tuple(view for view, size in zip(views, room, strict=True) if size <= MAX_LIST)

    def open(self) -> None:
        """Look for the runs that earlier engines have left; `changed` is called when they are there."""
        self._clerk.submit(self._look)

    def _look(self) -> None:
        assert self._store is not None
        try:
            found = self._store.runs(LISTED)
        except sqlite3.Error as error:
            log.warning("the runs cannot be listed: %s", error)
            return
        if found:
            with self._lock:
                there = {view.run: view for view in found if view.run not in self._forgotten}
                self._views = there | self._views
            self._changed(True)

    def submit(
        self, command: Command, held: Mapping[int, str], reply: Callable[[Problem | None, Answer], None]
    ) -> None:
        """Carry out one of `KEPT` in its turn; `reply` is called from another thread.

        `held` are runs that cannot be deleted now, with the reason in a clause.
        """
        pool = self._clerk
        if isinstance(command, ExportRun):
            self._exporting.append(command.run)
            pool = self._exporters
        with contextlib.suppress(RuntimeError):  # it is closed, and nobody is answered any more
            pool.submit(self._carry_out, command, held, reply)

    def close(self) -> None:
        """Begin nothing any more, and break off what is being exported."""
        for pool in (self._clerk, self._exporters):
            pool.shutdown(wait=False, cancel_futures=True)
        self._exporter.close()

    def _carry_out(
        self, command: Command, held: Mapping[int, str], reply: Callable[[Problem | None, Answer], None]
    ) -> None:
        problem: Problem | None = None
        value: Answer = None
        try:
            value = self.answer(command, held)
        except WorkflowError as error:
            problem = error.problem
        except Exception as error:
            log.exception("%s failed", type(command).__name__)
            message = f"it could not do this ({type(error).__name__}); nothing else is affected."
            problem = Problem(
                title="The engine hit a fault of its own", message=message, advice="The engine's log has the story."
            )
        finally:
            if isinstance(command, ExportRun):
                self._exporting.remove(command.run)
        reply(problem, value)

    def answer(self, command: Command, held: Mapping[int, str] | None = None) -> Answer:
        """Carry out one of `KEPT`. Raises WorkflowError."""
        match command:
            case ReadSeries():
                return self._series(command)
            case EditRun(run=run, name=name, pinned=pinned):
                self._edit(run, name, pinned)
            case DeleteRuns(runs=runs):
                self._delete(tuple(dict.fromkeys(runs)), held or {})
            case ExportRun():
                self._export(command)
            case _:
                raise AssertionError(f"{command} is not for the library")
        return None

    def _series(self, command: ReadSeries) -> SeriesAnswer:
        store = self._recorded(command.run)
        run, names, columns = command.run, tuple(dict.fromkeys(command.names)), command.columns
        if not 1 <= columns <= CAP:
            raise WorkflowError(
                "Not a number of columns", f"{columns:,} columns cannot be read.", f"Ask for 1 to {CAP:,}."
            )
        try:
            with _reading(store, run):
                epochs, series = store.columns(run, command.start, command.stop, columns, names, MAX_BUCKETS)
        except NoSuchSeries as error:
            raise WorkflowError("No such series", f"run {run} has no series {sanitize(str(error))}.") from error
        except OverflowError as error:
            raise WorkflowError(
                "Too much at once", f"{error}.", "Ask for fewer columns, or for some of the series."
            ) from error
        return SeriesAnswer(run=run, start=command.start, stop=command.stop, epochs=epochs, series=series)

    def _recorded(self, run: int) -> Store:
        """The store, which has the epochs of `run`. Raises WorkflowError where there is none."""
        if self._store is None:
            self.find(run)
            raise WorkflowError(
                "No record",
                "no epochs are recorded, because the workspace's store cannot be used.",
                "Mend or remove its file, and start the engine again.",
            )
        return self._store

    def _edit(self, run: int, name: str | None, pinned: bool | None) -> None:
        if name is not None:
            name = name.strip()
            if len(name) > MAX_NAME:
                raise WorkflowError(
                    "Too long a name", f"{len(name):,} characters are no name.", f"Use up to {MAX_NAME}."
                )
            name = sanitize(name, MAX_NAME)
        found = self.find(run)
        with self._lock:
            view = self._views.get(run, found)
            if pinned and not view.pinned and sum(each.pinned for each in self._views.values()) >= MAX_PINNED:
                raise WorkflowError("Too many pinned", f"{MAX_PINNED} runs are pinned.", "Unpin another one first.")
            name = view.name if name is None else name
            pinned = view.pinned if pinned is None else pinned
            self._views[run] = replace(view, name=name, pinned=pinned)
        if self._store is not None:
            self._store.edit(run, name, pinned)
        self._changed(True)
        self._wait_for_disk()

    def _delete(self, runs: tuple[int, ...], held: Mapping[int, str]) -> None:
        for run in runs:
            self.find(run)
            if run in held or run in self._exporting:
                why = held.get(run, "it is being exported")
                raise WorkflowError("Not deleted", f"run {run} cannot be deleted now: {why}.", "Nothing was deleted.")
        self.forget(runs)
        self._wait_for_disk()
        if self._store is not None:
            # older ones move up
            self._look()

    def _wait_for_disk(self) -> None:
        if self._store is not None and not self._store.flush(PATIENCE):
            raise WorkflowError(
                "Not on disk yet",
                f"{self._store.path} cannot be written at present.",
                "It is done as soon as the disk takes it, if the engine lives to see that.",
            )

    def _export(self, command: ExportRun) -> None:
        store = self._recorded(command.run)
        self.find(command.run)
        path = absolute(command.path, self._files)
        atomic.check(path, overwrite=command.overwrite)
        if not store.flush(PATIENCE):
            raise WorkflowError(
                "Not exported",
                f"{store.path} cannot be written at present, so not all epochs are there to read.",
                "See to the disk, then export again.",
            )
        self._exporter.export(store.path, command.run, command.kind, path, command.overwrite)


@contextlib.contextmanager
def _reading(store: Store, run: int) -> Iterator[None]:
    """What goes wrong in the block as WorkflowError."""
    try:
        yield
    except KeyError as error:
        raise no_run(run) from error
    except sqlite3.Error as error:
        raise WorkflowError(
            "Cannot read the record", f"{store.path} cannot be read: {error}.", "See to the disk."
        ) from error
