"""Writes the checkpoint of the run that is there by a thread of its own: training waits for no disk."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_core import atomic
from workflow_core.errors import Problem, WorkflowError

if TYPE_CHECKING:  # the server, which has this, does not wait for torch
    from workflow_core.engine.checkpoint import Checkpoint

INTERVAL = 30.0
"""Seconds of training between two checkpoints, unless the user wants it otherwise."""
SHARE = 50
"""Making one may take this part of the time: one in so many."""
RETRY = 5.0
"""Seconds until a disk that took none is tried again."""
RECORD_PATIENCE = 5.0
"""Seconds to wait for the record to be on disk: a checkpoint must not be ahead of it."""

log = logging.getLogger(__name__)


class Keeper:
    """Keeps the newest checkpoint in the file `path`, whole at any moment.

    `record` waits so many seconds until all epochs told so far are on disk, and says whether they are. `tell` gets a
    Problem when none can be kept, once each time, and None when one is again. All but `record` returns at once.
    `making` is true while the state of a training is copied.
    """

    def __init__(
        self,
        path: Path,
        record: Callable[[float], bool] = lambda timeout: True,
        tell: Callable[[Problem | None], None] = lambda problem: None,
        interval: float = INTERVAL,
    ) -> None:
        self.path = path
        self.making = False
        self._record = record
        self._tell = tell
        self._interval = interval
        self._changed = threading.Condition()
        self._waiting: Callable[[], bytes] | None = None
        self._asked = self._done = 0
        self._failed = False
        self._unmade = -1
        """How many had been asked for when the last one could not be made."""
        self._said = False
        self._hurry = False
        self._closing = False
        self._due = -math.inf
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def due(self) -> bool:
        """Is it time for another one?"""
        return time.monotonic() >= self._due

    @property
    def kept(self) -> bool:
        """Is what was put last on disk?"""
        with self._changed:
            return self._done >= self._asked and not self._failed and not self._lacking

    def put(self, make: Callable[[], Checkpoint]) -> None:
        """Keep what `make` gives at once, in place of what was kept before.

        Where it cannot be made, for memory or what a class of the user's own does, that is told as a full disk is: no
        training ends for it.
        """
        begun = time.monotonic()
        self.making = True
        try:
            checkpoint = make()
        except Exception as error:
            log.exception("no checkpoint")
            self._due = time.monotonic() + self._interval
            with self._changed:
                told, self._unmade = self._lacking, self._asked
                if not told:
                    self._say(f"its state cannot be copied ({type(error).__name__})")
            return
        finally:
            self.making = False
        now = time.monotonic()
        self._due = now + max(self._interval, SHARE * (now - begun))
        self._ask(checkpoint.packed)

    def drop(self) -> None:
        """There is nothing to come back to."""
        self._due = -math.inf
        self._ask(lambda: b"")

    def set_aside(self) -> Path | None:
        """Let a copy of what is there stay beside, whatever is kept from now on: the file, None where there is none."""
        aside = self.path.with_suffix(".old")
        try:
            aside.unlink(missing_ok=True)
            try:
                os.link(self.path, aside)
            except FileNotFoundError:
                return None
            except OSError:  # file systems without hard links
                atomic.write(aside, self.path.read_bytes(), overwrite=True, mode=0o600)
        except (OSError, WorkflowError, MemoryError) as error:
            log.warning("what was kept cannot be set aside: %s", error)
            return None
        log.warning("what was kept stays in %s", aside)
        return aside

    def _ask(self, pack: Callable[[], bytes]) -> None:
        with self._changed:
            self._waiting = pack
            self._asked += 1
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until what was put last is on disk, which is tried at once; False where it is not by then."""
        with self._changed:
            if self._failed and self._waiting is None:
                self._asked, self._hurry = self._asked + 1, True
                self._changed.notify_all()
            asked = self._asked
            return self._changed.wait_for(lambda: self._done >= asked, timeout) and not self._failed

    def close(self, timeout: float) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        pack: Callable[[], bytes] | None = None
        while True:
            with self._changed:
                # what a disk did not take is tried again, until there is something newer
                self._changed.wait_for(
                    lambda: self._waiting is not None or self._closing or self._hurry, RETRY if pack else None
                )
                self._hurry = False
                pack, self._waiting, asked = self._waiting or pack, None, self._asked
                closing = self._closing
            reason = self._write(pack) if pack is not None else ""
            with self._changed:
                self._done = asked
                self._note(reason)
                if not reason:
                    pack = None
                self._changed.notify_all()
            if closing:
                return

    def _write(self, pack: Callable[[], bytes]) -> str:
        """Why the file cannot be written; empty where it is."""
        try:
            data = pack()
            recorded = self._record(RECORD_PATIENCE)
            if not data:
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
                return ""
            if not recorded:
                raise WorkflowError("Not kept", "the epochs before it are not on disk.")
            atomic.write(self.path, data, overwrite=True, mode=0o600)  # whatever the umask for files of the user's
        except (WorkflowError, OSError, MemoryError) as error:
            message = error.problem.message if isinstance(error, WorkflowError) else str(error)
            return message.rstrip(".") or type(error).__name__
        return ""

    # --- with the lock held: what one thread tells must not come after what another one has told since ---

    @property
    def _lacking(self) -> bool:
        """Could one not be made, and has nothing that was asked for since been tried yet?"""
        return self._unmade >= self._done

    def _note(self, reason: str) -> None:
        """The disk has taken what it was given, or why it has not."""
        was_failed, self._failed = self._failed, bool(reason)
        if reason and not was_failed:
            log.warning("no checkpoint: %s", reason)
            self._say(reason)
        elif not reason and self._said and not self._lacking:
            self._said = False
            log.info("a checkpoint is kept again")
            self._tell(None)

    def _say(self, reason: str) -> None:
        self._said = True
        self._tell(
            Problem(
                title="The training is not being kept",
                message=f"no checkpoint of it can be written: {reason}. The training goes on.",
                advice="Make room on the disk, or see to it: what is not kept is gone if the engine is killed.",
            )
        )
