"""Settings survive the way through TOML, and a split is exact whatever is typed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

from workflow_core.errors import WorkflowError
from workflow_core.specs import (
    ACTIVATIONS,
    DATA_KINDS,
    DTYPES,
    INITS,
    LINES,
    LOSSES,
    MAX_DEGREE,
    MAX_EPOCHS,
    MAX_ROWS,
    MAX_SEED,
    MISSING,
    MODEL_KINDS,
    OPTIMIZER_OVER,
    OPTIMIZERS,
    SAMPLES,
    SCHEDULERS,
    SPACINGS,
    DataSpec,
    InitSpec,
    ModelSpec,
    SplitSpec,
    TrainSpec,
    WorkflowSpec,
    parse_device,
)

SEEDS = st.integers(0, MAX_SEED)
NUMBERS = st.floats(-1e30, 1e30, allow_nan=False)


@st.composite
def percents(draw: st.DrawFn) -> tuple[Decimal, Decimal, Decimal]:
    """Three shares in percent that add up to 100, with up to four decimals."""
    unit = 10 ** draw(st.integers(0, 4))
    train = draw(st.integers(1, 100 * unit))
    validation = draw(st.integers(0, 100 * unit - train))
    test = 100 * unit - train - validation
    a, b, c = (Decimal(part) / unit for part in (train, validation, test))
    return a, b, c


@st.composite
def splits(draw: st.DrawFn) -> SplitSpec:
    shares = "/".join(map(str, draw(percents())))
    return SplitSpec.parse(shares, order=draw(st.sampled_from(["sequential", "shuffled"])), seed=draw(SEEDS))


def names(max_size: int = 20) -> st.SearchStrategy[str]:
    """Any text that can be a name: all characters but NUL and lone surrogates."""
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=max_size)


@st.composite
def data_specs(draw: st.DrawFn) -> DataSpec:
    start, rows, step = draw(st.floats(-1e6, 1e6)), draw(st.integers(1, 1000)), draw(st.floats(1e-3, 1e6))
    kind = draw(st.sampled_from(DATA_KINDS))
    target = draw(names())
    features = draw(st.lists(names().filter(lambda name: not name or name != target), max_size=5, unique=True))
    try:
        return DataSpec(
            kind=kind,
            weight=draw(NUMBERS),
            bias=draw(NUMBERS),
            curve=draw(NUMBERS),
            coefficients=tuple(draw(st.lists(NUMBERS, min_size=1, max_size=MAX_DEGREE + 1))),
            frequency=draw(NUMBERS),
            threshold=draw(NUMBERS),
            weights=tuple(draw(st.lists(NUMBERS, min_size=1, max_size=8))),
            start=start,
            stop=start + rows * step,
            step=step,
            spacing=draw(st.sampled_from(SPACINGS)),
            x_seed=draw(SEEDS),
            noise=draw(st.floats(0, 1e30)),
            seed=draw(SEEDS),
            sample=draw(st.sampled_from(SAMPLES)),
            file=draw(names().filter(bool)) if kind == "table" else draw(names()),
            features=tuple(features),
            target=target,
            header=draw(st.booleans()),
            missing=draw(st.sampled_from(MISSING)),
            standardize=draw(st.booleans()),
            dtype=draw(st.sampled_from(DTYPES)),
            split=draw(splits()),
        )
    except ValueError:
        assume(False)
        raise


VALUES = NUMBERS | st.lists(NUMBERS, max_size=4).map(tuple)
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | names()


@st.composite
def model_specs(draw: st.DrawFn) -> ModelSpec:
    kind = draw(st.sampled_from(MODEL_KINDS))
    init = InitSpec(
        kind=draw(st.sampled_from(INITS)),
        seed=draw(SEEDS),
        values=draw(
            st.dictionaries(st.sampled_from(["weight", "bias"]), NUMBERS, max_size=2)
            if kind == "parameter"
            else st.dictionaries(names(), VALUES, max_size=4)
        ),
    )
    return ModelSpec(
        kind=kind,
        degree=draw(st.integers(1, MAX_DEGREE)),
        hidden=tuple(draw(st.lists(st.integers(1, 1000), max_size=4))),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        dropout=draw(st.floats(0, 0.99)),
        file=draw(names().filter(bool)) if kind == "custom" else draw(names()),
        class_name="Net" if kind == "custom" else draw(names()),
        arguments=draw(st.dictionaries(names(), PLAIN | st.lists(PLAIN, max_size=3), max_size=3)),
        init=init,
    )


@st.composite
def train_specs(draw: st.DrawFn) -> TrainSpec:
    optimizer, momentum, nesterov = draw(st.sampled_from(OPTIMIZERS)), draw(st.floats(0, 0.9999)), draw(st.booleans())
    return TrainSpec(
        loss=draw(st.sampled_from(LOSSES)),
        delta=draw(st.floats(1e-12, 1e12)),
        optimizer=optimizer,
        learning_rate=draw(st.floats(1e-300, 1e6)),
        momentum=momentum,
        nesterov=nesterov and (momentum > 0 or optimizer != "sgd"),
        weight_decay=draw(st.none() | st.floats(0, 1e6)),
        epochs=draw(st.integers(1, MAX_EPOCHS)),
        batch_size=draw(st.integers(0, MAX_ROWS)),
        batch_seed=draw(SEEDS),
        scheduler=draw(st.sampled_from(SCHEDULERS)),
        scheduler_epochs=draw(st.integers(1, MAX_EPOCHS)),
        scheduler_factor=draw(st.floats(1e-9, 1)),
        early_stop=draw(st.integers(0, MAX_EPOCHS)),
        min_delta=draw(st.floats(0, 1e30)),
        clip=0.0 if optimizer == "lbfgs" else draw(st.floats(0, 1e30)),
        deterministic=draw(st.booleans()),
        device=draw(st.sampled_from(["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])),
        loop=LINES if optimizer == "lbfgs" else tuple(draw(st.lists(st.sampled_from(LINES), unique=True))),
        optimizer_over=draw(st.sampled_from(OPTIMIZER_OVER)),
    )


@st.composite
def workflows(draw: st.DrawFn) -> WorkflowSpec:
    return WorkflowSpec(data=draw(data_specs()), model=draw(model_specs()), train=draw(train_specs()))


SETTINGS: list[tuple[st.SearchStrategy[msgspec.Struct], type[msgspec.Struct]]] = [
    (data_specs(), DataSpec),
    (splits(), SplitSpec),
    (model_specs(), ModelSpec),
    (model_specs().map(lambda spec: spec.init), InitSpec),
    (train_specs(), TrainSpec),
]


@pytest.mark.parametrize(
    ("specs", "name"), [(specs, name) for specs, spec in SETTINGS for name in spec.__struct_fields__]
)
def test_the_strategies_know_every_setting(specs: st.SearchStrategy[msgspec.Struct], name: str) -> None:
    """A setting that is added must be drawn, too: otherwise nothing here would ever see it."""

    def differs(spec: msgspec.Struct) -> bool:
        return bool(getattr(spec, name) != getattr(type(spec)(), name))

    find(specs, differs, settings=settings(phases=[Phase.generate], database=None, deadline=None))


@given(workflows())
def test_toml_gives_back_the_same_spec(spec: WorkflowSpec) -> None:
    assert WorkflowSpec.from_toml(spec.to_toml()) == spec


def test_toml_shows_a_weight_decay_that_is_left_to_the_optimizer() -> None:
    text = WorkflowSpec().to_toml()
    assert WorkflowSpec.from_toml(text).train.weight_decay is None
    assert WorkflowSpec.from_toml(text.replace("# weight_decay", "weight_decay")).train.weight_decay == 0.0
    given = WorkflowSpec(train=TrainSpec(weight_decay=0.5)).to_toml()
    assert given.count("weight_decay") == 1


def test_toml_fills_in_defaults(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("[train]\nepochs = 5\n")
    assert WorkflowSpec.read(path) == WorkflowSpec(train=TrainSpec(epochs=5))


@pytest.mark.parametrize(
    "text",
    [
        "epochs",
        "[train]\nepoch = 5",
        "[train]\nepochs = 0",
        "[train]\nepochs = 'many'",
        "[data]\nstep = nan",
        "[data]\nweight = inf",
        "[data.split]\ntrain = 0.5",
        "[model.init.values]\nslope = 1",
        "[data]\nkind = 'cubic'",
        "[data]\nkind = 'table'",
        "[data]\nfeatures = 'a'",
        "[data]\ncoefficients = []",
        "[model]\nhidden = [16, 1.5]",
        "[model.arguments]\nwhen = 2026-01-01",
        "[train]\nnesterov = true",
        "[train]\nnesterov = 1",
        "a = " + "[" * 5000,
    ],
)
def test_bad_toml_is_one_clear_error(text: str) -> None:
    with pytest.raises(WorkflowError):
        WorkflowSpec.from_toml(text)


@given(st.text(max_size=30) | st.text("0123456789./% -+eE_", max_size=20))
def test_parsing_a_split_raises_nothing_but_value_error(text: str) -> None:
    try:
        split = SplitSpec.parse(text)
    except ValueError:
        return
    assert SplitSpec.parse(split.text()) == split


@given(percents(), st.integers(0, 10_000_000), st.booleans())
def test_split_borders_are_exact(shares: tuple[Decimal, Decimal, Decimal], n: int, fractions: bool) -> None:
    text = "/".join(f"{share / 100 if fractions else share:f}" for share in shares)
    split = SplitSpec.parse(text)
    first, second = int(shares[0] * n / 100), int((shares[0] + shares[1]) * n / 100)
    assert split.counts(n) == (first, second - first, n - second)
    assert split == SplitSpec.parse(split.text())


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("70/15/15", (35, 7, 8)),
        ("0.7/0.15/0.15", (35, 7, 8)),
        ("70/10/20", (35, 5, 10)),
        ("100/0/0", (50, 0, 0)),
        ("1/0/0", (50, 0, 0)),
        (" 80% / 20% / 0% ", (40, 10, 0)),
        ("60/0/40", (30, 0, 20)),
    ],
)
def test_splits_of_fifty_rows(text: str, rows: tuple[int, int, int]) -> None:
    assert SplitSpec.parse(text).counts(50) == rows


@pytest.mark.parametrize(
    "text", ["", "70", "70/30", "70/15/15/0", "70/15/16", "0/50/50", "-10/60/50", "a/b/c", "nan/nan/nan", "1e2/0/0"]
)
def test_splits_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"split|share"):
        SplitSpec.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0},
        {"step": -0.1},
        {"stop": 0},
        {"start": 2},
        {"step": 1e-9},
        {"noise": -1},
        {"weight": float("nan")},
        {"bias": 1e31},
        {"seed": -1},
        {"seed": 2**63},
        {"step": 1, "split": SplitSpec(train=0.5, validation=0.5, test=0)},
        {"x_seed": -1},
        {"curve": float("inf")},
        {"coefficients": ()},
        {"coefficients": (1.0,) * 22},
        {"coefficients": (1.0, float("nan"))},
        {"weights": ()},
        {"weights": (1.0,) * 1001},
        {"kind": "table"},
        {"file": "a\0b"},
        {"file": "\ud800"},
        {"target": "x" * 5000},
        {"features": ("a", "a")},
        {"features": ("a", "y"), "target": "y"},
        {"features": tuple(map(str, range(1001)))},
    ],
)
def test_data_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        DataSpec(**wrong)


@pytest.mark.parametrize("kind", ["sample", "table"])
def test_what_a_table_gives_no_formulas_range_is_asked_of(kind: Any) -> None:
    """Settings that the kind does not use must not stand in its way: a split of one row is none of a table's."""
    one_row: dict[str, Any] = {"step": 1.0, "split": SplitSpec(train=0.5, validation=0.5, test=0)}
    assert not DataSpec(kind=kind, file="t.csv", **one_row).made


@pytest.mark.parametrize(
    "wrong",
    [
        {"degree": 0},
        {"degree": 21},
        {"hidden": (0,)},
        {"hidden": (1,) * 33},
        {"hidden": (65_537,)},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"kind": "custom"},
        {"kind": "custom", "file": "net.py"},
        {"kind": "custom", "file": "net.py", "class_name": "no name"},
        {"arguments": {"a\0": 1}},
        {"init": InitSpec(values={"weight": (1.0, 2.0)})},
        {"init": InitSpec(values={"slope": 1.0})},
    ],
)
def test_models_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ModelSpec(**wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.py:Net", ("net.py", "Net")),
        ("a b/c:d.py:Net", ("a b/c:d.py", "Net")),
        ("net.py", None),
        ("net.py:", None),
        ("net.py:a b", None),
        ("net.txt:Net", None),
        ("mlp", None),
    ],
)
def test_a_class_in_a_file(text: str, expected: tuple[str, str] | None) -> None:
    assert ModelSpec.parse_custom(text) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"learning_rate": float("inf")},
        {"epochs": 0},
        {"epochs": 10**9 + 1},
        {"device": "gpu"},
        {"loop": ("forward", "loss", "forward")},
        {"loop": ("forward", "loss", "zero_grad", "backward"), "optimizer": "lbfgs"},
        {"device": "cuda:"},
        {"device": "cpu:0"},
        {"device": "cuda:٣"},
        {"device": "cuda:128"},
        {"device": "cuda:00"},
        {"device": "cuda:1234"},
        {"device": "auto:"},
        {"delta": 0},
        {"momentum": 1},
        {"nesterov": True},
        {"weight_decay": -1},
        {"batch_size": -1},
        {"batch_seed": -1},
        {"scheduler_epochs": 0},
        {"scheduler_factor": 0},
        {"scheduler_factor": 1.5},
        {"early_stop": -1},
        {"min_delta": -1},
        {"clip": -1},
        {"clip": float("nan")},
    ],
)
def test_training_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        TrainSpec(**wrong)


def test_lbfgs_is_not_given_clipped_gradients() -> None:
    with pytest.raises(ValueError, match=r"^lbfgs cannot learn from clipped gradients; set clip to 0, or choose "):
        TrainSpec(optimizer="lbfgs", clip=1.0)
    with pytest.raises(WorkflowError, match="set clip to 0"):
        WorkflowSpec.from_toml("[train]\noptimizer = 'lbfgs'\nclip = 0.5")
    assert TrainSpec(optimizer="lbfgs", clip=0).clip == 0


@given(st.text(max_size=12) | st.from_regex(r"(auto|cpu|mps|cuda):?[0-9]{0,5}", fullmatch=True))
def test_a_device_that_parses_is_one_that_torch_and_a_spec_take(text: str) -> None:
    try:
        device = parse_device(text)
    except ValueError:
        with pytest.raises(ValueError, match="not known"):
            TrainSpec(device=text)
        return
    assert TrainSpec(device=device).device == text
    if device != "auto":
        assert str(torch.device(device)) == text


def test_initial_values_are_read_by_name() -> None:
    assert InitSpec.parse("weight=1, bias=-3e-2") == {"weight": 1.0, "bias": -0.03}
    assert InitSpec.parse("linear.weight=[1, -2e1] , linear.bias=0") == {"linear.weight": (1, -20), "linear.bias": 0}


@pytest.mark.parametrize(
    "text", ["", "weight", "weight=", "=1", "weight=1,weight=2", "weight=x", "weight=1,", "w=[1", "w=[1,x]"]
)
def test_initial_values_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        InitSpec.parse(text)


@given(st.text(max_size=40))
def test_parsing_initial_values_raises_nothing_but_value_error(text: str) -> None:
    try:
        values = InitSpec.parse(text)
    except ValueError:
        return
    assert values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[train]\noptimizer = "adamm"', "train.optimizer is 'adamm'; choose sgd, adam, adamw"),
        ("[train]\nepocs = 3", "train has no setting 'epocs': did you mean epochs?"),
        ("[trian]\n", "the file has no setting 'trian': did you mean train?"),
        ("[model.init]\nsed = 1", "model.init has no setting 'sed': did you mean seed?"),
        ("x = 1", "there are data, model, train"),
        ('[train]\nepochs = "a"', "train.epochs: Expected `int`"),
        ("[train]\nlearning_rate = 0", "the learning rate is 0"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_what_would_do(text: str, words: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        WorkflowSpec.from_toml(text)
    assert words in caught.value.problem.message
