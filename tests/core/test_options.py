"""The command line says everything that a spec says, wins over its file, and refuses in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_core import flags, headless, options
from workflow_core.errors import WorkflowError
from workflow_core.options import PredictOptions, TrainOptions
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec


def asked(*arguments: str) -> TrainOptions:
    found = options.parse(["train", *arguments])
    assert isinstance(found, TrainOptions)
    return found


def spec_of(*arguments: str) -> WorkflowSpec:
    return asked(*arguments).spec


def wish(*arguments: str) -> PredictOptions:
    found = options.parse(["predict", *arguments])
    assert isinstance(found, PredictOptions)
    return found


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which bad arguments are refused."""
    assert headless.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("workflow-tui")
    return captured.err


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A file of settings that differ from the defaults in all three parts."""
    path = tmp_path / "settings" / "run.toml"
    path.parent.mkdir()
    path.write_text(
        "[data]\nkind = 'table'\nfile = 'table.csv'\nfeatures = ['a', 'b']\ntarget = 'y'\nheader = false\nseed = 1\n"
        "[data.split]\norder = 'shuffled'\n"
        "[model]\nkind = 'custom'\nfile = '../net.py'\nclass_name = 'Net'\narguments = {width = 8, deep = true}\n"
        "[train]\nepochs = 5\noptimizer = 'adam'\nmomentum = 0.5\nweight_decay = 0.1\n"
    )
    return path


# --- flags -----------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_specs() -> None:
    assert spec_of() == WorkflowSpec()


def test_every_setting_has_a_flag() -> None:
    names = set(flags.parsers()[1].flags)
    parts: dict[str, tuple[type[msgspec.Struct], set[str]]] = {
        "data": (DataSpec, {"split"}),
        "model": (ModelSpec, {"kind", "file", "class_name", "init"}),
        "train": (TrainSpec, set()),
    }
    for section, (spec, otherwise) in parts.items():
        assert {f"{section}.{name}" for name in spec.__struct_fields__ if name not in otherwise} <= names
    assert {"split", "shuffle", "split.seed", "model", "init", "init.seed"} <= names


FLAGS: list[tuple[str, WorkflowSpec]] = [
    (
        """--weight -1.5 --bias -3e-2 --start -1 --stop 2 --step .5 --noise 0.1 --seed 5 --shuffle
        --split 0.5/0.25/0.25 --loss huber --delta 0.5 --optimizer adam --lr 1e-3 --epochs 7 --device cpu
        --init weight=-1,bias=0""",
        WorkflowSpec(
            data=DataSpec(
                weight=-1.5,
                bias=-0.03,
                start=-1,
                stop=2,
                step=0.5,
                noise=0.1,
                seed=5,
                x_seed=5,
                split=SplitSpec(train=0.5, validation=0.25, test=0.25, order="shuffled", seed=5),
            ),
            model=ModelSpec(init=InitSpec(seed=5, values={"weight": -1, "bias": 0})),
            train=TrainSpec(
                loss="huber", delta=0.5, optimizer="adam", learning_rate=1e-3, epochs=7, device="cpu", batch_seed=5
            ),
        ),
    ),
    (
        """--data /d/t.csv --features a,b --target y --no-header --missing impute --standardize --dtype float64
        --model mlp --hidden 32,8 --activation tanh --dropout 0.1 --init zeros --weight-decay 0.01
        --batch-size 32 --batch-seed 7 --scheduler cosine --early-stop 20 --min-delta 1e-4 --clip 1 --deterministic
        --loop forward,loss,backward,step --optimizer-over another""",
        WorkflowSpec(
            data=DataSpec(
                kind="table",
                file="/d/t.csv",
                features=("a", "b"),
                target="y",
                header=False,
                missing="impute",
                standardize=True,
                dtype="float64",
            ),
            model=ModelSpec(
                kind="mlp", hidden=(32, 8), activation="tanh", dropout=0.1, init=InitSpec(kind="zeros", values={})
            ),
            train=TrainSpec(
                weight_decay=0.01,
                loop=("forward", "loss", "backward", "step"),
                optimizer_over="another",
                batch_size=32,
                batch_seed=7,
                scheduler="cosine",
                early_stop=20,
                min_delta=1e-4,
                clip=1,
                deterministic=True,
            ),
        ),
    ),
    (
        "--formula polynomial --coefficients -1,2,-3e-1 --spacing uniform --x-seed 3 --model polynomial --degree 3"
        " --momentum 0.9 --nesterov --scheduler step --scheduler-epochs 10 --scheduler-factor 0.5",
        WorkflowSpec(
            data=DataSpec(kind="polynomial", coefficients=(-1, 2, -0.3), spacing="uniform", x_seed=3),
            model=ModelSpec(kind="polynomial", degree=3),
            train=TrainSpec(
                momentum=0.9, nesterov=True, scheduler="step", scheduler_epochs=10, scheduler_factor=0.5
            ),
        ),
    ),
    ("--formula quadratic --curve -2", WorkflowSpec(data=DataSpec(kind="quadratic", curve=-2))),
    ("--formula sine --frequency 3", WorkflowSpec(data=DataSpec(kind="sine", frequency=3))),
    ("--formula step --threshold 0.2", WorkflowSpec(data=DataSpec(kind="step", threshold=0.2))),
    ("--formula plane --weights 1,-2,3", WorkflowSpec(data=DataSpec(kind="plane", weights=(1, -2, 3)))),
    ("--sample norris --model linear", WorkflowSpec(data=DataSpec(kind="sample"), model=ModelSpec(kind="linear"))),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "spec"), FLAGS)
def test_every_flag_reaches_the_spec(arguments: str, spec: WorkflowSpec) -> None:
    assert spec_of(*arguments.split()) == spec


def test_a_class_of_ones_own_and_its_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["width=8", "rate=1e-3", "deep=true", "wide=False", "name=tanh", "say='8'", "sizes=[4, 2]", "at=1, 2", "n="]
    model = spec_of("--model", "nets/net.py:Net", *(f"--model-arg={pair}" for pair in given)).model
    assert (model.kind, model.file, model.class_name) == ("custom", str(tmp_path / "nets" / "net.py"), "Net")
    assert model.arguments == {
        "width": 8,
        "rate": 1e-3,
        "deep": True,
        "wide": False,
        "name": "tanh",
        "say": "8",
        "sizes": [4, 2],
        "at": "1, 2",
        "n": "",
    }


@given(st.text(max_size=40))
def test_any_text_is_an_argument(text: str) -> None:
    """TOML is only a way of reading it: nothing that looks like more than one value gets anywhere."""
    arguments = spec_of("--model", "net.py:Net", f"--model-arg=x={text}").model.arguments
    assert set(arguments) == {"x"}


def test_names_with_commas_stand_in_quotes() -> None:
    assert spec_of("--data", "t.csv", "--features", 'a,"b, c", d').data.features == ("a", "b, c", "d")


@pytest.mark.parametrize(
    ("text", "init"),
    [
        ("zeros", InitSpec(kind="zeros")),
        ("seed", InitSpec()),
        ("zeros,bias=1", InitSpec(kind="zeros", values={"bias": 1})),
        ("weight=1,bias=-2", InitSpec(values={"weight": 1, "bias": -2})),
    ],
)
def test_where_a_model_starts(text: str, init: InitSpec) -> None:
    assert spec_of("--init", text).model.init == init


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
        assert wish(*arguments) == PredictOptions("model.pt", ((1.0,), (float(number),)), "--json" in arguments)
    assert wish("--", "-1.pt", number) == PredictOptions("-1.pt", ((float(number),),), False)


@pytest.mark.parametrize("order", [1, -1])
def test_own_seeds_win_over_the_common_one(order: int) -> None:
    seeds = ["--seed=1", "--noise-seed=2", "--shuffle-seed=3", "--init-seed=4", "--x-seed=5", "--batch-seed=6"][::order]
    spec = spec_of(*seeds)
    found = (spec.data.seed, spec.data.split.seed, spec.model.init.seed, spec.data.x_seed, spec.train.batch_seed)
    assert found == (2, 3, 4, 5, 6)
    assert spec_of("--seed", "0", "--init-seed", "4").data.seed == 0


# --- a file of settings ----------------------------------------------------------------------------


def test_files_in_the_settings_are_relative_to_their_folder(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toml.parent.parent)
    for path in (str(toml), "settings/run.toml", "./settings/../settings/run.toml"):
        spec = spec_of(path)
        assert spec.data.file == str(toml.parent / "table.csv")
        assert spec.model.file == str(toml.parent.parent / "net.py")
    assert spec_of(str(toml), "--data", "other.csv").data.file == str(toml.parent.parent / "other.csv")


def test_flags_win_over_the_file_and_nothing_else_changes(toml: Path) -> None:
    file = spec_of(str(toml))
    assert (file.train.epochs, file.train.momentum, file.data.header) == (5, 0.5, False)
    spec = spec_of(str(toml), "--epochs", "7", "--header", "--no-shuffle", "--seed", "9", "--model-arg", "width=16")
    assert spec.train == msgspec.structs.replace(file.train, epochs=7, batch_seed=9)
    assert spec.data.features == ("a", "b")
    assert spec.data.header
    assert (spec.data.split.order, spec.data.split.seed, spec.data.seed) == ("sequential", 9, 9)
    assert spec.model.arguments == {"width": 16, "deep": True}
    assert spec_of("--epochs", "7", str(toml)).train.epochs == 7


def test_another_class_does_not_get_the_arguments_of_the_files(toml: Path) -> None:
    assert spec_of(str(toml), "--model", "other.py:Net", "--model-arg", "depth=2").model.arguments == {"depth": 2}
    assert spec_of(str(toml), "--model", "other.py:Net").model.arguments == {}
    assert spec_of(str(toml), "--model", f"{toml.parent.parent / 'net.py'}:Net").model.arguments["width"] == 8


def test_a_flag_chooses_the_kind_and_what_the_file_says_of_others_is_kept(toml: Path) -> None:
    spec = spec_of(str(toml), "--formula", "sine", "--model", "mlp", "--optimizer", "sgd")
    assert (spec.data.kind, spec.model.kind, spec.train.optimizer) == ("sine", "mlp", "sgd")
    assert (spec.data.target, spec.model.class_name, spec.train.momentum) == ("y", "Net", 0.5)


def test_the_printed_spec_is_complete_and_reads_back_equal(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], [str(toml), "--seed", "7", "--features", "c"], FLAGS[2][0].split()):
        assert headless.main(["train", *arguments, "--print-spec"]) == 0
        printed = capsys.readouterr().out
        copy = tmp_path / "copy.toml"
        copy.write_text(printed)
        assert spec_of(str(copy)) == spec_of(*arguments)
        assert all(f"{name} = " in printed for name in DataSpec.__struct_fields__ if name != "split")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("epochs", "not TOML"),
        ("[train]\nepochs = 0", "epochs is 0"),
        ("[train]\nepoch = 5", "epoch"),
        ("[data]\nkind = 'table'", "no file is named"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "run.toml"
    if text is not None:
        path.write_text(text)
    for command in (["train", str(path)], ["predict", "model.pt", "1", "--spec", str(path)]):
        assert headless.main(command) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert words in said
        assert said.count(str(path)) == 1


# --- predict ---------------------------------------------------------------------------------------


def test_predict_takes_rows_of_several_features_a_class_and_settings(toml: Path) -> None:
    found = wish("--spec", str(toml), "m.pt", "1,-2", "--model", "net.py:Net", "-3,4e1", "--json")
    assert found.x == ((1.0, -2.0), (-3.0, 40.0))
    assert found.model == (os.path.abspath("net.py"), "Net")
    assert found.spec == spec_of(str(toml))
    assert found.json
    made = wish("m.pt", "--model", "net.py:Net", "1", "--model-arg", "width=-3", "--model-arg", "deep=true")
    assert made.arguments == {"width": -3, "deep": True}
    assert made.x == ((1.0,),)


# --- refusals --------------------------------------------------------------------------------------


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
        ("train --init zeros,", "NAME=NUMBER"),
        ("train --optimizer lion", "invalid choice"),
        ("train --device gpu", "not known"),
        ("train --kind pickle", "invalid choice"),
        ("train --kind line", "--formula line"),
        ("train --epoch 5", "unrecognized arguments"),
        ("train --eval 5\x1b[31m\n", "unrecognized arguments"),
        ("train a.toml extra", "unrecognized arguments"),
        ("train --json -5", "--json"),
        ("train --data ", "no file is named"),
        ("train --data t.csv --features a,,b", "an empty name"),
        ("train --data t.csv --features a,a", "named twice"),
        ("train --data t.csv --features a --target a", "both the target and a feature"),
        ("train --sample iris", "invalid choice"),
        ("train --model cnn", "'cnn' is no model; choose parameter, linear, polynomial, mlp or FILE.py:Class"),
        ("train --model custom", "FILE.py:Class"),
        ("train --model net.py", "FILE.py:Class"),
        ("train --model net.py:Net --model-arg width", "NAME=VALUE"),
        ("train --hidden 16,x --model mlp", "'x' is not a whole number"),
        ("train --hidden 0 --model mlp", "width of a hidden layer is 0"),
        ("train --nesterov", "set a momentum"),
        ("predict --lr 1 2", "unrecognized arguments"),
        ("predict model.pt -inf", "not a finite number"),
        ("predict", "FILE"),
        ("predict model.pt", "X"),
        ("predict model.pt 1 two", "'two' is not a number"),
        ("predict model.pt 1,", "'' is not a number"),
        ("predict model.pt inf", "not a finite number"),
        ("predict model.pt 1 --model mlp", "FILE.py:Class"),
        ("predict model.pt 1 --spec", "expected one argument"),
        ("predict model.pt 1 --model-arg width=8", "it goes with --model FILE.py:Class"),
    ],
)
def test_bad_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    said = usage(capsys, *arguments.split(" ")) if arguments else usage(capsys)
    assert message in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--curve 1", "--curve does nothing for line data; it goes with --formula quadratic"),
        ("--features a", "--features does nothing for line data; it goes with --data"),
        ("--data t.csv --noise 0.1", "--noise does nothing for table data; it goes with --formula line, quadratic"),
        ("--sample norris --weight 1", "it goes with --formula line, quadratic, sine or step"),
        ("--sample norris --no-header", "it goes with --data"),
        ("--data t.csv --sample norris", "--sample and --data both say where the data come from"),
        ("--data t.csv --formula line", "--formula and --data both say"),
        ("--degree 3", "--degree does nothing for the parameter model; it goes with --model polynomial"),
        ("--model linear --hidden 3", "--hidden does nothing for the linear model; it goes with --model mlp"),
        ("--model mlp --model-arg a=1", "it goes with --model FILE.py:Class"),
        ("--optimizer adam --momentum 0.9", "the optimizer adam; it goes with --optimizer sgd or rmsprop"),
        ("--optimizer adam --no-nesterov", "--nesterov does nothing for the optimizer adam"),
        ("--optimizer lbfgs --weight-decay 0", "--weight-decay does nothing for the optimizer lbfgs"),
        ("--delta 2", "--delta does nothing for the loss mse; it goes with --loss huber or smooth_l1"),
        ("--scheduler-epochs 2", "no scheduler; it goes with --scheduler step, plateau or warmup"),
        ("--scheduler cosine --scheduler-factor 0.5", "--scheduler-factor does nothing for the scheduler cosine"),
        ("--min-delta 0.1", "it goes with --early-stop"),
    ],
)
def test_a_flag_that_does_nothing_is_refused(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    assert message in usage(capsys, "train", *arguments.split())


def test_what_the_file_chooses_decides_which_flags_do_something(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the optimizer adam" in usage(capsys, "train", str(toml), "--momentum", "0.9")
    assert "table data" in usage(capsys, "train", str(toml), "--noise", "0.9")
    assert spec_of(str(toml), "--optimizer", "sgd", "--momentum", "0.9").train.momentum == 0.9
    assert spec_of(str(toml), "--target", "z").data.target == "z"


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--data", "--init", "--model-arg", "--hidden", "--spec", "--"]))
)
def test_no_arguments_end_in_a_traceback(arguments: list[str]) -> None:
    for command in ("train", "predict"):
        try:
            options.parse([command, *arguments])
        except (SystemExit, WorkflowError):
            continue


@pytest.mark.parametrize("command", [[], ["train"], ["predict"]])
def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: Any, command: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert headless.main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: {' '.join(['workflow-tui', *command])}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_help_settings_and_refusals_load_nothing_heavy() -> None:
    calls = [["train", "--help"], ["train", "--print-spec"], ["train", "--curve", "1"], ["train", "none.toml"]]
    code = f"import sys; from workflow_core.headless import main; [main(call) for call in {calls}]; "
    code += "sys.stderr.write(' '.join(sorted({'torch', 'polars', 'numpy'} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "kind = " in done.stdout
    assert done.stderr.splitlines()[2:] == []
