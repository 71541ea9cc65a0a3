"""`train` and `predict` do the workflow without the app, and behave as programs in a pipe should."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from workflow_core import headless
from workflow_core.report import JsonReport
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data
from workflow_core.steps.load import load
from workflow_core.steps.train import EpochRecord, Trainer
from workflow_core.stopping import Stopping

DATA = Path(__file__).parents[1] / "data"
COURSE: dict[str, Any] = json.loads((DATA / "course_runs.json").read_text())
PROGRAM = [sys.executable, "-m", "workflow_core.headless"]
EVERY = 100
ENDLESS = ["train", "--json", "--every", str(EVERY), "--epochs", "1000000000"]


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """The JSON lines of `train --json` with these arguments."""
    assert headless.main(["train", "--json", *arguments]) == status
    return [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command fails."""
    assert headless.main(arguments) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


# --- what it says ----------------------------------------------------------------------------------


def test_json_lines_of_the_courses_run(capsys: pytest.CaptureFixture[str]) -> None:
    started, *epochs, finished = lines(capsys, "--every", "20", "--device", "cpu")
    assert started["event"] == "started"
    spec = WorkflowSpec(train=TrainSpec(device="cpu"))
    assert WorkflowSpec.from_builtins(started["spec"]) == spec
    assert started["rows"] == {"train": 35, "validation": 7, "test": 8}
    assert started["device"] == "cpu"
    assert started["torch"] == str(torch.__version__)
    reference = COURSE["04"]
    assert list(started["parameters"].values()) == pytest.approx(reference["init"], rel=1e-5)
    assert [line["epoch"] for line in epochs] == [0, 20, 40, 60, 80, 99]
    for line in epochs:
        assert line["event"] == "epoch"
        assert [line["train_loss"], line["val_loss"]] == pytest.approx(reference["hist"][str(line["epoch"])], rel=1e-5)
    assert list(epochs[-1]["parameters"].values()) == pytest.approx(reference["final"], rel=1e-5)
    assert finished["event"] == "finished"
    assert (finished["epochs"], finished["path"], finished["reason"]) == (100, None, "epochs")
    assert finished["train_loss"] == pytest.approx(reference["last_train"], rel=1e-5)
    assert finished["val_loss"] == pytest.approx(reference["last_val"], rel=1e-5)
    assert finished["test"]["mse"] == pytest.approx(reference["test"], rel=1e-5)
    assert set(finished["test"]) == {"mse", "mae", "rmse", "r2"}
    assert finished["parameters"] == epochs[-1]["parameters"]
    assert finished["elapsed"] > 0
    assert finished["epochs_per_second"] == pytest.approx(100 / finished["elapsed"])
    weight, bias = finished["parameters"].values()
    assert finished["coefficients"] == {"intercept": bias, "x": weight}
    assert finished["closed_form"] == pytest.approx({"intercept": 0.3, "x": 0.7}, rel=1e-6)
    assert finished["convergence"].startswith("Not converged: x is 0.26 ")
    assert (finished["best_epoch"], finished["best_loss"]) == (99, finished["val_loss"])
    assert all(line["learning_rate"] == 0.01 for line in epochs)


def test_figures_that_do_not_exist_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    _, *epochs, finished = lines(capsys, "--split", "100/0/0", "--epochs", "2", "--every", "5")
    assert [(line["epoch"], line["val_loss"]) for line in epochs] == [(0, None), (1, None)]
    assert finished["val_loss"] is None
    assert finished["test"] == {"mse": None, "mae": None, "rmse": None, "r2": None}


def test_without_every_there_are_no_epoch_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line["event"] for line in lines(capsys, "--epochs", "3")] == ["started", "finished"]


def test_a_diverged_run_is_valid_json_and_a_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    arguments = ("--lr", "1e6", "--epochs", "500", "--every", "100", "--save", str(path))
    *_, last, finished = lines(capsys, *arguments, status=1)
    assert finished["reason"] == f"diverged at epoch {last['epoch']}"
    assert finished["epochs"] == last["epoch"] + 1 < 500
    assert None in (last["train_loss"], last["val_loss"], *last["parameters"].values())
    assert None not in (*finished["parameters"].values(), *finished["coefficients"].values())
    assert "Not converged" in finished["convergence"]
    assert finished["path"] is None
    assert not path.exists()


def test_who_diverges_is_told_the_largest_stable_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    finished = lines(capsys, "--lr", "1.5", "--epochs", "5000", status=1)[-1]
    stable = finished["stable_learning_rate"]
    said = failure(capsys, "train", "--lr", "1.5", "--epochs", "5000")
    assert f"diverged at epoch {finished['epochs'] - 1}. " in said
    assert f"(--lr) below {stable:.4g}, the largest that is stable here" in said
    assert lines(capsys, "--lr", str(stable * 0.99), "--epochs", "5000")[-1]["reason"] == "epochs"
    assert lines(capsys, "--lr", str(stable * 1.05), "--epochs", "5000", status=1)[-1]["reason"].startswith("diverged")
    sigmoid = ["--model", "mlp", "--lr", "1e6", "--activation", "leaky_relu"]
    assert "Try a smaller learning rate" in failure(capsys, "train", *sigmoid)


def test_no_learning_rate_is_blamed_for_a_loss_that_never_was_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    large = ["train", "--weight", "1e30"]
    said = failure(capsys, *large, "--batch-size", "35")
    assert "loss was infinite before the first step already, which no learning rate mends: standardise" in said
    assert "(--lr)" not in said
    assert headless.main([*large, "--standardize", "--epochs", "1"]) == 0
    capsys.readouterr()
    # of batches some are from after the first steps
    assert "(--lr)" in failure(capsys, *large, "--batch-size", "34")
    model = tmp_path / "net.py"
    model.write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(1, 1)\n"
        "    def forward(self, x): return (super().forward(x) - 100).log()\n"
    )
    assert "loss was NaN before the first step" in failure(capsys, "train", "--model", f"{model}:Net", "--standardize")


def test_a_line_over_several_features_is_refused_with_the_flags_that_mend_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,y\n" + "".join(f"{i},{i * i},{i + 1}\n" for i in range(20)))
    said = failure(capsys, "train", "--data", str(table))
    for flags in (["--model", "linear"], ["--features", "a"]):
        assert flags[0] in said
        assert headless.main(["train", "--data", str(table), "--standardize", "--epochs", "1", *flags]) == 0
    capsys.readouterr()


def test_plain_lines_tell_settings_epochs_metrics_and_coefficients(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    assert headless.main(["train", "--save", str(path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert "50 rows, y = 0.7*x + 0.3, split 35/7/8 sequential" in out
    assert rows["training"] == ["mse,", "sgd,", "lr", "0.01,", "100", "epochs,", "cpu"]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch ")] == [
        *map(str, range(0, 100, 10)),
        "99",
    ]
    assert rows["epoch"] == ["99", "train", "0.003579", "val", "0.01888", "weight", "0.4398", "bias", "0.3607"]
    assert rows["test"][:2] == ["8", "0.03113"]
    assert [float(cell) for cell in rows["x"]] == pytest.approx([0.7, COURSE["04"]["final"][0], 0.7], rel=1e-5)
    assert "Not converged: x is 0.26 " in out
    assert rows["saved"] == [str(path.resolve())]
    assert headless.main(["train", "--split", "100/0/0", "--epochs", "1"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test")] == [
        ["test", "0", "-", "-", "-", "-"]
    ]


# --- what it trains --------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """score = 2·a - b + 1, with a column that nobody asked for."""
    path = tmp_path / "table.csv"
    rows = [f"{a},n{a},{b},{2 * a - b + 1}" for a in range(8) for b in range(5)]
    path.write_text("a,name,b,score\n" + "\n".join(rows) + "\n")
    return path


def test_a_table_and_a_model_of_several_features(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    arguments = ["--data", str(table), "--features", "a,b", "--target", "score", "--standardize", "--shuffle"]
    _, finished = lines(capsys, *arguments, "--model", "linear", "--lr", "0.5", "--epochs", "200")
    expected = {"intercept": 1.0, "a": 2.0, "b": -1.0}
    assert finished["coefficients"] == pytest.approx(expected, abs=1e-4)
    assert finished["closed_form"] == pytest.approx(expected, abs=1e-9)
    assert finished["convergence"].startswith("Converged")
    assert finished["parameters"]["linear.weight"][0] == pytest.approx(finished["parameters"]["linear.weight"][0])
    assert len(finished["parameters"]["linear.weight"][0]) == 2
    assert isinstance(finished["parameters"]["linear.bias"], float)
    assert finished["test"]["r2"] == pytest.approx(1, abs=1e-6)
    assert finished["stable_learning_rate"] > 0.5


def test_text_columns_are_refused_by_name(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    assert "name" in failure(capsys, "train", "--data", str(table), "--features", "a,name", "--model", "linear")


def test_a_spec_from_a_file_in_another_folder(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    spec = table.parent / "run.toml"
    spec.write_text(
        "[data]\nkind = 'table'\nfile = 'table.csv'\nfeatures = ['a', 'b']\n"
        "[model]\nkind = 'mlp'\nhidden = [4]\n[train]\noptimizer = 'adam'\nbatch_size = 8\nepochs = 3\n"
    )
    started, finished = lines(capsys, str(spec), "--epochs", "4")
    assert started["spec"]["data"]["file"] == str(table)
    assert finished["epochs"] == 4
    assert "coefficients" not in finished
    assert {name: len(value) for name, value in finished["parameters"].items() if isinstance(value, list)} == {
        "layers.0.weight": 4,
        "layers.0.bias": 4,
        "layers.2.weight": 1,
    }
    again = WorkflowSpec.from_builtins(started["spec"])
    spec.write_text(again.to_toml())
    assert lines(capsys, str(spec))[-1]["parameters"] == finished["parameters"]


def test_a_large_models_parameters_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    started, finished = lines(capsys, "--model", "mlp", "--hidden", "100,100", "--epochs", "1")
    assert started["parameters"] is finished["parameters"] is None


NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
    def forward(self, x):
        return self.layers(x)
class Broken(Net):
    def forward(self, x):
        return self.layer(x)
class Tired(Net):
    calls = 0
    def forward(self, x):
        Tired.calls += 1
        if Tired.calls > 20:
            raise SystemExit(3)
        return self.layers(x)
"""


def test_a_class_of_ones_own_from_training_to_prediction(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    net, path = tmp_path / "net.py", tmp_path / "model.pt"
    net.write_text(NET)
    arguments = ["--model", f"{net}:Net", "--model-arg", "width=3", "--epochs", "3", "--every", "1"]
    *_, finished = lines(capsys, *arguments, "--save", str(path), "--kind", "checkpoint")
    assert len(finished["parameters"]["layers.0.weight"]) == 3
    assert "--model" in failure(capsys, "predict", str(path), "0.5")
    assert headless.main(["predict", str(path), "0.5", "--model", f"{net}:Net"]) == 0
    assert len(capsys.readouterr().out.split()) == 2


def test_arguments_that_cannot_be_tried_out_are_given_to_the_prediction(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Lazy layers have no shapes before they have seen rows, so those of the file's arguments cannot be checked."""
    net, path = tmp_path / "net.py", tmp_path / "model.pt"
    net.write_text(NET.replace("nn.Linear(1, width)", "nn.LazyLinear(width)"))
    arguments = ["--model", f"{net}:Net", "--model-arg", "width=3", "--epochs", "1", "--save", str(path)]
    lines(capsys, *arguments, "--kind", "checkpoint")
    predict = ["predict", str(path), "0.5", "--model", f"{net}:Net"]
    assert "width=3, which cannot be tried out safely" in failure(capsys, *predict)
    assert headless.main([*predict, "--model-arg", "width=3"]) == 0
    assert len(capsys.readouterr().out.split()) == 2


def test_what_a_class_of_ones_own_prints_stands_in_nobodys_way(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = "    def forward(self, x):\n        print('forward')\n        return super().forward(x)\n"
    code += "\n    def train(self, mode=True):\n        print('train')\n        return super().train(mode)\n"
    (tmp_path / "loud.py").write_text(
        f"from torch import nn\n\n\nclass Loud(nn.Linear):\n    def __init__(self):\n"
        f"        super().__init__(1, 1)\n\n{code}"
    )
    assert (
        headless.main(["train", "--model", f"{tmp_path}/loud.py:Loud", "--epochs", "2", "--json", "--every", "1"]) == 0
    )
    out, err = capfd.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["started", "epoch", "epoch", "finished"]
    assert "forward" in err
    assert "train\n" in err


def test_what_is_wrong_in_the_users_own_file_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = tmp_path / "net.py"
    net.write_text(NET)
    said = failure(capsys, "train", "--model", f"{net}:Broken")
    assert "net.py" in said
    assert "line 12" in said
    assert "line 18" in failure(capsys, "train", "--json", "--model", f"{net}:Tired"), "in the middle of the training"
    assert "no such file" in failure(capsys, "train", "--model", f"{tmp_path / 'none.py'}:Net")


def test_early_stopping_ends_it_with_the_best_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    arguments = ["--formula", "sine", "--model", "polynomial", "--degree", "3", "--epochs", "5000", "--lr", "0.1"]
    arguments += ["--early-stop", "7", "--every", "1", "--save", str(path), "--kind", "checkpoint"]
    _, *epochs, finished = lines(capsys, *arguments)
    assert finished["reason"] == "early stop"
    best = finished["best_epoch"]
    assert finished["epochs"] == best + 1 + 7 == len(epochs)
    assert finished["best_loss"] == min(line["val_loss"] for line in epochs) == epochs[best]["val_loss"]
    loaded = load(path)
    assert loaded.epoch == best + 1
    assert loaded.contents["val_loss"] == finished["best_loss"]
    assert loaded.after == epochs[best]["parameters"]
    assert finished["parameters"]["linear.weight"][0][0] == epochs[best]["parameters"]["linear.weight[0]"]


def test_a_scheduled_learning_rate_is_told_with_every_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    _, *epochs, _ = lines(capsys, "--scheduler", "step", "--scheduler-epochs", "2", "--epochs", "5", "--every", "1")
    assert [line["learning_rate"] for line in epochs] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    assert all(line["grad_norm"] > 0 for line in epochs)


def test_a_missing_file_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')")
    for arguments in (["--data", "none.csv"], ["--data", "."], ["--model", "none.py:Net"]):
        done = subprocess.run(
            [*PROGRAM, "train", *arguments],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot be read" in done.stderr
        assert done.stderr.count("\n") == 1


# --- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["state_dict", "checkpoint"])
def test_save_then_predict(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.pt"
    *_, finished = lines(capsys, "--save", str(path), "--kind", kind)
    assert finished["path"] == str(path.resolve())
    loaded = load(path)
    assert loaded.file.kind == kind
    assert loaded.after == finished["parameters"]
    assert headless.main(["predict", str(path), "0.25", "-3e-2", "-1", "0.5", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    weight, bias = finished["parameters"].values()
    assert [line["x"] for line in found] == [0.25, -0.03, -1, 0.5]
    assert [line["y_pred"] for line in found] == pytest.approx([weight * line["x"] + bias for line in found], rel=1e-5)
    assert headless.main(["predict", str(path), "0.25", "-1"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["0.25", f"{found[0]['y_pred']:.9g}"],
        ["-1", f"{found[2]['y_pred']:.9g}"],
    ]


def test_a_checkpoint_knows_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    assert headless.main(["train", "--epochs", "3", "--save", str(path), "--kind", "checkpoint", "--seed", "9"]) == 0
    loaded = load(path)
    assert loaded.epoch == 3
    assert loaded.workflow is not None
    assert loaded.workflow.train == TrainSpec(epochs=3, batch_seed=9)
    assert loaded.workflow.data == DataSpec(seed=9, x_seed=9, split=SplitSpec(seed=9))


def test_predicting_from_several_features(capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    arguments = ["--data", str(table), "--features", "a,b", "--target", "score", "--standardize"]
    arguments += ["--model", "linear", "--lr", "0.5", "--epochs", "300", "--split", "100/0/0"]
    lines(capsys, *arguments, "--save", str(path), "--kind", "checkpoint")
    assert headless.main(["predict", str(path), "1,2", "-3,0.5"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1,2", "-3,0.5"]
    assert [float(row[1]) for row in rows] == pytest.approx([1.0, -5.5], abs=1e-3)
    said = failure(capsys, "predict", str(path), "1,2", "3")
    assert "3 is 1 number; the model predicts from 2 features: a, b." in said
    assert "1 feature: x." in failure(capsys, "predict", str(saved_line(tmp_path)), "1,2")


def saved_line(folder: Path) -> Path:
    path = folder / "line.pt"
    assert headless.main(["train", "--json", "--epochs", "1", "--save", str(path), "--overwrite"]) == 0
    return path


def test_a_bare_state_dict_of_another_model_needs_its_settings(
    capsys: pytest.CaptureFixture[str], table: Path, tmp_path: Path
) -> None:
    path, spec = tmp_path / "model.pt", tmp_path / "run.toml"
    arguments = ["--data", str(table), "--features", "a,b", "--standardize", "--model", "mlp", "--dtype", "float64"]
    assert headless.main(["train", *arguments, "--print-spec"]) == 0
    spec.write_text(capsys.readouterr().out)
    lines(capsys, str(spec), "--epochs", "2", "--save", str(path))
    said = failure(capsys, "predict", str(path), "1,2")
    assert "does not fit" in said
    assert "--spec" in said
    assert headless.main(["predict", str(path), "1,2", "--spec", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["x"] == [1, 2]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "_train", lambda _: pytest.fail("it began to train"))


@pytest.mark.usefixtures("no_training")
def test_where_nothing_can_be_saved_nothing_is_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("mine")
    assert "exists already" in failure(capsys, "train", "--save", str(path))
    assert "does not exist" in failure(capsys, "train", "--save", str(tmp_path / "no" / "model.pt"))
    assert "is a folder" in failure(capsys, "train", "--overwrite", "--save", str(tmp_path))
    assert "No file name" in failure(capsys, "train", "--save", "")
    assert path.read_text() == "mine"


def test_overwrite_replaces(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("mine")
    assert headless.main(["train", "--epochs", "1", "--save", str(path), "--overwrite"]) == 0
    assert load(path).file.verified
    assert os.listdir(tmp_path) == ["model.pt"]


def test_what_was_learnt_is_reported_even_if_the_save_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "")

    monkeypatch.setattr(os, "fsync", fail)
    assert headless.main(["train", "--json", "--epochs", "2", "--save", str(tmp_path / "model.pt")]) == 1
    captured = capsys.readouterr()
    finished = json.loads(captured.out.splitlines()[-1])
    assert (finished["event"], finished["path"], finished["epochs"]) == ("finished", None, 2)
    assert "the disk is full" in captured.err


def test_failures_are_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("hello\x1b[31m")
    assert "not a file that PyTorch saved" in failure(capsys, "predict", str(text), "1")
    assert "no such file" in failure(capsys, "predict", str(tmp_path / "none.pt"), "1")
    assert "cannot tell values apart" in failure(
        capsys, "train", "--start", "1e8", "--stop", "100000001", "--step", "1e-3"
    )
    if not torch.cuda.is_available():
        assert "this machine has" in failure(capsys, "train", "--device", "cuda:7")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "The system refused what is needed here: cannot allocate"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x\x1b[31m"), "no such file or directory"),
        (RuntimeError("the \x1b[31mkernel failed.\nException raised from here"), "PyTorch failed: the"),
        (RuntimeError(), "PyTorch failed: RuntimeError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_fails_in_a_training_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "advance", fail)
    said = failure(capsys, "train")
    assert message in said
    assert "output" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("cause", ["ImportError", "OSError"])
@pytest.mark.parametrize("command", [["train"], ["predict", "model.pt", "1"]])
def test_a_torch_that_cannot_be_loaded_is_one_sentence(tmp_path: Path, cause: str, command: list[str]) -> None:
    (tmp_path / "torch.py").write_text(f"raise {cause}('libtorch.so: cannot open\\nmore')")
    done = subprocess.run(
        [*PROGRAM, *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("workflow-tui: PyTorch cannot be loaded: libtorch.so: cannot open. ")
    assert done.stderr.count("\n") == 1


def test_a_current_folder_that_is_gone_is_one_sentence_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')")
    script = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", tmp_path / "gone", PROGRAM[0], "-P", *PROGRAM[1:], "train"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("workflow-tui: The current folder has been removed")
    assert done.stderr.count("\n") == 1


# --- as a process ----------------------------------------------------------------------------------


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training that only a signal ends, once it has told of some epochs."""
    process = subprocess.Popen(
        [*PROGRAM, *ENDLESS, "--save", str(tmp_path / "model.pt"), "--kind", "checkpoint"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        while json.loads(output(process).readline()).get("epoch") != EVERY:
            pass
        yield process
        process.kill()
        watchdog.cancel()


def output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def complaints(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def test_ctrl_c_ends_the_training_with_what_was_learnt(endless: subprocess.Popen[str], tmp_path: Path) -> None:
    endless.send_signal(signal.SIGINT)
    *epochs, finished = map(json.loads, output(endless).read().splitlines())
    assert endless.wait(30) == 130
    assert complaints(endless) == ""
    assert finished["reason"] == "interrupted"
    last = epochs[-1]["epoch"] if epochs else EVERY
    assert finished["epochs"] == last + 1
    loaded = load(tmp_path / "model.pt")
    assert loaded.epoch == finished["epochs"]
    assert loaded.after == finished["parameters"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_it_at_the_next_epoch_too(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    def epoch(report: JsonReport, record: EpochRecord) -> None:
        if record.epoch == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(JsonReport, "epoch", epoch)
    before = signal.getsignal(number)
    path = tmp_path / "model.pt"
    _, finished = lines(capsys, "--save", str(path), status=status)
    assert (finished["epochs"], finished["reason"]) == (4, "interrupted")
    assert load(path).after == finished["parameters"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("epochs", "batches"), [(0, 3), (2, 1)])
def test_a_signal_in_the_middle_of_an_epoch_ends_it_after_the_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epochs: int, batches: int
) -> None:
    step, calls = torch.optim.SGD.step, iter(range(100))

    def ask(self: torch.optim.SGD) -> None:
        step(self)
        if next(calls) == epochs * 4 + batches - 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(torch.optim.SGD, "step", ask)
    path = tmp_path / "model.pt"
    _, finished = lines(
        capsys, "--batch-size", "10", "--save", str(path), "--kind", "checkpoint", status=128 + signal.SIGTERM
    )
    assert finished["reason"] == "interrupted"
    assert [finished[name] for name in ("epochs", "batch", "batches")] == [epochs, batches, 4]
    assert (finished["train_loss"] is None) == (epochs == 0)
    file = load(path)
    assert file.after == finished["parameters"]
    kept = [file.contents[name] for name in ("epoch", "batch", "batches", "train_loss", "val_loss")]
    assert kept == [epochs, batches, 4, None, None]
    plain = Trainer(build.build(ModelSpec()), data.make(DataSpec()), TrainSpec(batch_size=10))
    for _ in range(epochs):
        plain.epoch()
    plain.advance(batches=batches)
    assert plain.tracked.read() == file.after


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGHUP)
        assert stopping.asked is None
        assert stopping.exit_status == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("first", "then", "ends"),
    [
        (signal.SIGTERM, signal.SIGTERM, True),
        (signal.SIGINT, signal.SIGINT, True),
        (signal.SIGHUP, signal.SIGTERM, True),
        (signal.SIGTERM, signal.SIGHUP, True),
        (signal.SIGHUP, signal.SIGHUP, False),  # one line that is dropped may say so twice
    ],
)
def test_a_second_signal_ends_the_program_at_once_even_in_c_code(
    first: signal.Signals, then: signal.Signals, ends: bool
) -> None:
    program = """
import hashlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in the background
from workflow_core.stopping import Stopping
with Stopping():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert output(process).readline() == "ready\n"
            process.send_signal(first)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.send_signal(then)
            if ends:
                assert process.wait(5) == 128 + then
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
        finally:
            process.kill()


@pytest.mark.parametrize("arguments", [["train", "--json", "--data", "nofile.csv", "--target", "y"], ["ls", "nowhere"]])
def test_without_a_standard_error_nothing_of_it_goes_to_standard_output(arguments: list[str], tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-P", "-m", "workflow_tui.cli", *arguments]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert (done.stdout, done.returncode) == ("", 1)


def test_a_closed_pipe_ends_it_silently(endless: subprocess.Popen[str], tmp_path: Path) -> None:
    output(endless).close()
    assert endless.wait(30) == 141
    assert complaints(endless) == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize("arguments", [["train", "--epochs", "2"], ["train", "--help"]])
def test_a_full_disk_behind_stdout_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert headless.main(arguments) == 1
    assert capsys.readouterr().err == "workflow-tui: The output cannot be written: no space left on device.\n"
