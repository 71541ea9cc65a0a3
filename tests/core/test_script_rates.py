"""A script of a run that was given learning rates by hand comes to what that run came to, bit for bit."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_session import Bench

from workflow_core.engine import runner
from workflow_core.errors import WorkflowError
from workflow_core.protocol import BuildModel, MakeData, Reset, Save, SetLearningRate, SetTraining
from workflow_core.scripts import lines, script
from workflow_core.specs import SCHEDULERS, DataSpec, ModelSpec, TrainSpec, WorkflowSpec

DATA = DataSpec(noise=0.1)
TRAININGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"optimizer": "adam", "batch_size": 8},
    "rmsprop": {"optimizer": "rmsprop", "clip": 0.5},
    "lbfgs": {"optimizer": "lbfgs", "batch_size": 20},
    "early stop": {"momentum": 0.9, "early_stop": 4},
}
BY_HAND = {0: (0.017,), 3: (0.5, 0.0137, 0.1 / 3), 4: (0.03,), 9: (0.3,), 13: (0.07,)}
"""For epochs, the rates that are set before it: the last of them counts."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def by_hand(folder: Path, training: TrainSpec, rates: dict[int, tuple[float, ...]]) -> Bench:
    """A run of the engine's session whose learning rate is changed between epochs, as it is in the app."""
    bench = Bench(folder)
    bench(MakeData(spec=DATA), BuildModel(spec=ModelSpec()), SetTraining(spec=training))
    bench.train(1)
    bench(Reset())
    for epoch, changes in rates.items():
        while bench.view.epoch < epoch and bench.view.state in ("ready", "paused"):
            bench.train(1)
        for rate in changes:
            if bench.view.state in ("ready", "paused"):
                bench(SetLearningRate(learning_rate=rate))
    if bench.view.state in ("ready", "paused"):
        bench.train()
    return bench


def execute(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "script.py", "exec"), namespace)
    return namespace


def found_by(bench: Bench, folder: Path) -> dict[str, list[float]]:
    bench(Save(path="run.pt"))
    return {name: values.tolist() for name, values in torch.load(folder / "run.pt", weights_only=True).items()}


def written_by(bench: Bench, folder: Path, **settings: Any) -> dict[str, Any]:
    spec = WorkflowSpec(data=DATA, train=bench.view.spec)
    return execute(script(spec, path=str(folder / "script.pt"), **settings))


@pytest.mark.parametrize(
    ("training", "scheduler"),
    [*(("sgd", each) for each in SCHEDULERS), *zip(list(TRAININGS)[1:], SCHEDULERS[1:], strict=True)],
)
def test_rates_set_by_hand_are_followed_under_every_scheduler(training: str, scheduler: Any, tmp_path: Path) -> None:
    spec = TrainSpec(
        **TRAININGS[training], epochs=20, scheduler=scheduler, scheduler_epochs=2, scheduler_factor=0.3, device="cpu"
    )
    bench = by_hand(tmp_path, spec, BY_HAND)
    changes = bench.view.lr_changes
    assert len(changes) >= (2 if training == "early stop" else 5)
    wanted = found_by(bench, tmp_path)
    ran = written_by(bench, tmp_path, lr_changes=changes)
    assert {name: values.tolist() for name, values in ran["model"].state_dict().items()} == wanted
    assert ran["epoch"] + 1 == bench.view.epoch
    assert bench.session._runner
    assert ran["optimizer"].param_groups[0]["lr"] == bench.session._runner.trainer.learning_rate
    untouched = written_by(bench, tmp_path)["model"].state_dict()
    assert {name: values.tolist() for name, values in untouched.items()} != wanted


def test_a_rate_that_a_schedule_took_to_nothing_is_set_anew(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=50, scheduler="step", scheduler_epochs=1, scheduler_factor=1e-9, device="cpu")
    bench = by_hand(tmp_path, spec, {45: (0.1,)})
    assert bench.history.series["learning_rate"].last[44:46] == [0.0, 0.1]
    ran = written_by(bench, tmp_path, lr_changes=bench.view.lr_changes)
    assert {name: values.tolist() for name, values in ran["model"].state_dict().items()} == found_by(bench, tmp_path)


def test_a_run_that_diverges_by_hand_diverges_in_the_script(tmp_path: Path) -> None:
    bench = by_hand(tmp_path, TrainSpec(epochs=4000, device="cpu"), {5: (900.0,)})
    assert bench.view.state == "diverged"
    with pytest.raises(SystemExit, match=f"^epoch {bench.view.first_bad}: training diverged"):
        written_by(bench, tmp_path, lr_changes=bench.view.lr_changes)
    written_by(bench, tmp_path)


def test_all_changes_of_a_run_are_remembered_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_CHANGES", 3)
    rates = {2: 0.1, 3: 0.2, 5: 0.3}
    bench = Bench(tmp_path)
    for at, (epoch, rate) in enumerate(rates.items()):
        bench.train(epoch - [0, *rates][at])
        bench(SetLearningRate(learning_rate=rate + 1), SetLearningRate(learning_rate=rate))
    bench.train(1)
    with pytest.raises(WorkflowError, match="3 times already"):
        bench(SetLearningRate(learning_rate=0.4))
    assert bench.view.lr_changes == tuple(rates.items())
    assert bench.view.learning_rate == 0.3


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 10**9), st.floats(0, 1e6, exclude_min=True), max_size=60))
def test_every_rate_reads_back_as_it_was(changes: dict[int, float]) -> None:
    tree = ast.parse(script(WorkflowSpec(), lr_changes=tuple(changes.items())))
    found = [ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.Dict) and _plain(node)]
    assert (changes in found) == bool(changes)
    assert "lr_changes" not in lines("train", WorkflowSpec())


def _plain(node: ast.Dict) -> bool:
    return all(isinstance(part, ast.Constant) for part in (*node.keys, *node.values))
