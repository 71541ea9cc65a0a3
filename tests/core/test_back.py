"""A run comes back in another engine as it stood, and goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from tests.core.conftest import noting
from tests.core.test_session import Bench
from tests.core.test_train_state import plain

from workflow_core import atomic
from workflow_core.engine import checkpoint, keeper
from workflow_core.engine.keeper import Keeper
from workflow_core.engine.session import Session
from workflow_core.engine.worker import _tries
from workflow_core.errors import Problem, WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    Adopt,
    Branch,
    BuildModel,
    Evaluate,
    Extend,
    LookBack,
    MakeData,
    Notice,
    Pause,
    ReadSeries,
    Reset,
    Run,
    SetLearningRate,
    SetPace,
    SetTraining,
    Shutdown,
    StartRace,
    Stop,
)
from workflow_core.specs import OPTIMIZERS, DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer
from workflow_core.store import Store
from workflow_core.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked")
Attach = Callable[[Workspace], Any]
NOISY = DataSpec(noise=0.05)
NETWORK = ModelSpec(kind="mlp", hidden=(6,), dropout=0.2)


def kept_epoch(path: Path) -> int:
    """The epochs behind the run that is kept in a file, which must be whole; -1 where there is none."""
    found = checkpoint.read(path)
    return found.kept.run.view.epoch if found is not None and found.kept.run is not None else -1


class Life(Bench):
    """The life of one engine in a workspace: `end` closes it, `die` leaves everything as a kill would."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "workspace.sqlite")
        super().__init__(folder, self.store)
        self.problems: list[Problem] = []
        self.keeper = Keeper(folder / "run.pt", self.store.flush, noting(self.problems))
        self.session = Session(self.take, folder, self.library, self.keeper)
        found = checkpoint.read(self.keeper.path)
        self.changes: list[str] = []
        if found is not None:
            run, race, problems = self.session.restore(found)
            self.problems += problems
            self.changes = [problem.message for problem in checkpoint.changes(found, run, race)]

    def advance(self, epochs: int, steps: int = 0) -> None:
        """So many more epochs, and steps of the next one."""
        if epochs:
            self(Run(epochs=epochs))
            while self.session.running:
                self.session.advance(self.inbox)
        if steps:
            self(Run(steps=steps))
            while self.session.running:
                self.session.advance(self.inbox)

    def die(self) -> None:
        """What is on disk stays; what the threads of a dead engine would still write does not come."""
        assert self.keeper.flush(5)
        self.store.flush(5)
        self.keeper.close(5)
        self.store.close(5)

    def end(self) -> None:
        self.session.close()
        self.die()

    @property
    def weights(self) -> Any:
        runner = self.session._runner
        assert runner is not None
        return plain([runner.trainer.model.state_dict(), runner.trainer.optimizer.state_dict()])

    def recorded(self) -> Any:
        assert self.store.flush(5)
        return {name: list(column) for name, column in self.store.read(self.view.run, 0, 10**9).items()}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[str], Life]]:
    lives: list[Life] = []

    def begin(name: str = "w") -> Life:
        (tmp_path / name).mkdir(exist_ok=True)
        lives.append(Life(tmp_path / name))
        return lives[-1]

    yield begin
    for each in lives:
        each.keeper.close(5)
        each.store.close(5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [0, 10])
def test_a_run_that_was_interrupted_is_the_one_that_never_was(
    live: Callable[..., Life], optimizer: Any, batch_size: int
) -> None:
    spec = TrainSpec(
        optimizer=optimizer, batch_size=batch_size, scheduler="cosine", scheduler_epochs=30, epochs=12, device="cpu"
    )
    begin = (MakeData(spec=NOISY), BuildModel(spec=NETWORK), SetTraining(spec=spec))
    whole = live("whole")
    whole(*begin)
    whole.train()
    life = live("parts")
    life(*begin)
    for epochs, steps in ((3, 0), (2, 2 if batch_size else 0), (0, 1 if batch_size else 0), (4, 0)):
        life.advance(epochs, steps)
        place = life.session._runner.place  # type: ignore[union-attr]
        life.end()
        life = live("parts")
        assert life.view.state == "paused"
        assert life.session._runner is not None
        assert life.session._runner.place == place
        assert life.history.epochs == place[1]
    life.train()
    assert life.view.state == "finished"
    assert life.weights == whole.weights
    assert plain(life.recorded()) == plain(whole.recorded())
    for name in ("parameters", "train_loss", "val_loss", "best_epoch", "best_loss", "learning_rate", "initial"):
        assert getattr(life.view, name) == getattr(whole.view, name), name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TrainSpec(optimizer="sgd", learning_rate=1.5, epochs=40, device="cpu"), "rises"),
        (TrainSpec(optimizer="sgd", learning_rate=1e-30, epochs=40, device="cpu"), "for 40 epochs"),
    ],
)
def test_what_looks_wrong_by_then_is_found_as_if_it_had_never_been_interrupted(
    live: Callable[..., Life], spec: TrainSpec, words: str
) -> None:
    begin = (MakeData(spec=NOISY), BuildModel(spec=ModelSpec(kind="linear")), SetTraining(spec=spec))
    whole = live("whole")
    whole(*begin)
    whole.train()
    life = live("parts")
    life(*begin)
    for epochs in (21, 14):
        life.advance(epochs)
        life.end()
        life = live("parts")
    life.train()
    assert words in " ".join(whole.view.findings)
    assert life.view.findings == whole.view.findings


async def test_an_engine_that_is_killed_is_named_and_its_run_goes_on(workspace: Workspace, attach: Attach) -> None:
    ui = await attach(workspace)
    spec = TrainSpec(epochs=1_000_000, device="cpu")
    await ui.request(SetTraining(spec=spec))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.history.epochs > 2000)
    await ui.request(Pause())
    await ui.request(Run())
    told = ui.training.epoch
    await ui.until(lambda: ui.history.epochs > told + 3000)
    child = child_of(workspace)
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training") and ui.notices)
    view = ui.training
    assert (view.state, view.run) == ("paused", 1)
    assert told <= view.epoch == ui.history.epochs
    assert "killed" in ui.notices[0]
    await ui.request(Run(epochs=5000), timeout=60)
    after = await ui.until_state("paused")
    assert after.epoch == view.epoch + 5000
    answer = await ui.request(ReadSeries(run=1, start=after.epoch - 100, stop=after.epoch, columns=100))
    whole = Trainer(build.build(ModelSpec()), data.make(DataSpec()), replace(spec, epochs=after.epoch))
    while whole.done < after.epoch:
        whole.epoch()
    columns = whole.fetch()
    assert [column.last for column in answer.series["train_loss"]] == columns["train_loss"][-100:]
    assert answer.epochs == after.epoch
    assert after.parameters == {name: columns[name][-1] for name in ("weight", "bias")}
    # told in order, it is as it was, and nothing is said of that
    await ui.request(Shutdown())
    child = child_of(workspace)
    assert child is not None
    child.wait(10)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    assert (ui.training.epoch, ui.training.parameters, ui.notices) == (after.epoch, after.parameters, [])


def begin(life: Life, **changes: Any) -> Life:
    spec = replace(TrainSpec(epochs=40, device="cpu"), **changes)
    life(MakeData(spec=NOISY), BuildModel(spec=NETWORK), SetTraining(spec=spec))
    return life


def test_epochs_beyond_the_checkpoint_are_trained_again_and_stand_there_once(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(10)
    assert life.keeper.flush(5)
    kept = life.keeper.path.read_bytes()
    life.advance(7)
    life.die()
    life.keeper.path.write_bytes(kept)  # as if the engine had been killed before the next one was written
    life = live()
    assert (life.view.epoch, life.history.epochs, life.view.state) == (10, 10, "paused")
    assert life.store.find(1).epochs == 17, "the record keeps what it has until the run goes on"
    life.advance(3)
    assert life.store.flush(5)
    assert life.store.find(1).epochs == 13
    life.train()
    whole = begin(live("whole"))
    whole.train()
    assert plain(life.recorded()) == plain(whole.recorded())
    assert life.weights == whole.weights


def test_what_was_done_by_hand_comes_back(live: Callable[..., Life]) -> None:
    lives = {name: begin(live(name), scheduler="step", scheduler_epochs=5) for name in ("whole", "parts")}
    for name, life in lives.items():
        life.advance(6)
        life(SetPace(pace=5000.0), SetLearningRate(learning_rate=0.5))
        if name == "parts":
            life.die()
            lives[name] = life = live(name)
            assert life.view.lr_changes == ((6, 0.5),)
            assert life.view.pace == 5000.0
        life.advance(4)
        life(Extend(epochs=20))
        life(Pause())
        if name == "parts":
            life.end()
            lives[name] = life = live(name)
            assert life.view.spec.epochs == 60
        life.train()
    assert lives["parts"].weights == lives["whole"].weights
    assert plain(lives["parts"].recorded()) == plain(lives["whole"].recorded())


@pytest.mark.parametrize("changes", [{"early_stop": 2}, {"learning_rate": 1e6}, {"epochs": 5}])
def test_a_run_that_has_ended_comes_back_ended(live: Callable[..., Life], changes: Any) -> None:
    life = begin(live(), **changes)
    life.train()
    before = life.view
    weights = life.weights
    life.end()
    life = live()
    assert replace(life.view, elapsed=0.0, device="", capacity=0.0) == replace(
        before, elapsed=0.0, device="", capacity=0.0, rate=0.0
    )
    assert life.weights == weights
    assert life.steps("data", "build", "train")[:2] == ["done", "done"]
    life(Evaluate())
    if before.state == "finished" and not changes.get("early_stop"):
        life(Extend(epochs=3))
        while life.session.running:
            life.session.advance(life.inbox)
        assert life.view.epoch == 8
    else:
        with pytest.raises(WorkflowError):
            life(Run())


def test_it_can_be_looked_back_and_branched_off_as_before(live: Callable[..., Life], tmp_path: Path) -> None:
    whole, life = begin(live("whole")), begin(live())
    for each in (whole, life):
        each.advance(20)
    life.end()
    life = live()
    for epoch in (-1, 3, 19):
        views = []
        for each in (whole, life):
            slow = each(LookBack(epoch=epoch))
            while not slow.advance(float("inf")):
                pass
            views.append(slow.answer().past)
        assert replace(views[0], replayed=False) == replace(views[1], replayed=False)
        assert views[1].equal
    slow = life(Branch(epoch=7))
    while not slow.advance(float("inf")):
        pass
    slow.answer()
    assert (life.view.run, life.view.parent, life.view.epoch) == (2, 1, 8)
    life.end()
    life = live()
    assert (life.view.run, life.view.parent, life.view.epoch) == (2, 1, 8)
    life.train()
    whole.train()
    assert life.weights == whole.weights


def test_settings_of_the_next_run_come_back_with_the_run(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(3)
    life(SetTraining(spec=TrainSpec(learning_rate=0.5)))
    life.end()
    life = live()
    assert life.state["train_spec"] == TrainSpec(learning_rate=0.5)
    assert life.view.spec == TrainSpec(epochs=40, device="cpu")


def test_what_was_discarded_or_reset_does_not_come_back(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(3)
    life(Stop(keep=False))
    life.end()
    life = live()
    assert life.state["training"] is None
    begin(life).advance(3)
    life(Reset())
    life.end()
    life = live()
    assert (life.view.state, life.view.epoch, life.history.epochs) == ("ready", 0, 0)
    life.train()
    assert life.view.state == "finished"


def test_a_table_that_has_changed_since_keeps_its_run_away_in_words(live: Callable[..., Life], tmp_path: Path) -> None:
    csv = tmp_path / "own.csv"
    csv.write_text("x,y\n" + "\n".join(f"{x},{2 * x}" for x in range(30)))
    life = live()
    life(MakeData(spec=DataSpec(kind="table", file=str(csv), target="y")), SetTraining(spec=TrainSpec(device="cpu")))
    life.advance(3)
    life.end()
    life = live()
    assert life.view.epoch == 3
    life.end()
    csv.write_text("x,y\n" + "\n".join(f"{x},{3 * x}" for x in range(30)))
    life = live()
    assert life.state["training"] is None
    assert "not what they were" in life.problems[0].message
    life.end()
    csv.unlink()
    assert "own.csv" in live().problems[0].message


NET = """\
import torch
from torch import nn
from act import act


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(act(self.first(x)))
"""
ACT = "import torch\n\n\ndef act(x):\n    return torch.tanh(x)\n"


def of_files(folder: Path) -> ModelSpec:
    """A model of the user's own in two files, which are as they were."""
    (folder / "act.py").write_text(ACT)
    (folder / "net.py").write_text(NET)
    return ModelSpec(kind="custom", file=str(folder / "net.py"), class_name="Net")


async def test_code_that_was_edited_after_a_kill_is_named_and_can_be_put_back_first(
    workspace: Workspace, attach: Attach, tmp_path: Path
) -> None:
    async def kill() -> Any:
        child = child_of(workspace)
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        ui = await attach(workspace)
        await ui.until(lambda: ui.state.get("training") and ui.state["engine"].state == "ready")
        return ui

    spec = TrainSpec(epochs=200, batch_size=8, optimizer="adam", device="cpu")
    model = of_files(tmp_path)
    whole = Trainer(build.build(model), data.make(DataSpec()), spec)
    while whole.done < 200:
        whole.epoch()
    ui = await attach(workspace)
    await ui.request(BuildModel(spec=model), timeout=60)
    await ui.request(SetTraining(spec=spec))
    await ui.request(Run(epochs=100))
    await ui.until_state("paused")
    async with asyncio.timeout(20):
        while kept_epoch(workspace.kept_run) < 100:
            await asyncio.sleep(0.02)
    (tmp_path / "act.py").write_text(ACT.replace("tanh", "relu"))
    for _ in range(2):  # as long as it has not gone on with it
        ui = await kill()
        assert (ui.training.state, ui.training.epoch) == ("paused", 100)
        (told,) = [message for message in ui.notices if "act.py" in message]
        assert "has changed since run 1 was trained with it, and run 1 goes on with the code as it is now" in told
    (tmp_path / "act.py").write_text(ACT)
    ui = await kill()
    assert not any("act.py" in message for message in ui.notices)
    await ui.request(Run())
    after = await ui.until_state("finished")
    columns = whole.fetch()
    assert after.parameters == {name: columns[name][-1] for name in after.parameters}


def test_code_that_a_run_went_on_with_is_named_no_more(live: Callable[..., Life], tmp_path: Path) -> None:
    model = of_files(tmp_path)
    life = live()
    life(MakeData(spec=NOISY), BuildModel(spec=model), SetTraining(spec=TrainSpec(device="cpu", batch_size=8)))
    life.advance(3)
    life.end()
    life = live()
    assert life.changes == []
    life.end()
    (tmp_path / "net.py").write_text(NET + "\n\n# another line\n")
    for _ in range(2):  # as long as it has not gone on with it, whatever is kept meanwhile
        life = live()
        assert len(life.changes) == 1
        assert "net.py" in life.changes[0]
        life.end()
    life = live()
    life.advance(0, 1)
    life.end()
    life = live()
    assert life.changes == []
    life.end()
    (tmp_path / "net.py").write_text(NET.replace("4", "5"))  # no model for these weights any more
    life = live()
    assert life.state["training"] is None
    assert [problem.title for problem in life.problems] == ["Another training"]
    assert life.changes[0].endswith("net.py has changed since run 1 was trained with it.")


def test_code_that_has_changed_is_named_of_a_race_as_well(live: Callable[..., Life], tmp_path: Path) -> None:
    life = live()
    lanes = tuple(TrainSpec(epochs=20, device="cpu", learning_rate=rate) for rate in (0.01, 0.1))
    life(MakeData(spec=NOISY), BuildModel(spec=of_files(tmp_path)), StartRace(lanes=lanes), Pause())
    life.end()
    (tmp_path / "act.py").write_text(ACT.replace("tanh", "relu"))
    for _ in range(2):
        life = live()
        assert life.state["race"] is not None
        assert len(life.changes) == 1
        assert "race 1 goes on with the code as it is now" in life.changes[0]
        life.end()


def test_a_checkpoint_of_an_earlier_version_says_nothing_of_files_and_threads(
    live: Callable[..., Life], tmp_path: Path
) -> None:
    life = live()
    life(MakeData(spec=NOISY), BuildModel(spec=of_files(tmp_path)), SetTraining(spec=TrainSpec(device="cpu")))
    life.advance(3)
    runner = life.session._runner
    assert runner is not None
    found = checkpoint.of(TrainSpec(), runner)
    assert found.kept.run is not None
    assert found.state is not None
    assert [Path(file).name for file in found.kept.run.on.files] == ["act.py", "net.py"]
    (tmp_path / "act.py").write_text(ACT.replace("tanh", "relu"))
    run = replace(found.kept.run, on=replace(found.kept.run.on, files={}))
    del found.state["rows"]
    life.keeper.put(lambda: replace(found, kept=replace(found.kept, run=run)))
    life.die()
    life = live()
    assert (life.view.epoch, life.changes) == (3, [])


def test_the_torch_and_the_threads_of_then_are_kept_and_named_where_they_are_others(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(3)
    life.end()
    found = checkpoint.read(life.keeper.path)
    assert found is not None
    assert found.state is not None
    version = found.state["torch_version"]
    assert (type(version), version) == (str, str(torch.__version__))
    assert (found.state["threads"], found.state["rows"]) == (1, 50)
    run = found.kept.run
    assert checkpoint.changes(found, run, None) == []
    for part, value, told in (("torch_version", "1.0", "PyTorch 1.0"), ("threads", 3, "with 3 CPU threads")):
        other = replace(found, state={**found.state, part: value})
        (problem,) = checkpoint.changes(other, run, None)
        assert told in problem.message
        assert "last bits" in problem.message
        life.keeper.path.write_bytes(other.packed())
        life = live()
        assert (life.view.state, life.view.epoch) == ("paused", 3)
        assert [problem.message] == life.changes
        life.die()


@pytest.mark.parametrize("how", ["cut", "bit", "empty", "text", "pickle"])
def test_a_damaged_checkpoint_is_one_sentence(live: Callable[..., Life], how: str) -> None:
    life = begin(live())
    life.advance(3)
    life.end()
    data = bytearray(life.keeper.path.read_bytes())
    assert torch.load(life.keeper.path, weights_only=True)["about"].dtype == torch.uint8
    if how == "bit":
        data[len(data) // 2] ^= 1
    damaged = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello", "pickle": b"cos\nsystem\n(S'x'\ntR."}
    life.keeper.path.write_bytes(bytes(damaged.get(how, data)))
    with pytest.raises(WorkflowError, match="cannot be read"):
        checkpoint.read(life.keeper.path)


def test_a_checkpoint_of_another_form_says_whose_it_is(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(3)
    runner = life.session._runner
    assert runner is not None
    found = checkpoint.of(TrainSpec(), runner)
    other = replace(found, kept=replace(found.kept, format=99, version="9.9"))
    life.keeper.put(lambda: other)
    life.die()
    with pytest.raises(WorkflowError, match=r"workflow-tui 9\.9"):
        checkpoint.read(life.keeper.path)


def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(
    live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "RETRY", 0.05)
    life = begin(live())
    life.advance(2)
    assert life.keeper.flush(5)
    whole = life.keeper.path.read_bytes()
    full = threading.Event()
    full.set()
    write = atomic.write

    def failing(path: Path, data: bytes, *, overwrite: bool, mode: int) -> Path:
        if full.is_set():
            raise atomic.problem(path, OSError(errno.ENOSPC, ""))
        return write(path, data, overwrite=overwrite, mode=mode)

    monkeypatch.setattr(atomic, "write", failing)
    life.advance(2)
    assert not life.keeper.flush(5)
    assert not life.keeper.kept
    assert life.session.unsaved
    life.advance(2)
    assert not life.keeper.flush(5)
    assert [problem.title for problem in life.problems] == ["The training is not being kept"]
    assert "disk is full" in life.problems[0].message
    assert life.keeper.path.read_bytes() == whole, "the earlier one stays whole"
    full.clear()
    deadline = time.monotonic() + 5
    while not life.keeper.kept:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not life.session.unsaved
    life.die()
    assert live().view.epoch == 6


def test_what_is_kept_is_for_nobody_else_whatever_the_umask(live: Callable[..., Life], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        life = begin(live())
        life.advance(2)
        assert life.keeper.flush(5)
        _tries(tmp_path / "run.tried")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (life.keeper.path, tmp_path / "run.tried")] == [0o600, 0o600]
    life.keeper.path.chmod(0o644)  # as an earlier version of the program has left it
    life.advance(1)
    assert life.keeper.flush(5)
    assert life.keeper.path.stat().st_mode & 0o777 == 0o600


def test_a_checkpoint_is_never_ahead_of_the_record(live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch) -> None:
    life = begin(live())
    life.advance(2)
    assert life.keeper.flush(5)
    whole = life.keeper.path.read_bytes()
    monkeypatch.setattr(life.keeper, "_record", lambda timeout: False)
    life.advance(2)
    assert not life.keeper.flush(5)
    assert life.keeper.path.read_bytes() == whole


def test_a_checkpoint_is_not_in_place_before_its_record_outlasts_a_power_cut(
    live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    life = begin(live())
    assert life.store.flush(5)
    file, log = life.store.path, life.store.path.with_name("workspace.sqlite-wal")
    first = file.read_bytes()  # so few epochs stay in the log
    written = b""
    left: list[tuple[int, Path]] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        nonlocal written
        fsync(descriptor)
        if os.path.samestat(os.fstat(descriptor), log.stat()):
            written = log.read_bytes()

    def renamed(source: Path, target: Path) -> None:
        """A power cut comes just then: of the log is left what was written for sure, and the new name is there."""
        rename(source, target)
        folder = tmp_path / f"cut{len(left)}"
        folder.mkdir()
        for name, there in ((file.name, first), (log.name, written), ("run.pt", target.read_bytes())):
            (folder / name).write_bytes(there)
        left.append((kept_epoch(folder / "run.pt"), folder))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    for _ in range(4):
        life.advance(3)
        assert life.keeper.flush(5)
    life.die()
    assert {epoch for epoch, _ in left} >= {3, 6, 9, 12}
    monkeypatch.undo()
    for epoch, folder in left:
        back = live(folder.name)
        assert (back.problems, back.history.epochs) == ([], epoch)
        back.train()
        assert back.view.state == "finished"


def test_while_it_trains_one_is_made_when_it_is_time(
    live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SHARE", 0)
    life = begin(live(), epochs=10**6)
    life.keeper._interval = 0.2
    made: list[int] = []
    put = life.keeper.put

    def noted(make: Callable[[], checkpoint.Checkpoint]) -> None:
        made.append(life.view.epoch)
        put(make)

    monkeypatch.setattr(life.keeper, "put", noted)
    life(Run())
    life.session.advance(life.inbox, until=time.monotonic() + 1.1)
    assert 4 <= len(made) <= 8
    assert made == sorted(made)
    assert life.keeper.flush(5)
    found = checkpoint.read(life.keeper.path)
    assert found is not None
    assert found.kept.run is not None
    assert found.state is not None
    assert (found.kept.run.view.state, found.kept.run.view.epoch) == ("running", found.state["epoch"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_engine_within_a_second_and_nothing_is_lost(
    workspace: Workspace, attach: Attach, number: signal.Signals
) -> None:
    ui = await attach(workspace)
    await ui.request(MakeData(spec=DataSpec(step=0.0001, noise=0.1)))
    await ui.request(SetTraining(spec=TrainSpec(epochs=1_000_000, batch_size=8, device="cpu")))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.state.get("training") and (ui.training.epoch or ui.training.batch))
    child = child_of(workspace)
    assert child is not None
    begun = time.monotonic()
    os.kill(child.pid, number)
    assert child.wait(10) == 0
    assert time.monotonic() - begun < 1.5
    await ui.until(lambda: ui.lost)
    told = ui.training
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    assert ui.training.state == "paused"
    assert (ui.training.epoch, ui.training.batch) >= (told.epoch, told.batch)
    assert ui.notices == []


def test_a_state_that_cannot_be_copied_ends_no_training(
    live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    life = begin(live())
    life.advance(2)
    runner = life.session._runner
    assert runner is not None

    def broken() -> Any:
        raise MemoryError

    monkeypatch.setattr(runner.trainer, "state", broken)
    monkeypatch.setattr(runner.kept, "offer", lambda epoch, make: None)
    life.keeper._due = 0.0
    life.train()
    assert life.view.state == "finished"
    assert [problem.message for problem in life.problems] == [
        "no checkpoint of it can be written: its state cannot be copied (MemoryError). The training goes on."
    ]
    assert life.session.unsaved


class Slow:
    """A keeper of which is told what it tells, and how its checkpoints are made or cannot be."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.goes_on = threading.Event()
        self.begun = threading.Event()
        self.keeper = Keeper(folder / "run.pt", self._record, self.take)

    def _record(self, timeout: float) -> bool:
        self.begun.set()
        return self.goes_on.wait(10)

    def take(self, problem: Problem | None) -> None:
        self.told.append("over" if problem is None else problem.message)

    def put(self) -> None:
        self.keeper.put(Packed)  # type: ignore[arg-type]

    def put_broken(self) -> None:
        def broken() -> checkpoint.Checkpoint:
            raise MemoryError

        self.keeper.put(broken)


class Packed:
    """As much of a checkpoint as a keeper needs."""

    def packed(self) -> bytes:
        return b"some"


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    own = Slow(tmp_path)
    yield own
    own.goes_on.set()
    own.keeper.close(5)


def test_an_earlier_checkpoint_that_is_written_does_not_end_that_the_newest_cannot_be_made(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workflow_core.engine.keeper")
    slow.put()
    assert slow.begun.wait(10)
    slow.put_broken()
    slow.goes_on.set()
    assert slow.keeper.flush(10)
    slow.put_broken()
    assert len(slow.told) == 1
    assert "its state cannot be copied (MemoryError)" in slow.told[0]
    assert not slow.keeper.kept
    slow.put()
    assert slow.keeper.flush(10)
    assert slow.told[1:] == ["over"]
    assert slow.keeper.kept
    assert caplog.messages[-1] == "a checkpoint is kept again"
    slow.put_broken()
    assert len(slow.told) == 3, "it is told again"


def test_a_checkpoint_that_is_written_while_a_trouble_is_told_does_not_end_it(slow: Slow) -> None:
    def take(problem: Problem | None) -> None:
        slow.take(problem)
        if problem is not None:
            slow.goes_on.set()
            assert slow.keeper.flush(10)

    slow.keeper._tell = take
    slow.put()
    assert slow.begun.wait(10)
    slow.put_broken()
    assert [each == "over" for each in slow.told] == [False]


def test_a_trouble_is_over_when_what_was_put_since_is_written_and_not_before(slow: Slow) -> None:
    slow.put()
    assert slow.begun.wait(10)
    slow.put_broken()
    told: list[tuple[str, bytes]] = []
    slow.keeper._tell = lambda problem: told.append(("over", slow.keeper.path.read_bytes()))
    newest = Packed()
    newest.packed = lambda: b"newest"  # type: ignore[method-assign]
    slow.keeper.put(lambda: newest)  # type: ignore[arg-type,return-value]
    slow.goes_on.set()
    assert slow.keeper.flush(10)
    assert told == [("over", b"newest")]


def test_a_run_that_is_discarded_takes_its_trouble_with_it(slow: Slow) -> None:
    slow.goes_on.set()
    slow.put_broken()
    assert not slow.keeper.kept
    slow.keeper.drop()
    assert slow.keeper.flush(10)
    assert slow.keeper.kept
    assert slow.told[1:] == ["over"]


@pytest.mark.parametrize(("tries", "back"), [(0, True), (2, True), (3, False)])
async def test_a_run_that_no_engine_lives_through_does_not_close_the_workspace(
    workspace: Workspace, attach: Attach, tries: int, back: bool
) -> None:
    ui = await attach(workspace)
    await ui.request(Run(epochs=5), timeout=60)
    await ui.until_state("paused")
    await ui.request(Shutdown())
    await ui.until(lambda: ui.lost)
    child = child_of(workspace)
    assert child is not None
    child.wait(10)
    (workspace.checkpoints / "run.tried").write_text(str(tries))
    ui = await attach(workspace)
    await ui.until(lambda: ui.state["engine"].state == "ready")
    assert (ui.state.get("training") is not None) == back
    assert bool(ui.notices) != back
    assert not (workspace.checkpoints / "run.tried").exists()
    assert (workspace.checkpoints / "run.pt").exists()


@pytest.mark.parametrize("what", ["the file is damaged", "its data are gone", "no engine lived through it"])
async def test_what_did_not_come_back_stays_beside_when_another_run_is_kept(
    workspace: Workspace, attach: Attach, tmp_path: Path, what: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("x,y\n" + "".join(f"{at},{2 * at}\n" for at in range(40)), encoding="utf-8")
    ui = await attach(workspace)
    await ui.request(MakeData(spec=DataSpec(kind="table", file=str(table), target="y", standardize=True)), timeout=60)
    await ui.request(Run(epochs=5), timeout=60)
    await ui.until_state("paused")
    await ui.request(Shutdown())
    child = child_of(workspace)
    assert child is not None
    await asyncio.to_thread(child.wait, 10)
    if what == "the file is damaged":
        workspace.kept_run.write_bytes(b"no archive")
    elif what == "its data are gone":
        table.unlink()
    else:
        (workspace.checkpoints / "run.tried").write_text("3")
    kept = workspace.kept_run.read_bytes()
    ui = await attach(workspace)
    await ui.until(lambda: ui.notices, 60)
    assert ui.state.get("training") is None
    aside = workspace.checkpoints / "run.old"
    (problem,) = [event.problem for event in ui.events if isinstance(event, Notice)]
    assert problem.advice.endswith(f"What was kept stays in {aside}.")
    await ui.request(Run(epochs=3), timeout=60)
    await ui.until_state("paused")
    async with asyncio.timeout(20):
        while workspace.kept_run.read_bytes() == kept:
            await asyncio.sleep(0.01)
    assert aside.read_bytes() == kept


def test_what_is_set_aside_where_there_are_no_hard_links_is_copied(
    live: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    life = begin(live())
    assert life.keeper.set_aside() is None
    life.advance(2)
    assert life.keeper.flush(5)
    kept = life.keeper.path.read_bytes()
    monkeypatch.setattr(os, "link", refused)
    aside = life.keeper.set_aside()
    assert aside is not None
    life.advance(2)
    assert life.keeper.flush(5)
    assert aside.read_bytes() == kept != life.keeper.path.read_bytes()
    assert aside.stat().st_mode & 0o777 == 0o600


async def test_an_engine_without_a_store_leaves_what_an_earlier_one_has_kept(
    workspace: Workspace, attach: Attach
) -> None:
    async def end(ui: Any) -> None:
        await ui.request(Shutdown())
        child = child_of(workspace)
        assert child is not None
        await asyncio.to_thread(child.wait, 10)

    ui = await attach(workspace)
    await ui.request(Run(epochs=5), timeout=60)
    before = await ui.until_state("paused")
    await end(ui)
    aside = workspace.store.rename(workspace.path / "aside")
    workspace.store.write_bytes(b"no database" * 1000)
    ui = await attach(workspace)
    await ui.request(Run(epochs=3), timeout=60)  # its number is that of the run that is kept
    await ui.until_state("paused")
    told = ui.notices[0]
    await end(ui)
    aside.replace(workspace.store)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("training"))
    assert (ui.training.run, ui.training.epoch, ui.training.parameters) == (1, 5, before.parameters)
    assert "gone with the engine" in told


def test_a_lane_that_was_taken_on_comes_back_as_one(live: Callable[..., Life]) -> None:
    life = live()
    rates = (TrainSpec(epochs=20, device="cpu"), TrainSpec(epochs=20, device="cpu", learning_rate=0.1))
    life(StartRace(lanes=rates), Pause())
    life(Run(epochs=4))
    while life.session.running:
        life.session.advance(life.inbox)
    life(Adopt(run=2))
    life.end()
    life = live()
    assert (life.view.run, life.view.epoch, life.view.spec) == (2, 4, rates[1])
    life.train()
    assert life.library.find(2).race == 1
    assert life.library.find(2).state == "finished"
