"""`train` and `predict` do the workflow without the app, and behave as programs in a pipe should."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_core import headless, options
from workflow_core.options import PredictOptions, TrainOptions
from workflow_core.report import JsonReport, prediction_line
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
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


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which bad arguments are refused."""
    assert headless.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("workflow-tui")
    return captured.err


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
    assert finished["path"] is None
    assert not path.exists()
    assert headless.main(["train", "--lr", "1e6", "--epochs", "500"]) == 1
    assert "diverged at epoch" in capsys.readouterr().err


def test_plain_lines_tell_settings_epochs_metrics_and_gaps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    assert headless.main(["train", "--save", str(path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert "split 35/7/8 sequential" in out
    assert rows["training"] == ["mse,", "sgd,", "lr", "0.01,", "100", "epochs,", "cpu"]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch ")] == [
        *map(str, range(0, 100, 10)),
        "99",
    ]
    assert rows["epoch"] == ["99", "train", "0.003579", "val", "0.01888", "weight", "0.4398", "bias", "0.3607"]
    assert rows["test"][:2] == ["8", "0.03113"]
    assert rows["weight"] == ["0.7000", "0.4398", "0.2602"]
    assert rows["saved"] == [str(path.resolve())]
    assert headless.main(["train", "--split", "100/0/0", "--epochs", "1"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test")] == [
        ["test", "0", "-", "-", "-", "-"]
    ]


# --- options ---------------------------------------------------------------------------------------


def spec_of(*arguments: str) -> WorkflowSpec:
    found = options.parse(["train", *arguments])
    assert isinstance(found, TrainOptions)
    return found.spec


def test_defaults_are_those_of_the_specs() -> None:
    assert spec_of() == WorkflowSpec()


def test_every_option_reaches_the_spec() -> None:
    arguments = """--weight -1.5 --bias -3e-2 --start -1 --stop 2 --step .5 --noise 0.1 --seed 5 --split 0.5/0.25/0.25
        --shuffle --loss huber --optimizer adam --lr 1e-3 --epochs 7 --device cpu --init weight=-1,bias=0"""
    assert spec_of(*arguments.split()) == WorkflowSpec(
        data=DataSpec(
            weight=-1.5,
            bias=-0.03,
            start=-1,
            stop=2,
            step=0.5,
            noise=0.1,
            seed=5,
            split=SplitSpec(train=0.5, validation=0.25, test=0.25, order="shuffled", seed=5),
        ),
        model=ModelSpec(init=InitSpec(seed=5, values={"weight": -1, "bias": 0})),
        train=TrainSpec(loss="huber", optimizer="adam", learning_rate=1e-3, epochs=7, device="cpu"),
    )


@pytest.mark.parametrize("number", ["-3", "-3e-2", "-.5", "-1.5E+3", "-0"])
def test_negative_numbers_are_values_however_they_are_written(number: str) -> None:
    for arguments in (["--bias", number], [f"--bias={number}"], ["--shuffle", "--bias", number, "--json"]):
        assert spec_of(*arguments).data.bias == float(number)
    for arguments in (
        ["model.pt", "1", number],
        ["model.pt", "1", "--", number],
        ["model.pt", "--json", "1", number],
        ["--json", "model.pt", "1", number],
        ["--json", "--", "model.pt", "1", number],
    ):
        found = options.parse(["predict", *arguments])
        assert found == PredictOptions("model.pt", (1.0, float(number)), "--json" in arguments)
    assert options.parse(["predict", "--", "-1.pt", number]) == PredictOptions("-1.pt", (float(number),), False)


@pytest.mark.parametrize("order", [1, -1])
def test_own_seeds_win_over_the_common_one(order: int) -> None:
    seeds = ["--seed=1", "--noise-seed=2", "--shuffle-seed=3", "--init-seed=4"][::order]
    spec = spec_of(*seeds)
    assert (spec.data.seed, spec.data.split.seed, spec.model.init.seed) == (2, 3, 4)
    assert spec_of("--seed", "0", "--init-seed", "4").data.seed == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required"),
        ("fly", "invalid choice"),
        ("train --lr", "expected one argument"),
        ("train --lr much", "'much' is not a number"),
        ("train --lr 0", "the learning rate is 0"),
        ("train --lr nan", "finite"),
        ("train --bias -inf", "finite"),
        ("train --epochs 1.5", "not a whole number"),
        ("train --epochs 0", "epochs is 0"),
        ("train --every 0", "above 0"),
        ("train --split 70/20/20", "add up to 110"),
        ("train --split 0/50/50", "no rows"),
        ("train --split -1/50/51", "not a plain number"),
        ("train --step 0", "greater than 0"),
        ("train --start 1 --stop -1", "not above start"),
        ("train --seed -1", "whole number from 0"),
        ("train --init slope=1", "no parameter 'slope'"),
        ("train --init weight", "NAME=NUMBER"),
        ("train --optimizer lion", "invalid choice"),
        ("train --device gpu", "not known"),
        ("train --kind pickle", "invalid choice"),
        ("train --epoch 5", "unrecognized arguments"),
        ("train --eval 5\x1b[31m\n", "unrecognized arguments"),
        ("train extra", "unrecognized arguments"),
        ("train -5", "unrecognized arguments"),
        ("train --json -5", "--json"),
        ("train --seed=1 -5", "unrecognized arguments"),
        ("predict --lr 1 2", "unrecognized arguments"),
        ("predict model.pt -inf", "not a finite number"),
        ("predict", "FILE"),
        ("predict model.pt", "X"),
        ("predict model.pt 1 two", "'two' is not a number"),
        ("predict model.pt inf", "not a finite number"),
    ],
)
def test_bad_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    said = usage(capsys, *arguments.split(" ")) if arguments else usage(capsys)
    assert message in said
    assert "\x1b" not in said


@pytest.mark.parametrize("command", [[], ["train"], ["predict"]])
def test_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert headless.main([*command, "--help"]) == 0
    assert f"usage: {' '.join(['workflow-tui', *command])}" in capsys.readouterr().out


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


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.floats(allow_nan=False, allow_infinity=False))
def test_every_prediction_reads_back_to_the_last_bit(y_pred: float, x: float) -> None:
    said = prediction_line(x, y_pred, json=False).split()
    assert float(said[0]) == x
    assert struct.pack("f", float(said[1])) == struct.pack("f", y_pred)
    assert json.loads(prediction_line(x, y_pred, json=True)) == {"x": x, "y_pred": y_pred}


def test_a_checkpoint_knows_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    assert headless.main(["train", "--epochs", "3", "--save", str(path), "--kind", "checkpoint", "--seed", "9"]) == 0
    loaded = load(path)
    assert loaded.epoch == 3
    assert loaded.workflow == spec_of("--epochs", "3", "--seed", "9")


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

    monkeypatch.setattr(Trainer, "epoch", fail)
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


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGHUP)
        assert stopping.asked is None
        assert stopping.exit_status == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_the_program_at_once() -> None:
    with Stopping() as stopping:
        signal.raise_signal(signal.SIGTERM)
        assert stopping.asked == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


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
