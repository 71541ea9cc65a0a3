"""Settings survive the way through TOML, and a split is exact whatever is typed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from workflow_core.errors import WorkflowError
from workflow_core.specs import (
    LOSSES,
    MAX_SEED,
    OPTIMIZERS,
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


@st.composite
def workflows(draw: st.DrawFn) -> WorkflowSpec:
    start, rows, step = draw(st.floats(-1e6, 1e6)), draw(st.integers(1, 1000)), draw(st.floats(1e-3, 1e6))
    try:
        data = DataSpec(
            weight=draw(NUMBERS),
            bias=draw(NUMBERS),
            start=start,
            stop=start + rows * step,
            step=step,
            noise=draw(st.floats(0, 1e30)),
            seed=draw(SEEDS),
            split=draw(splits()),
        )
    except ValueError:
        assume(False)
        raise
    init = InitSpec(
        seed=draw(SEEDS), values=draw(st.dictionaries(st.sampled_from(["weight", "bias"]), NUMBERS, max_size=2))
    )
    train = TrainSpec(
        loss=draw(st.sampled_from(LOSSES)),
        optimizer=draw(st.sampled_from(OPTIMIZERS)),
        learning_rate=draw(st.floats(1e-300, 1e6)),
        epochs=draw(st.integers(1, 10**9)),
        device=draw(st.sampled_from(["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])),
    )
    return WorkflowSpec(data=data, model=ModelSpec(init=init), train=train)


@given(workflows())
def test_toml_gives_back_the_same_spec(spec: WorkflowSpec) -> None:
    assert WorkflowSpec.from_toml(spec.to_toml()) == spec


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
    "settings",
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
    ],
)
def test_data_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        DataSpec(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0},
        {"learning_rate": float("inf")},
        {"epochs": 0},
        {"epochs": 10**9 + 1},
        {"device": "gpu"},
        {"device": "cuda:"},
        {"device": "cpu:0"},
        {"device": "cuda:٣"},
        {"device": "cuda:128"},
        {"device": "cuda:00"},
        {"device": "cuda:1234"},
        {"device": "auto:"},
    ],
)
def test_training_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        TrainSpec(**settings)


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


@pytest.mark.parametrize("text", ["", "weight", "weight=", "=1", "weight=1,weight=2", "weight=x", "weight=1,"])
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
