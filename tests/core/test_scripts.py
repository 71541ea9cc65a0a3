"""The code that a learner reads must be the code that runs: equal to the steps bit for bit, and safe to open."""

from __future__ import annotations

import ast
import builtins
import io
import itertools
import json
import random
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_core import devices
from workflow_core.protocol import StepName
from workflow_core.scripts import imports, lines, loop, model_class, script
from workflow_core.scripts.whole import FEW, ONE_THREAD_ROWS
from workflow_core.specs import (
    ACTIVATIONS,
    DATA_KINDS,
    DTYPES,
    INITS,
    LOSSES,
    MISSING,
    MODEL_KINDS,
    OPTIMIZERS,
    SAMPLES,
    SCHEDULERS,
    SPACINGS,
    DataSpec,
    InitSpec,
    ModelSpec,
    SaveKind,
    SplitSpec,
    TrainSpec,
    WorkflowSpec,
)
from workflow_core.steps import build, data, evaluate, linear, load, tracked, train

STEPS: tuple[StepName, ...] = get_args(StepName)
KINDS: tuple[SaveKind, ...] = get_args(SaveKind)
CHECKPOINT: SaveKind = "checkpoint"
DEFAULT = WorkflowSpec()

OWN_MODEL = """
import torch
from torch import nn
from layers_beside import squeeze

class Net(nn.Module):
    def __init__(self, width=3, dropout=0.0, names=()):
        super().__init__()
        self.first = nn.LazyLinear(width) if width == 0 else nn.Linear({features}, width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, 1)

    def forward(self, x):
        return self.last(self.drop(squeeze(self.first(x))))
"""

SHUFFLED = SplitSpec(order="shuffled", seed=3)
HALVES = SplitSpec(train=0.5, validation=0.5, test=0.0)
ALONE = SplitSpec(train=1.0, validation=0.0, test=0.0)
TESTED = SplitSpec(train=0.8, validation=0.0, test=0.2, order="shuffled", seed=9)
TABLES: dict[str, Any] = {"file": "table.csv", "target": "y", "features": ("a", "b")}

DATA: dict[str, DataSpec] = {
    "line": DataSpec(),
    "shuffled line with noise": DataSpec(spacing="shuffled", noise=0.1, x_seed=5, split=SHUFFLED, standardize=True),
    "uniform line in float64": DataSpec(spacing="uniform", start=-3, stop=9, step=0.1, noise=1, dtype="float64"),
    "constant y, whole numbers": DataSpec(weight=0, bias=-2, start=-3, stop=9, step=1, standardize=True),
    "training alone": DataSpec(split=ALONE, noise=0.01),
    "quadratic": DataSpec(kind="quadratic", curve=-0.7, start=-1, split=TESTED),
    "polynomial": DataSpec(kind="polynomial", coefficients=(-1.0, 0.0, 2.5, -0.125), standardize=True),
    "constant polynomial": DataSpec(kind="polynomial", coefficients=(0.25, 0.0), noise=0.1),
    "long polynomial": DataSpec(kind="polynomial", coefficients=tuple(0.1 * n for n in range(9)), dtype="float64"),
    "sine": DataSpec(kind="sine", frequency=1.5, noise=0.05, spacing="uniform", dtype="float64", standardize=True),
    "step": DataSpec(kind="step", weight=-2, start=-0.1, stop=0.7, step=0.013),
    "plane": DataSpec(kind="plane", weights=(0.7, -0.4, 1e3), noise=0.1, split=HALVES, standardize=True),
    "wide plane": DataSpec(kind="plane", weights=tuple(0.1 * n for n in range(10)), x_seed=8, dtype="float64"),
    "norris": DataSpec(kind="sample", standardize=True),
    "norris in float64": DataSpec(kind="sample", standardize=True, dtype="float64", split=SHUFFLED),
    "diabetes": DataSpec(kind="sample", sample="diabetes_bmi"),
    "constant x": DataSpec(kind="sample", sample="anscombe_IV", standardize=True),
    "table": DataSpec(kind="table", **TABLES),
    "table, all columns": DataSpec(kind="table", file="table.csv", standardize=True, split=SHUFFLED),
    "semicolons, last column": DataSpec(kind="table", file="semicolons.csv", features=("b", "a"), dtype="float64"),
    "tabs without header": DataSpec(kind="table", file="bare.tsv", header=False, standardize=True),
    "dropped": DataSpec(kind="table", **{**TABLES, "file": "gaps.csv"}, missing="drop", split=SHUFFLED),
    "imputed": DataSpec(kind="table", **{**TABLES, "file": "gaps.csv"}, missing="impute"),
    "imputed and standardised": DataSpec(kind="table", file="gaps.csv", target="y", missing="impute", standardize=True),
    "parquet": DataSpec(kind="table", file="table.parquet", standardize=True, split=TESTED),
    "parquet, chosen": DataSpec(kind="table", **{**TABLES, "file": "table.parquet"}, missing="impute"),
}
MODELS: dict[str, ModelSpec] = {
    "parameter": ModelSpec(),
    "given start": ModelSpec(init=InitSpec(seed=5, values={"bias": -0.25, "weight": (1.0,)})),
    "linear": ModelSpec(kind="linear", init=InitSpec(values={"linear.bias": (0.5,)})),
    "zeros": ModelSpec(kind="linear", init=InitSpec(kind="zeros")),
    "polynomial": ModelSpec(kind="polynomial", degree=3, init=InitSpec(values={"linear.weight": 0.1})),
    "mlp": ModelSpec(kind="mlp", hidden=(16, 5), activation="tanh"),
    "mlp with dropout": ModelSpec(kind="mlp", hidden=(33,), activation="leaky_relu", dropout=0.4),
    "no hidden layers": ModelSpec(kind="mlp", hidden=()),
    "own": ModelSpec(kind="custom", file="own_model.py", class_name="Net"),
    "own with arguments": ModelSpec(
        kind="custom",
        file="own_model.py",
        class_name="Net",
        arguments={"width": 6, "dropout": 0.5, "names": ["it's", '"']},
        init=InitSpec(values={"last.bias": 0.5}),
    ),
    "own, oddly named": ModelSpec(kind="custom", file="own-model.py", class_name="Net"),
}
TRAININGS: dict[str, TrainSpec] = {
    "sgd": TrainSpec(),
    "nesterov": TrainSpec(momentum=0.9, nesterov=True, weight_decay=0.1, loss="l1", scheduler="step"),
    "adam in batches": TrainSpec(optimizer="adam", batch_size=4, learning_rate=0.03, scheduler="cosine"),
    "adamw": TrainSpec(optimizer="adamw", loss="huber", delta=0.3, early_stop=2, min_delta=0.05),
    "adamw without decay": TrainSpec(optimizer="adamw", weight_decay=0, clip=0.1, deterministic=True),
    "rmsprop": TrainSpec(optimizer="rmsprop", momentum=0.5, loss="smooth_l1", delta=0.5, scheduler="plateau"),
    "adagrad": TrainSpec(optimizer="adagrad", learning_rate=0.1, batch_size=5, clip=0.5, early_stop=3),
    "lbfgs": TrainSpec(optimizer="lbfgs", learning_rate=0.1, loss="huber", scheduler="warmup"),
    "lbfgs in batches": TrainSpec(optimizer="lbfgs", learning_rate=0.1, batch_size=20, early_stop=1),
    "more than a batch": TrainSpec(batch_size=10_000, scheduler="warmup", scheduler_factor=1.0),
    "flat plateau": TrainSpec(scheduler="plateau", scheduler_factor=1.0, batch_size=32, batch_seed=11),
}
EPOCHS = 6
SEARCHES = 2  # each of them is up to 20 steps
BY_HAND: dict[str, WorkflowSpec] = {
    "default": DEFAULT,
    "many rows": WorkflowSpec(
        data=DataSpec(step=1 / 48_000, noise=0.3, split=SHUFFLED), train=TrainSpec(epochs=3, batch_size=20_000)
    ),
    "several threads": WorkflowSpec(
        data=DataSpec(step=1 / 60_000, noise=0.3, standardize=True), train=TrainSpec(epochs=2)
    ),
    "a table of less than a batch": WorkflowSpec(
        data=DATA["table, all columns"], model=MODELS["linear"], train=TrainSpec(epochs=5, batch_size=500, device="cpu")
    ),
    "a table of just one batch": WorkflowSpec(
        data=DATA["dropped"], model=MODELS["linear"], train=TrainSpec(epochs=5, batch_size=32, device="cpu")
    ),
    "early stop": WorkflowSpec(train=TrainSpec(learning_rate=0.5, momentum=0.9, early_stop=4, epochs=200)),
    "early stop without validation rows": WorkflowSpec(
        data=DataSpec(split=ALONE, noise=0.1),
        train=TrainSpec(learning_rate=0.9, momentum=0.9, early_stop=10, epochs=400, batch_size=0, device="cpu"),
    ),
    "early stop in batches without validation rows": WorkflowSpec(
        data=DATA["quadratic"],
        model=ModelSpec(kind="mlp"),
        train=TrainSpec(learning_rate=0.3, momentum=0.9, early_stop=4, epochs=400, batch_size=9, device="cpu"),
    ),
}


def pairs() -> dict[str, WorkflowSpec]:
    """Every model with every other training, on the data one after the other."""
    names = itertools.cycle(DATA)
    chosen = {}
    for number, (model, training) in enumerate(itertools.product(MODELS, TRAININGS)):
        if number % 2:
            continue
        name = next(name for name in names if fits(name, model))
        chosen[f"{name} | {model} | {training}"] = spec_of(name, model, training)
    return chosen


def width(name: str) -> int:
    spec = DATA[name]
    if spec.kind == "table":
        return len(spec.features) or (2 if spec.header else 1)
    return len(spec.weights) if spec.kind == "plane" else 1


def fits(name: str, model: str) -> bool:
    return MODELS[model].kind != "parameter" or width(name) == 1


def spec_of(name: str, model: str, training: str) -> WorkflowSpec:
    made, settings = MODELS[model], TRAININGS[training]
    if made.kind == "custom":
        made = changed(made, file=f"{width(name)}/{made.file}")
    epochs = SEARCHES if settings.optimizer == "lbfgs" else EPOCHS
    return WorkflowSpec(data=DATA[name], model=made, train=changed(settings, epochs=epochs, device="cpu"))


def changed(spec: Any, **settings: Any) -> Any:
    return type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | settings)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threads, search = torch.get_num_threads(), sys.path[:]
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    sys.path[:] = search


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tables and the models of the user's own lie."""
    import polars as pl

    folder = tmp_path_factory.mktemp("own")
    rng = random.Random(1)
    rows = [[rng.gauss(50, 20), "text", rng.randint(-5, 5), rng.gauss(0, 1)] for _ in range(60)]
    names = ["a", "name", "b", "y"]
    pl.DataFrame(rows, names, orient="row").write_parquet(folder / "table.parquet")
    gaps = [
        ["NA" if n % 7 == 3 else row[0], row[1], row[2], "" if n % 11 == 2 else row[3]] for n, row in enumerate(rows)
    ]
    write(folder / "table.csv", [names, *rows], ", ")
    write(folder / "gaps.csv", [names, *gaps[:30], ["", "", "", ""], *gaps[30:]], ",")
    write(folder / "semicolons.csv", [names, *rows], ";")
    write(folder / "bare.tsv", [row[2:] for row in rows], "\t")
    for features in (1, 2, 3, 10):
        (folder / str(features)).mkdir()
        (folder / str(features) / "layers_beside.py").write_text("from torch import tanh as squeeze\n")
        for name in ("own_model.py", "own-model.py"):
            (folder / str(features) / name).write_text(OWN_MODEL.format(features=features))
    return folder


def write(path: Path, rows: list[list[Any]], separator: str) -> None:
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


RUNNER = """
import contextlib, io, json, sys
import torch

def bits(model):
    return {name: bytes(p.view(torch.uint8).flatten().tolist()).hex() for name, p in model.state_dict().items()}

threads, known, search, found = torch.get_num_threads(), set(sys.modules), sys.path[:], {}
for name, text in json.load(open(sys.argv[1])).items():
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    sys.path[:] = search
    for module in ("own_model", "layers_beside"):
        sys.modules.pop(module, None)
    ran, printed = {"__name__": "__main__"}, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(text, name, "exec"), ran)
    except SystemExit as error:
        found[name] = str(error)
        continue
    found[name] = {
        "bits": bits(ran["model"]),
        "losses": [ran["train_loss"], ran.get("val_loss")],
        "epoch": ran["epoch"],
        "rate": ran["optimizer"].param_groups[0]["lr"],
        "results": ran["results"],
        "coefficients": [ran["intercept"], *ran["slopes"].flatten().tolist()] if "slopes" in ran else [],
        "equal": ran["equal"],
    }
assert not any(name.startswith("workflow_core") for name in sys.modules)
print(json.dumps(found))
"""


def bits(model: torch.nn.Module) -> dict[str, str]:
    tensors = model.state_dict().items()
    return {name: bytes(p.detach().view(torch.uint8).flatten().tolist()).hex() for name, p in tensors}


def by_the_steps(spec: WorkflowSpec, folder: Path) -> dict[str, Any] | str:
    """What the steps come to, or what a script says where the training diverges."""
    dataset = data.make(spec.data, folder)
    devices.set_threads(spec.train.batch_size or len(dataset.X))
    file = str(folder / spec.model.file) if spec.model.file else ""
    model = build.build(changed(spec.model, file=file), len(dataset.features), spec.data.dtype)
    trainer = train.Trainer(model, dataset, spec.train)
    last = list(train.records(trainer))[-1]
    if trainer.ended == train.DIVERGED:
        return f"epoch {trainer.first_bad}: training diverged; a smaller learning rate may help"
    metrics = {
        name: {"mse": each.mse, "mae": each.mae, "rmse": each.rmse, "r2": each.r2}
        for name, each in evaluate.evaluate(model, dataset).items()
        if each is not None
    }
    learnt = linear.coefficients(model, spec.model, dataset.features, dataset.scaling) if dataset.scaling else {}
    return {
        "bits": bits(model),
        "losses": [last.train_loss, last.val_loss],
        "epoch": last.epoch,
        "rate": trainer.learning_rate,
        "results": metrics,
        "coefficients": [*learnt.values()],
        "equal": True,
    }


def test_every_script_gives_the_bits_of_the_steps_in_an_interpreter_that_has_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    specs = BY_HAND | pairs()
    texts = {
        name: script(spec, path=str(tmp_path / "model.pt"), kind=kind)
        for (name, spec), kind in zip(specs.items(), itertools.cycle(KINDS), strict=False)
    }
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "runner.py").write_text(RUNNER)
    command = [sys.executable, "-I", "-W", "ignore", str(tmp_path / "runner.py"), str(tmp_path / "texts.json")]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wanted = {name: by_the_steps(spec, folder) for name, spec in specs.items()}
    out, error = child.communicate()
    assert child.returncode == 0, error
    found = json.loads(out)
    different = {name: (found[name], each) for name, each in wanted.items() if found[name] != each}
    assert not different, next(iter(different.items()))
    assert sum(isinstance(each, str) for each in wanted.values()) < len(wanted) / 10, "too many diverge"
    for name, last in (
        ("early stop", 199),
        ("early stop without validation rows", 399),
        ("early stop in batches without validation rows", 399),
    ):
        stopped = wanted[name]
        assert isinstance(stopped, dict)
        assert stopped["epoch"] < last


def execute(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "script.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_script_saves_the_step_loads(kind: SaveKind, tmp_path: Path) -> None:
    spec = changed(DEFAULT, data=DATA["norris"], train=TrainSpec(epochs=20, device="cpu"))
    path = tmp_path / "model.pt"
    ran = execute(script(spec, path=str(path), kind=kind))
    loaded = load.load(path, dataset=data.make(spec.data))
    assert loaded.file.kind == kind
    assert bits(loaded.model) == bits(ran["model"])
    assert loaded.scaling is not None
    rows = ran["X"][:5]
    wanted = ran["model"](((rows - ran["X_mean"]) / ran["X_std"]).float()).double() * ran["y_std"] + ran["y_mean"]
    assert build.predict(loaded.model, rows.tolist(), loaded.scaling) == wanted.flatten().tolist()


def test_the_panes_read_one_after_the_other_do_the_same(tmp_path: Path) -> None:
    spec, path = changed(DEFAULT, data=DATA["shuffled line with noise"]), str(tmp_path / "model.pt")
    text = imports(spec) + "".join(lines(step, spec, path=path, kind=CHECKPOINT) for step in STEPS)
    assert bits(execute(text)["fresh_model"]) == bits(execute(script(spec, path=path))["model"])


@pytest.mark.parametrize("rate", [1.5, 1e3])
def test_a_diverging_script_stops_where_the_step_stops(rate: float, tmp_path: Path) -> None:
    spec = WorkflowSpec(train=TrainSpec(learning_rate=rate, epochs=2000))
    records = list(train.train(build.build(spec.model), data.make(spec.data), spec.train))
    assert not records[-1].finite
    with pytest.raises(SystemExit, match=f"^epoch {records[-1].epoch}: training diverged"):
        execute(script(spec, path=str(tmp_path / "model.pt")))
    assert not list(tmp_path.iterdir())


def test_the_script_prints_final_figures_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(script(DEFAULT, path=str(tmp_path / "model.pt")))
    printed = capsys.readouterr().out
    assert "'weight': 0.4398179352283478" in printed
    assert "predictions equal: True" in printed
    assert printed.count("\nepoch ") == 11


def test_what_is_known_of_the_steps_is_so() -> None:
    assert ONE_THREAD_ROWS == devices.SMALL
    assert FEW == tracked.MAX_SCALARS


def test_only_settings_that_differ_from_those_of_torch_are_written() -> None:
    plain = lines("train", WorkflowSpec(train=TrainSpec(device="cpu")))
    assert "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n" in plain
    assert "criterion = nn.MSELoss()\n" in plain
    for word in ("momentum", "seed", "clip", "scheduler", "best", "deterministic", "closure", "os."):
        assert word not in plain
    adamw = lines("train", WorkflowSpec(train=TrainSpec(optimizer="adamw", weight_decay=0.01)))
    assert "AdamW(model.parameters(), lr=0.01)" in adamw
    assert "import copy" not in imports(DEFAULT)


def test_the_class_and_the_loop_are_parts_of_their_steps() -> None:
    for spec in pairs().values():
        assert model_class(spec) in lines("build", spec)
        assert loop(spec) in lines("train", spec)
        assert loop(spec) in script(spec)


def test_lines_fit_a_page() -> None:
    for name, spec in pairs().items():
        longest = max(script(spec).splitlines(), key=len)
        assert len(longest) <= 110, f"{name}: {longest}"


# whatever a user types

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = TEXTS.filter(bool) | st.sampled_from(
    ["a.csv", "~/b.tsv", "p.parquet", "my/model.py", "json.py", "*.py", "a\nb#.py"]
)
NUMBERS = st.floats(-1e30, 1e30)
SEEDS = st.integers(0, 2**63 - 1)
PLAIN = st.booleans() | st.integers() | st.floats() | TEXTS
POSITIVE = st.floats(1e-9, 1.0)


def of(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@st.composite
def data_specs(draw: st.DrawFn) -> DataSpec:
    target, start, step = draw(TEXTS), draw(st.floats(-1e6, 1e6)), draw(st.floats(1e-3, 1e3))
    features = draw(st.lists(TEXTS.filter(lambda name: not name or name != target), max_size=3, unique=True))
    shares = draw(of((SplitSpec(), SHUFFLED, HALVES, ALONE, TESTED)))
    numbers: dict[str, Any] = {name: draw(NUMBERS) for name in ("weight", "bias", "curve", "frequency", "threshold")}
    choices: dict[str, Any] = {
        "kind": DATA_KINDS,
        "spacing": SPACINGS,
        "sample": SAMPLES,
        "missing": MISSING,
        "dtype": DTYPES,
    }
    return DataSpec(
        **{name: draw(of(values)) for name, values in choices.items()},
        **numbers,
        header=draw(st.booleans()),
        standardize=draw(st.booleans()),
        coefficients=tuple(draw(st.lists(NUMBERS, min_size=1, max_size=21))),
        weights=tuple(draw(st.lists(NUMBERS, min_size=1, max_size=5))),
        start=start,
        stop=start + 100 * step,
        step=step,
        x_seed=draw(SEEDS),
        seed=draw(SEEDS),
        noise=draw(st.just(0.0) | st.floats(0, 1e30)),
        file=draw(NAMES),
        features=tuple(features),
        target=target,
        split=changed(shares, seed=draw(SEEDS)),
    )


@st.composite
def model_specs(draw: st.DrawFn) -> ModelSpec:
    kind = draw(of(MODEL_KINDS))
    named = st.sampled_from(["weight", "bias"]) if kind == "parameter" else TEXTS
    value = NUMBERS if kind == "parameter" else NUMBERS | st.lists(NUMBERS, max_size=3).map(tuple)
    init = InitSpec(kind=draw(of(INITS)), seed=draw(SEEDS), values=draw(st.dictionaries(named, value, max_size=3)))
    return ModelSpec(
        kind=kind,
        degree=draw(st.integers(1, 20)),
        hidden=tuple(draw(st.lists(st.integers(1, 65_536), max_size=4))),
        activation=draw(of(ACTIVATIONS)),
        dropout=draw(st.floats(0, 0.99)),
        file=draw(NAMES),
        class_name=draw(of(("Net", "nn", "X", "None", "class", "SystemExit", "Path", "Ünit", "_Model"))),
        arguments=draw(
            st.dictionaries(TEXTS | of(("width", "class", "__debug__")), PLAIN | st.lists(PLAIN, max_size=2))
        ),
        init=init,
    )


@st.composite
def train_specs(draw: st.DrawFn) -> TrainSpec:
    momentum, optimizer = draw(of((0.0, 0.9))), draw(of(OPTIMIZERS))
    choices: dict[str, Any] = {
        "loss": LOSSES,
        "scheduler": SCHEDULERS,
        "weight_decay": (None, 0.0, 0.01, 2.0),
    }
    return TrainSpec(
        **{name: draw(of(values)) for name, values in choices.items()},
        optimizer=optimizer,
        delta=draw(st.floats(1e-12, 1e12)),
        learning_rate=draw(st.floats(0, 1e6, exclude_min=True)),
        momentum=momentum,
        nesterov=momentum > 0 and draw(st.booleans()),
        epochs=draw(st.integers(1, 10**9)),
        batch_size=draw(st.integers(0, 200)),
        batch_seed=draw(SEEDS),
        scheduler_epochs=draw(st.integers(1, 10**9)),
        scheduler_factor=draw(POSITIVE),
        early_stop=draw(st.integers(0, 5)),
        min_delta=draw(st.floats(0, 1e30)),
        clip=draw(st.just(0.0) | st.floats(0, 1e30)) if optimizer != "lbfgs" else 0.0,
        deterministic=draw(st.booleans()),
        device=draw(of(("auto", "cpu", "cuda", "cuda:1", "mps"))),
    )


SPECS = st.builds(WorkflowSpec, data=data_specs(), model=model_specs(), train=train_specs())


@settings(max_examples=60, deadline=None)
@given(spec=SPECS, path=st.text(max_size=8), kind=of(KINDS))
def test_any_spec_gives_whole_and_harmless_python(spec: WorkflowSpec, path: str, kind: SaveKind) -> None:
    text = script(spec, path=path, kind=kind)
    text.encode()
    compile(text, "script.py", "exec")
    assert undefined(ast.parse(text)) == set()
    for step in STEPS:
        part = lines(step, spec, path=path, kind=kind)
        assert part.endswith("\n")
        ast.parse(part)
    assert comments(text) <= OUR_COMMENTS
    assert {name.split(".")[0] for name in imported(ast.parse(text))} - {file_stem(spec)} <= OURS


OURS = {"copy", "math", "os", "pathlib", "polars", "re", "runpy", "sys", "torch"}


def file_stem(spec: WorkflowSpec) -> str:
    return Path(spec.model.file).stem if spec.model.kind == "custom" else ""


def imported(tree: ast.AST) -> set[str]:
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def undefined(tree: ast.AST) -> set[str]:
    """Names that are read and nowhere made."""
    made, read = set(dir(builtins)), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.split(".")[0])
    return read - made


def comments(text: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.COMMENT}


def _our_comments() -> set[str]:
    """Those of specs that hold nothing of a user's but names of files in this module."""
    specs = [WorkflowSpec(data=each) for each in DATA.values()]
    specs += [WorkflowSpec(data=DataSpec(kind="sample", sample=sample)) for sample in SAMPLES]
    specs += [WorkflowSpec(data=DATA["polynomial"], model=each) for each in MODELS.values()]
    specs += [WorkflowSpec(data=each, train=t) for each in (DATA["line"], DATA["table"]) for t in TRAININGS.values()]
    return set().union(*(comments(script(spec)) for spec in (*specs, *BY_HAND.values())))


OUR_COMMENTS = _our_comments()


def strings(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def shape(tree: ast.AST, path: str) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == path:
            node.value = "THE PATH"
    return ast.dump(tree)


TAKEN = {text for kind in KINDS for text in strings(ast.parse(script(DEFAULT, kind=kind)))}


@settings(deadline=None)
@given(path=st.text(st.characters(), min_size=1).filter(lambda text: text not in TAKEN))
def test_no_path_breaks_out_of_its_string(path: str) -> None:
    for kind in KINDS:
        text = script(DEFAULT, path=path, kind=kind)
        text.encode("utf-8")
        tree = ast.parse(text)
        assert strings(tree).count(path) == 2, "saved to and loaded from it, letter by letter"
        assert shape(tree, path) == shape(ast.parse(script(DEFAULT, kind=kind)), "model.pt")


@pytest.mark.parametrize(
    "text", ["'", '"', '"""', "\\", "\\'", "a\nb", "\r", "\u2028", "{x}", "%s", "ü/数.pt", "#", "'); import os #"]
)
def test_awkward_texts_stay_strings(text: str) -> None:
    table = WorkflowSpec(
        data=DataSpec(kind="table", file=text, features=(text,), target=f"{text}y"),
        model=ModelSpec(
            kind="custom", file=text, class_name="Net", arguments={text: [text]}, init=InitSpec(values={text: 1.0})
        ),
    )
    for step, count in (("data", 2), ("build", 4), ("save", 1), ("load", 3)):
        found = strings(ast.parse(lines(step, table, path=text)))  # type: ignore[arg-type]
        assert found.count(text) >= count - (step in ("build", "load"))


@settings(deadline=None)
@given(
    names=st.lists(TEXTS.filter(bool) | st.just("a name  of several \\' words"), min_size=1, max_size=40, unique=True)
)
def test_a_long_list_of_names_is_broken_between_them(names: list[str]) -> None:
    spec = DataSpec(kind="table", file="table.csv", features=tuple(names), target="the target")
    tree = ast.parse(lines("data", WorkflowSpec(data=spec)))
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List)]
    assert names in [literal(node) for node in lists]


@settings(deadline=None)
@given(spec=SPECS)
def test_every_number_reads_back_as_it_was(spec: WorkflowSpec) -> None:
    found = [literal(node) for node in ast.walk(ast.parse(script(spec)))]
    wanted: list[object] = [spec.model.init.seed, spec.train.learning_rate, spec.train.epochs]
    if spec.data.kind == "line":
        wanted += [spec.data.weight, spec.data.bias, spec.data.start, spec.data.stop]
    if spec.data.split.order == "shuffled":
        wanted.append(spec.data.split.seed)
    for value in spec.model.init.values.values():
        wanted += value if isinstance(value, tuple) else [value]
    for number in wanted:
        assert number in found


def literal(node: ast.AST) -> object:
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except ValueError:
        return None
