"""The forms' fields: each spec goes through them unchanged, and a setting is shown where it does something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_core.specs import (
    DATA_KINDS,
    LOSS_USES,
    LOSSES,
    MODEL_KINDS,
    MODEL_USES,
    OPTIMIZER_USES,
    OPTIMIZERS,
    RANGE,
    SCHEDULER_USES,
    SCHEDULERS,
    USES,
    DataSpec,
    InitSpec,
    ModelSpec,
    SplitSpec,
    TrainSpec,
)
from workflow_tui.settings import IncompleteError, build, data, train
from workflow_tui.widgets.field import Field, Value, Values

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30)
WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
NAMES = st.one_of(WORDS, st.builds(" ".join, st.lists(WORDS, min_size=2, max_size=3)), st.just("a, b"), st.just('"'))


def shown(fields: tuple[Field, ...], values: Values) -> set[str]:
    return {field.name for field in fields if field.shown(values)}


def owned(table: dict[str, tuple[str, ...]]) -> set[str]:
    return {name for names in table.values() for name in names}


@pytest.mark.parametrize("kind", DATA_KINDS)
def test_each_kind_of_data_shows_its_own_settings_and_no_others(kind: str) -> None:
    form = data.values(DataSpec()) | {"kind": kind}
    seen = shown(data.FIELDS, form)
    own = set(USES[kind])  # type: ignore[index]
    assert seen & owned(USES) == own  # type: ignore[arg-type]
    assert {"split", "order", "standardize", "dtype"} <= seen
    made = kind not in ("sample", "table")
    always = {"spacing", "x_seed"}
    assert (set(RANGE) - always <= seen) is made
    assert ("x_seed" in seen) is (kind == "plane"), "x is drawn for a plane, else it lies on a grid"
    assert "x_seed" in shown(data.FIELDS, form | {"spacing": "uniform"}) or not made


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_each_kind_of_model_shows_its_own_settings_and_no_others(kind: str) -> None:
    seen = shown(build.FIELDS, build.values(ModelSpec()) | {"kind": kind})
    assert seen & owned(MODEL_USES) == set(MODEL_USES[kind])  # type: ignore[arg-type,index]
    assert ("weight" in seen, "values" in seen) == ((True, False) if kind == "parameter" else (False, True))


def test_optimizers_losses_and_schedules_show_what_they_use() -> None:
    start = train.values(TrainSpec())
    for optimizer in OPTIMIZERS:
        seen = shown(train.FIELDS, start | {"optimizer": optimizer, "momentum": 0.9})
        assert seen & owned(OPTIMIZER_USES) == set(OPTIMIZER_USES[optimizer])  # type: ignore[arg-type]
    for loss in LOSSES:
        assert ("delta" in shown(train.FIELDS, start | {"loss": loss})) is bool(LOSS_USES[loss])
    for scheduler in SCHEDULERS:
        seen = shown(train.FIELDS, start | {"scheduler": scheduler})
        assert seen & owned(SCHEDULER_USES) == set(SCHEDULER_USES[scheduler])  # type: ignore[arg-type]
    assert not {"batch_seed", "min_delta"} & shown(train.FIELDS, start)
    assert {"batch_seed", "min_delta"} <= shown(train.FIELDS, start | {"batch_size": 8, "early_stop": 3})


def test_what_is_said_of_a_setting_fits_the_kind_of_data() -> None:
    weight = next(field for field in data.FIELDS if field.name == "weight")
    start = data.values(DataSpec())
    hints = {weight.hint_for(start | {"kind": kind}) for kind in ("line", "quadratic", "sine", "step")}
    assert len(hints) == 4
    assert weight.hint_for(start) == "slope"


DATA = (
    DataSpec(kind="plane", weights=(1.5, -2e-9, 3.0), x_seed=7, noise=0.1, dtype="float64"),
    DataSpec(kind="polynomial", coefficients=(0.1, 0.2, 0.30000000000000004), spacing="uniform"),
    DataSpec(kind="sample", sample="anscombe_II", standardize=True),
    DataSpec(kind="table", file="/a/b c.csv", features=("x, y", ' "q"', "z"), target="t", header=False, missing="drop"),
    DataSpec(split=SplitSpec(train=0.8, validation=0.0, test=0.2, order="shuffled", seed=9)),
)
MODELS = (
    ModelSpec(kind="mlp", hidden=(64, 8), activation="gelu", dropout=0.25),
    ModelSpec(kind="linear", init=InitSpec(kind="zeros", values={"linear.weight": (1.0, -2.5), "linear.bias": 0.1})),
    ModelSpec(kind="polynomial", degree=7, init=InitSpec(seed=3)),
    ModelSpec(
        kind="custom",
        file="/m.py",
        class_name="Net",
        arguments={"width": 4, "name": "a, b=1", "on": True, "rate": 0.5, "sizes": [1, 2]},
    ),
)
TRAININGS = (
    TrainSpec(optimizer="adamw", weight_decay=0.0, batch_size=32, scheduler="plateau", early_stop=5, min_delta=1e-4),
    TrainSpec(momentum=0.9, nesterov=True, clip=1.0, deterministic=True, loss="huber", delta=0.5),
)


@pytest.mark.parametrize("spec", DATA, ids=lambda spec: spec.kind)
def test_data_goes_through_the_fields_as_text(spec: DataSpec) -> None:
    assert data.spec_of(typed(data.FIELDS, data.values(spec))) == spec


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.kind)
def test_a_model_goes_through_the_fields_as_text(spec: ModelSpec) -> None:
    assert build.spec_of(typed(build.FIELDS, build.values(spec))) == spec


@pytest.mark.parametrize("spec", TRAININGS, ids=lambda spec: spec.optimizer)
def test_training_goes_through_the_fields_as_text(spec: TrainSpec) -> None:
    assert train.spec_of(typed(train.FIELDS, train.values(spec))) == spec


def typed(fields: tuple[Field, ...], values: dict[str, Value]) -> dict[str, Value]:
    """The values as they come back from what a person would see of those that are typed."""
    kinds = ("text", "file", "names", "numbers", "wholes", "optional")
    return {
        field.name: field.read(field.text(values[field.name])) if field.kind in kinds else values[field.name]
        for field in fields
    }


@given(names=st.lists(NAMES, max_size=6))
def test_names_of_any_kind_go_through_a_field(names: list[str]) -> None:
    field = Field("features", "features", "names")
    assert field.read(field.text(tuple(names))) == tuple(names)


@given(numbers=st.lists(NUMBERS, max_size=6))
def test_numbers_go_through_a_field(numbers: list[float]) -> None:
    field = Field("weights", "weights", "numbers")
    assert field.read(field.text(tuple(numbers))) == tuple(numbers)


@given(text=st.text(max_size=60))
def test_whatever_is_typed_is_read_or_refused_with_a_sentence(text: str) -> None:
    for kind in ("names", "numbers", "wholes", "optional", "text"):
        try:
            Field("f", "field", kind).read(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017
    try:
        assert isinstance(build.arguments_of(text), dict)
    except ValueError as error:
        assert "NAME=VALUE" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["**x", "1", "a", "a=f()", "a=1)(b=2", "a=1, a=2", "a.b=1", "a=" + "(" * 500])
def test_arguments_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        build.arguments_of(text)


def test_arguments_are_read_and_never_run() -> None:
    read = build.arguments_of("width=16, act=relu, deep=True, rate=1e-3, sizes=[1, 2.5], s='a b', n=-3")
    assert read == {
        "width": 16, "act": "relu", "deep": True, "rate": 1e-3, "sizes": [1, 2.5], "s": "a b", "n": -3,
    }  # fmt: skip


def test_what_is_not_named_yet_is_incomplete_and_not_wrong() -> None:
    with pytest.raises(IncompleteError, match="Which table"):
        data.spec_of(data.values(DataSpec()) | {"kind": "table"})
    for named, words in (({}, "Which model"), ({"file": "/m.py"}, "Which class")):
        with pytest.raises(IncompleteError, match=words):
            build.spec_of(build.values(ModelSpec()) | {"kind": "custom"} | named)


def test_a_path_as_typed_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    form = data.values(DataSpec()) | {"kind": "table"}
    assert data.spec_of(form | {"file": "a.csv"}).file == str(tmp_path / "a.csv")
    assert data.spec_of(form | {"file": "~/a.csv"}).file == os.path.expanduser("~/a.csv")


def test_nesterov_that_is_hidden_does_not_refuse_another_setting() -> None:
    form = train.values(TrainSpec(momentum=0.9, nesterov=True)) | {"momentum": 0.0}
    assert train.spec_of(form) == TrainSpec()


def test_classes_of_a_file_are_found_without_running_it() -> None:
    source = "import os\nraise SystemExit\nclass A(nn.Module):\n    class B(X): pass\nclass C: pass\nclass D(A): pass\n"
    assert build.classes_in(source) == ["A", "D"]
    for bad in ("class A(:\n", "x = '\0'", "(" * 1000):
        with pytest.raises(ValueError, match="no Python"):
            build.classes_in(bad)


def test_specs_refuse_with_a_sentence_of_their_own() -> None:
    with pytest.raises(ValueError, match="is both the target and a feature") as caught:
        data.spec_of(data.values(DATA[3]) | {"target": "z"})
    assert "`" not in str(caught.value)
