"""A run that loses its engine again and again ends as one that never did, whatever it is trained with."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tests.core.conftest import end_engine, until_kept
from tests.core.test_back import Life
from tests.core.test_train_state import plain
from tests.soak.cases import Act, Case, cases
from tests.soak.runs import digest
from tests.soak.table import sizes, tell

from workflow_core.history import History
from workflow_core.protocol import (
    BuildModel,
    Extend,
    MakeData,
    NextLine,
    Pause,
    Run,
    Save,
    SetLearningRate,
    SetPace,
    SetTraining,
    TrainingView,
)
from workflow_core.workspace import Workspace

OF_THEIR_TIME = ("elapsed", "rate", "capacity")
"""What a view tells of the clock."""


def shown(view: TrainingView, history: History) -> dict[str, Any]:
    """Every figure that a screen has of a run."""
    figures = {name: plain(getattr(view, name)) for name in view.__struct_fields__ if name not in OF_THEIR_TIME}
    return {**figures, "curves": plain(msgspec.to_builtins(history.to_data()))}


def begun(folder: Path, case: Case) -> Life:
    folder.mkdir()
    life = Life(folder)
    life(MakeData(spec=case.data), BuildModel(spec=case.model), SetTraining(spec=case.train))
    return life


def batches(life: Life) -> int:
    """How many are behind the run."""
    view = life.state["training"]
    return view.epoch * view.batches + view.batch if view is not None else 0


def over(life: Life) -> bool:
    view = life.state["training"]
    return view is not None and view.state in ("finished", "diverged", "failed")


def reach(life: Life, after: int) -> None:
    """Train until so many batches are done, where it does not end before."""
    if not over(life) and after > batches(life):
        life.advance(0, after - batches(life))


def ask(life: Life, act: Act) -> None:
    """What a user does to a run, in the middle of an epoch or between two."""
    if over(life) or life.state["training"] is None:
        return
    if act.what == "rate":
        life(SetLearningRate(learning_rate=act.value))
    elif batches(life):
        life(Extend(epochs=int(act.value)), Pause())


def lose(life: Life, act: Act, following: int) -> Life:
    """End the engine in one of its ways, and begin another one in the same workspace."""
    for _ in range(int(act.value) if act.what == "lines" else 0):
        if not over(life) and batches(life) < following:
            life(NextLine())
    kept = b""
    if act.what == "stale" and life.keeper.flush(5) and life.keeper.path.exists():
        kept = life.keeper.path.read_bytes()
        reach(life, min(batches(life) + int(act.value), following))
    life.end() if act.what in ("end", "lines") else life.die()
    if kept:
        life.keeper.path.write_bytes(kept)
    before = None if kept else life.state["training"]
    life = Life(life.keeper.path.parent)
    if before is not None and before.state != "ready":
        assert (life.view.epoch, life.view.batch, life.view.state) == (
            before.epoch,
            before.batch,
            before.state if over(life) else "paused",
        )
    return life


def lived(folder: Path, case: Case, acts: tuple[Act, ...]) -> dict[str, Any]:
    """Everything that is there at the end of a training: `acts` happen on the way."""
    life = begun(folder, case)
    for at, act in enumerate(acts):
        reach(life, act.after)
        if act.what in ("rate", "extend"):
            ask(life, act)
        else:
            life = lose(life, act, acts[at + 1].after if at + 1 < len(acts) else 10**9)
            if life.state["training"] is None:
                life(MakeData(spec=case.data), BuildModel(spec=case.model), SetTraining(spec=case.train))
    if not over(life):
        life.train()
    runner = life.session._runner
    assert runner is not None
    found = {
        "weights": digest(runner.trainer.model.state_dict()),
        "optimizer": plain(runner.trainer.optimizer_state()),
        "trainer": plain(runner.trainer.state()),
        "record": plain(life.recorded()),
        "runs": [(run.run, run.epochs, run.state) for run in life.store.runs(others=0)],
        **shown(life.view, life.history),
    }
    life.end()
    return found


@sizes(5, 300)
def test_whatever_it_is_trained_with_an_interrupted_run_is_the_one_that_never_was(count: int, tmp_path: Path) -> None:
    """Every optimizer, scheduler and kind of batches, interrupted at random batches."""
    seed = random.randrange(10**6)
    lost: list[str] = []
    ways: Counter[str] = Counter()
    for at, case in enumerate(itertools.islice(cases(seed, tmp_path), count)):
        whole = lived(tmp_path / f"whole{at}", case, case.asked)
        parts = lived(tmp_path / f"parts{at}", case, case.acts)
        ways.update(act.what for act in case.acts)
        ways[whole["state"]] += 1
        differing = [name for name in whole if whole[name] != parts[name]]
        if differing:
            lost.append(f"case {at} differs in {', '.join(differing)}: {case}")
    told = ", ".join(f"{number} {what}" for what, number in sorted(ways.items()))
    tell(f"trainings of every kind, each interrupted 4 times or more (seed {seed})", count, len(lost), told)
    assert not lost, (seed, lost[:5])


@sizes(1, 24)
async def test_a_run_of_any_kind_outlives_the_kill_of_its_engine(
    count: int, tmp_path: Path, attach: Callable[[Workspace], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real engines, ended by kill -9 twice a run: where it stands in the middle of an epoch, and while it trains."""
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.05")
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    lost: list[str] = []
    trained_again = 0
    for at, case in enumerate(itertools.islice(cases(seed, tmp_path), count)):
        whole = lived(tmp_path / f"whole{at}", case, ())
        workspace = Workspace.open(tmp_path / f"w{at}")
        ui = await attach(workspace)
        await ui.request(MakeData(spec=case.data), timeout=60)
        await ui.request(BuildModel(spec=case.model))
        await ui.request(SetTraining(spec=case.train))
        await ui.request(SetPace(pace=20.0))
        await ui.request(Run(steps=case.acts[0].after + 1), timeout=60)
        await ui.until_state("paused", "finished", "diverged")
        await until_kept(workspace)
        for kill in range(min(2, count)):
            if kill and ui.training.state in ("ready", "paused"):
                await ui.request(Run(), timeout=60)
                await asyncio.sleep(dice.uniform(0.0, 0.3))
            told = ui.training.epoch
            end_engine(workspace)
            await ui.client.close()
            ui = await attach(workspace)
            await ui.until(lambda ui=ui: ui.state.get("training"), 60)
            trained_again += max(told - ui.training.epoch, 0)
        await ui.request(SetPace(pace=None))
        if ui.training.state in ("ready", "paused"):
            await ui.request(Run(), timeout=60)
        await ui.until_state("finished", "diverged")
        path = tmp_path / f"{at}.pt"
        await ui.request(Save(path=str(path), kind="checkpoint"), timeout=60)
        saved = torch.load(path, weights_only=True)
        found = {
            "weights": digest(saved["model_state_dict"]),
            "optimizer": plain(saved["optimizer_state_dict"]),
            **shown(ui.training, ui.history),
        }
        differing = [name for name in found if whole[name] != found[name]]
        if differing:
            lost.append(f"case {at} differs in {', '.join(differing)}: {case}")
        end_engine(workspace)
    what = f"runs of every kind, their engines killed by -9 (seed {seed})"
    tell(what, count, len(lost), f"{trained_again} epochs trained again")
    assert not lost, (seed, lost[:5])
