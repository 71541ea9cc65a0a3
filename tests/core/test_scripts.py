"""The code that a learner reads must be the code that runs: equal to the steps bit for bit, and safe to open."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_core import devices
from workflow_core.protocol import StepName
from workflow_core.scripts import ONE_THREAD_ROWS, lines, script
from workflow_core.specs import (
    LOSSES,
    OPTIMIZERS,
    DataSpec,
    InitSpec,
    Loss,
    ModelSpec,
    Optimizer,
    SaveKind,
    SplitSpec,
    TrainSpec,
    WorkflowSpec,
)
from workflow_core.steps import build, data, evaluate, load, train

STEPS: tuple[StepName, ...] = get_args(StepName)
CHECKPOINT: SaveKind = "checkpoint"
IMPORTS = "import math\nimport torch\nfrom torch import nn\n"

DEFAULT = WorkflowSpec()
SPECS = {
    "default": DEFAULT,
    "noise": WorkflowSpec(data=DataSpec(noise=0.1, seed=7)),
    "shuffled noise": WorkflowSpec(data=DataSpec(noise=0.05, split=SplitSpec(order="shuffled", seed=3))),
    "adam": WorkflowSpec(train=TrainSpec(optimizer="adam", learning_rate=0.03)),
    "adamw, huber": WorkflowSpec(train=TrainSpec(optimizer="adamw", loss="huber")),
    "rmsprop, smooth_l1": WorkflowSpec(train=TrainSpec(optimizer="rmsprop", loss="smooth_l1", epochs=37)),
    "adagrad, l1": WorkflowSpec(train=TrainSpec(optimizer="adagrad", loss="l1", learning_rate=0.1)),
    "given start": WorkflowSpec(model=ModelSpec(init=InitSpec(seed=5, values={"bias": -0.25, "weight": 1.0}))),
    "one given": WorkflowSpec(model=ModelSpec(init=InitSpec(values={"bias": 0.0}))),
    "training alone": WorkflowSpec(data=DataSpec(split=SplitSpec(train=1.0, validation=0.0, test=0.0))),
    "no validation": WorkflowSpec(data=DataSpec(split=SplitSpec(train=0.8, validation=0.0, test=0.2))),
    "constant y, whole numbers": WorkflowSpec(data=DataSpec(weight=0, bias=-2, start=-3, stop=9, step=1)),
    "odd range": WorkflowSpec(data=DataSpec(weight=-1.3e-3, bias=1e3, start=-0.1, stop=0.7, step=0.013)),
    "many rows": WorkflowSpec(
        data=DataSpec(step=1 / 48_000, noise=0.3, split=SplitSpec(order="shuffled")), train=TrainSpec(epochs=4)
    ),
}


@pytest.fixture(autouse=True)
def _threads() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def execute(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "script.py", "exec"), namespace)
    return namespace


def bits(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: bytes(p.detach().cpu().view(torch.uint8).tolist()) for name, p in model.state_dict().items()}


@pytest.mark.parametrize("kind", get_args(SaveKind))
@pytest.mark.parametrize("name", SPECS)
def test_the_script_gives_the_bits_of_the_steps(
    name: str, kind: SaveKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, path = SPECS[name], tmp_path / "model.pt"
    ran = execute(script(spec, path=str(path), kind=kind))

    devices.set_threads(spec.data.rows)
    dataset = data.make(spec.data)
    model = build.build(spec.model)
    last = list(train.train(model, dataset, spec.train))[-1]
    assert torch.equal(ran["y"], dataset.y if "order" not in ran else dataset.y[ran["order"]])
    assert bits(ran["model"]) == bits(model)
    assert ran["loss"].item() == last.train_loss
    assert (ran["val_loss"].item() if "val_loss" in ran else None) == last.val_loss

    for split, metrics in evaluate.evaluate(model, dataset).items():
        if metrics is None:
            assert split not in ran["results"]
        else:
            wanted = {"mse": metrics.mse, "mae": metrics.mae, "rmse": metrics.rmse, "r2": metrics.r2}
            assert ran["results"][split] == wanted

    loaded = load.load(path)
    assert loaded.file.kind == kind
    assert bits(loaded.model) == bits(model)
    assert ran["equal"] is True
    printed = capsys.readouterr().out
    assert f"{last.parameters['weight']!r}" in printed, "final figures are printed in full"
    assert printed.count("\nepoch ") in range(4, 12)


def test_the_panes_read_one_after_the_other_do_the_same(tmp_path: Path) -> None:
    spec, path = SPECS["shuffled noise"], str(tmp_path / "model.pt")
    text = IMPORTS + "".join(lines(step, spec, path=path, kind=CHECKPOINT) for step in STEPS)
    assert bits(execute(text)["fresh_model"]) == bits(execute(script(spec, path=path))["model"])


@pytest.mark.parametrize("rate", [1.5, 1e3])
def test_a_diverging_script_stops_where_the_step_stops(rate: float, tmp_path: Path) -> None:
    spec = WorkflowSpec(train=TrainSpec(learning_rate=rate, epochs=2000))
    records = list(train.train(build.build(spec.model), data.make(spec.data), spec.train))
    assert not records[-1].finite
    with pytest.raises(SystemExit, match=f"^epoch {records[-1].epoch}: training diverged"):
        execute(script(spec, path=str(tmp_path / "model.pt")))
    assert not list(tmp_path.iterdir())


def test_the_script_runs_by_itself_in_a_bare_interpreter(tmp_path: Path) -> None:
    text = script(DEFAULT)
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"math", "torch"}
    (tmp_path / "workflow.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "workflow.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'weight': 0.4398179352283478" in done.stdout
    assert "predictions equal: True" in done.stdout
    assert (tmp_path / "model.pt").exists()


def test_one_thread_is_used_where_the_steps_use_one() -> None:
    assert ONE_THREAD_ROWS == devices.SMALL


def strings(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def shape(tree: ast.AST, path: str) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == path:
            node.value = "THE PATH"
    return ast.dump(tree)


@given(path=st.text(st.characters(), min_size=1).filter(lambda text: text not in strings(ast.parse(script(DEFAULT)))))
def test_no_path_breaks_out_of_its_string(path: str) -> None:
    for kind in ("state_dict", CHECKPOINT):
        text = script(DEFAULT, path=path, kind=kind)
        text.encode("utf-8")
        tree = ast.parse(text)
        assert strings(tree).count(path) == 2, "saved to and loaded from it, letter by letter"
        assert shape(tree, path) == shape(ast.parse(script(DEFAULT, kind=kind)), "model.pt")


@pytest.mark.parametrize(
    "path", ["'", '"', '"""', "\\", "\\'", "a\nb", "\r", "\0", "\u2028", "{x}", "%s", "\udcff", "ü/数.pt"]
)
def test_awkward_paths_stay_strings(path: str) -> None:
    for step in ("save", "load"):
        assert path in strings(ast.parse(lines(step, DEFAULT, path=path)))


numbers = st.floats(-1e30, 1e30)
seeds = st.integers(0, 2**63 - 1)


@given(
    weight=numbers,
    bias=numbers,
    noise=st.floats(0, 1e30, exclude_min=True),
    start=st.floats(-1e6, 1e6),
    seed=seeds,
    init=st.dictionaries(st.sampled_from(["weight", "bias"]), numbers),
    rate=st.floats(0, 1e6, exclude_min=True),
    loss=st.sampled_from(LOSSES),
    optimizer=st.sampled_from(OPTIMIZERS),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
)
def test_every_number_reads_back_as_it_was(
    weight: float,
    bias: float,
    noise: float,
    start: float,
    seed: int,
    init: dict[str, float],
    rate: float,
    loss: Loss,
    optimizer: Optimizer,
    device: str,
) -> None:
    split = SplitSpec(order="shuffled", seed=seed // 2)
    spec = WorkflowSpec(
        data=DataSpec(
            weight=weight, bias=bias, start=start, stop=start + 50, step=1, noise=noise, seed=seed, split=split
        ),
        model=ModelSpec(init=InitSpec(seed=seed // 3, values=init)),
        train=TrainSpec(learning_rate=rate, loss=loss, optimizer=optimizer, device=device),
    )
    found = [literal(node) for node in ast.walk(ast.parse(script(spec)))]
    wanted = [weight, bias, noise, start, rate, seed, seed // 2, seed // 3, *init.values()]
    for number in wanted:
        assert number in found
    assert device == "auto" or device in found


def literal(node: ast.AST) -> object:
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except ValueError:
        return None
