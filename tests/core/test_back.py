"""A run comes back in another engine as it stood, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.test_session import Bench
from tests.core.test_train_state import plain

from workflow_core.engine import checkpoint
from workflow_core.engine.keeper import Keeper
from workflow_core.engine.session import Session
from workflow_core.errors import Problem
from workflow_core.launcher import child_of
from workflow_core.protocol import BuildModel, MakeData, Pause, ReadSeries, Run, SetTraining, Shutdown
from workflow_core.specs import OPTIMIZERS, DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer
from workflow_core.store import Store
from workflow_core.workspace import Workspace

Attach = Callable[[Workspace], Any]
NOISY = DataSpec(noise=0.05)
NETWORK = ModelSpec(kind="mlp", hidden=(6,), dropout=0.2)


class Life(Bench):
    """The life of one engine in a workspace: `end` closes it, `die` leaves everything as a kill would."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "workspace.sqlite")
        super().__init__(folder, self.store)
        self.problems: list[Problem] = []
        self.keeper = Keeper(folder / "run.pt", self.store.flush, self.problems.append)
        self.session = Session(self.take, folder, self.library, self.keeper)
        found = checkpoint.read(self.keeper.path)
        if found is not None:
            self.session.restore(found)

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
