"""What is on disk is whole whenever its writer is killed, at random moments and before each of its system calls."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.core.conftest import noting
from tests.core.test_back import NOISY, Life, kept_epoch
from tests.soak.apart import Forked, apart, calls, hindered, needs_tracing
from tests.soak.runs import digest, straight
from tests.soak.table import sizes, tell

from workflow_core import store
from workflow_core.engine import checkpoint, keeper
from workflow_core.engine.session import warm_up
from workflow_core.protocol import Branch, BuildModel, MakeData, SetTraining
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.store import Store, schema

Say = Callable[[str], None]
NETWORK = ModelSpec(kind="mlp", hidden=(160, 160), dropout=0.1)
SPEC = TrainSpec(epochs=10**6, optimizer="adam", scheduler="cosine", scheduler_epochs=500, batch_size=16, device="cpu")
KEPT = re.compile(r"run\.pt|workspace\.sqlite(-wal|-shm)?")
"""The files that may be there when nobody writes."""
PART = re.compile(r"\.workflow-tui-\w+\.part")


def begun(folder: Path) -> Life:
    """The run that is kept in `folder`, or a new one."""
    life = Life(folder)
    if life.state["training"] is None:
        life(MakeData(spec=NOISY), BuildModel(spec=NETWORK), SetTraining(spec=SPEC))
    return life


def advanced(life: Life, epochs: int) -> None:
    """So many epochs more, and all of it on disk."""
    life.advance(epochs)
    assert life.keeper.flush(20), [problem.message for problem in life.problems]
    assert life.store.flush(20)


def write_on(folder: Path, say: Say) -> None:
    """Train on and keep a checkpoint of each epoch; each that is confirmed to be on disk is told."""
    life = begun(folder)
    say(f"back {life.view.epoch if life.state['training'] else 0}")
    while True:
        life.advance(1)
        assert life.keeper.flush(20)
        say(str(life.view.epoch))


def leftovers(folder: Path) -> list[str]:
    """What lies in the folder beside what belongs there."""
    return [path.name for path in folder.iterdir() if not KEPT.fullmatch(path.name)]


def weights(life: Life) -> str:
    runner = life.session._runner
    assert runner is not None
    return digest(runner.trainer.model.state_dict())


def killed(folder: str, count: int, seed: int) -> dict[str, Any]:
    """Kill `count` writers, one after the other, each of which goes on with what the one before left."""
    moments = random.Random(seed)
    where = Path(folder)
    warm_up()
    wrong: list[str] = []
    kept = within = most = 0
    for kill in range(count):
        writer = Forked(lambda say: write_on(where, say))
        back = int(writer.line().removeprefix("back "))
        confirmed = int(writer.line())
        time.sleep(moments.uniform(0.0, 0.04))
        writer.kill()
        assert writer.wait() == -9
        confirmed = max([confirmed, *map(int, writer.lines())])
        writer.close()
        parts = leftovers(where)
        within += bool(parts)
        most = max(most, len(parts))
        if back != kept or not all(PART.fullmatch(part) for part in parts):
            wrong.append(f"kill {kill}: {kept} kept, but back at {back}; {parts} left")
        try:
            kept = kept_epoch(where / "run.pt")
            assert confirmed <= kept <= confirmed + 1, f"{confirmed} confirmed, {kept} kept"
        except Exception as error:  # of such a file no other can go on
            wrong.append(f"kill {kill}: {error}")
            break
    return {"wrong": wrong, "within": within, "most": most}


@sizes(4, 1000)
def test_kills_while_checkpoints_are_written_leave_a_whole_one(count: int, tmp_path: Path) -> None:
    """1,000 kills of a process that writes a checkpoint of every epoch of a run: the file is the newest or the next."""
    seed = random.randrange(10**6)
    what = f"kill -9 while checkpoints are written (seed {seed})"
    found = apart(killed, folder=str(tmp_path), count=count, seed=seed)
    if found["wrong"]:
        tell(what, count, len(found["wrong"]))
    assert not found["wrong"]
    life = begun(tmp_path)
    advanced(life, 3)
    weights_then, losses = straight(NETWORK, NOISY, SPEC, life.view.epoch)
    same = weights(life) == weights_then and life.recorded()["train_loss"] == losses
    life.die()
    stayed = leftovers(tmp_path)
    tell(
        what,
        count,
        int(not same),
        f"{found['within']} in the middle of a file; after {len(losses):,} epochs equal: {same}",
    )
    assert same
    assert found["most"] <= 1, "each writer removes what the one before left"
    assert stayed == []
    assert count < 100 or found["within"] > count / 20, "they were to come while something is written"


# --- each system call ---


def put(life: Life) -> None:
    """A checkpoint of the fourth epoch in place of that of the third."""
    runner = life.session._runner
    assert runner is not None
    life.keeper.put(lambda: checkpoint.of(SPEC, runner))


def append(life: Life) -> None:
    """Seven more epochs."""
    life.advance(7)


def branch(life: Life) -> None:
    """A new run with the first two epochs of the other one, and two of its own."""
    slow = life(Branch(epoch=1))
    while not slow.advance(math.inf):
        pass
    slow.answer()
    life.advance(2)


def close(life: Life) -> None:
    """The store moves what it has written to its place, and lets go of the file."""
    life.store.close(20)


class Job(NamedTuple):
    """Something that is written, and how many epochs are there `before` and `after` it."""

    do: Callable[[Life], None]
    what: Literal["checkpoint", "record"]
    before: int
    after: int
    run: int = 1


JOBS = {
    "put": Job(put, "checkpoint", 3, 4),
    "append": Job(append, "record", 4, 11),
    "branch": Job(branch, "record", 0, 4, run=2),
    "close": Job(close, "record", 4, 4),
}


def at_work(folder: Path, job: Job, go: int, say: Say) -> None:
    """Do a job in a thread whose number is told, as soon as something comes by `go`; it is told what went wrong."""
    keeper.RETRY = store.RETRY = store.INTERVAL = 0.02
    life = begun(folder)
    life.store._tell = noting(life.problems)
    life.session._keeper = None  # what it would write by itself is another job
    life.advance(1)
    assert life.store.flush(20)
    thread = life.keeper._thread if job.what == "checkpoint" else life.store._thread
    say(str(thread.native_id))
    os.read(go, 1)
    job.do(life)
    deadline = time.monotonic() + 30
    while not (life.keeper.flush(1) and (job.do is close or life.store.flush(1)) and life.keeper.kept):
        assert time.monotonic() < deadline, "what failed once is not tried again"
        time.sleep(0.01)
    say("done, " + (life.problems[0].title if life.problems else "nothing told"))


class Folder:
    """A folder with a run of three epochs, of which each hindered job gets a copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = folder / "first"
        self._first.mkdir()
        self._jobs = 0
        self.silent = False
        made = Forked(self._make)
        assert made.wait() == 0

    def _make(self, say: Say) -> None:
        life = begun(self._first)
        advanced(life, 3)
        life.die()

    def do(self, job: Job, *options: str, trace: str | Path = os.devnull) -> tuple[Path, list[str]]:
        """A job on a fresh copy under strace with `options`: its folder, and what it said at its end."""
        self._jobs += 1
        folder = self._folder / str(self._jobs)
        shutil.copytree(self._first, folder)
        near, far = os.pipe()
        worker = Forked(lambda say: at_work(folder, job, near, say))
        with hindered(int(worker.line()), *options, trace=trace):
            os.write(far, b"x")
            said = worker.lines()
        os.close(near)
        os.close(far)
        return folder, said

    def judged(self, job: Job, options: tuple[str, ...], whole: bool) -> str:
        """What is wrong after a job under strace with `options`; `whole`: it has to come to its end all the same."""
        folder, said = self.do(job, *options)
        self.silent = said == ["done, nothing told"]
        judging = Forked(lambda say: judge(folder, job, whole))
        status = judging.wait()
        if whole and not said:
            return f"it did not end, see {folder}"
        return f"{said}, see {folder}" if status else ""

    def calls(self, job: Job) -> list[tuple[str, int]]:
        """The system calls of a job that have to do with files."""
        trace = self._folder / "trace"
        _, said = self.do(job, trace=trace)
        assert said == ["done, nothing told"]
        return calls(trace)


def judge(folder: Path, job: Job, whole: bool) -> None:
    """AssertionError where what is left of a job is not whole, or no other engine could go on with it."""
    kept = kept_epoch(folder / "run.pt")
    with contextlib.closing(schema.connect_to_read(folder / "workspace.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    records = Store(folder / "workspace.sqlite")
    told = {view.run: view.epochs for view in records.runs(9)}
    assert told == {run: len(records.read(run, 0, 99)["train_loss"]) for run in told}
    records.close()
    there = kept if job.what == "checkpoint" else told.get(job.run, 0)
    assert job.before <= there <= job.after, f"{there} epochs"
    assert not whole or there == job.after, f"only {there} epochs"
    life = begun(folder)
    assert life.view.epoch == kept
    advanced(life, 2)
    assert (weights(life), life.recorded()["train_loss"]) == straight(NETWORK, NOISY, SPEC, kept + 2)
    life.die()
    assert leftovers(folder) == []


def hinder(folder: str, names: list[str], count: int) -> list[dict[str, Any]]:
    """Let strace hinder jobs at each of their system calls, or at `count` of them, evenly: kill, then fail."""
    warm_up()
    base, found = Folder(Path(folder)), []
    for name in names:
        every = base.calls(JOBS[name])
        step = max(len(every) / count, 1.0)
        # from the end: what comes last has most to lose
        chosen = [every[-1 - int(at * step)] for at in range(min(count, len(every)))]
        for how in ("signal=KILL", "error=EIO"):
            wrong, silent = [], 0
            for call, number in chosen:
                options = ("-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}")
                if problem := base.judged(JOBS[name], options, whole=how == "error=EIO"):
                    wrong.append(f"{call} {number}: {problem}")
                silent += base.silent
            found.append({"name": name, "how": how, "calls": len(every), "tried": len(chosen), "wrong": wrong})
            found[-1]["silent"] = silent
    return found


@sizes(1, 1000)
def test_each_system_call_of_a_write_may_be_the_last_or_fail(count: int, tmp_path: Path) -> None:
    """A kill before each system call that has to do with files, or an error of it: old or new, never half."""
    needs_tracing()
    names = ["put"] if count == 1 else list(JOBS)
    found = apart(hinder, folder=str(tmp_path), names=names, count=count)
    for each in found:
        what = "kill before" if "KILL" in each["how"] else "EIO from"
        more = f"it has {each['calls']}" + (
            f", of {each['silent']} nobody need be told" if "EIO" in each["how"] else ""
        )
        tell(f"{what} each system call of a write ({each['name']})", each["tried"], len(each["wrong"]), more)
    for each in found:
        assert not each["wrong"]
        assert "KILL" in each["how"] or each["silent"] < each["tried"] or each["tried"] < 10 or each["name"] == "close"
