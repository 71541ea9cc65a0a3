"""The numbers of a model by name: what a person may type for an axis of the loss surface, and what is refused how."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_core.protocol import ModelView, TensorView, Update
from workflow_core.specs import ModelSpec
from workflow_tui.dialogs.axes import scalar
from workflow_tui.instruments.surface import chosen_axes, scalars
from workflow_tui.state import State, reduce


def tensor(name: str, *shape: int) -> TensorView:
    return TensorView(name=name, shape=shape, dtype="float32", device="cpu", size=4 * math.prod(shape))


TENSORS = (tensor("weight"), tensor("0.weight", 3, 2), tensor("0.bias", 3), tensor("w", 1, 4, 1), tensor("none", 0))


def state(*tensors: TensorView) -> State:
    model = ModelView(
        spec=ModelSpec(),
        class_name="Net",
        text="",
        parameters=tensors,
        count=sum(math.prod(one.shape) for one in tensors),
        size=0,
        line=(),
        untrained_loss=None,
    )
    return reduce(State(), Update(model=model))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("weight", "weight"),
        (" weight ", "weight"),
        ("0.weight[2,1]", "0.weight[2,1]"),
        ("0.weight[ 2 , 1 ]", "0.weight[2,1]"),
        ("0.bias[0]", "0.bias[0]"),
        ("w[3]", "w[3]"),
    ],
)
def test_a_number_is_named_by_its_tensor_and_its_place(typed: str, name: str) -> None:
    assert scalar(typed, TENSORS) == name


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "name a parameter"),
        ("bias", "there is no parameter 'bias'"),
        ("0.weight", "say which number"),
        ("0.weight[1]", "is named 0.weight[0,0]"),
        ("0.weight[3,0]", "counted from 0"),
        ("0.bias[-1]", "no parameter"),
        ("weight[0]", "is named weight"),
        ("none", "holds no number"),
        ("0.weight[99999999999999999999,0]", "is named"),
        ("[/][@click=app.quit]x", "no parameter"),
    ],
)
def test_what_is_no_number_of_the_model_is_refused_in_a_sentence(typed: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")):
        scalar(typed, TENSORS)


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_name_or_a_sentence(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert scalar(text, TENSORS) in scalars(state(*TENSORS))


def test_the_scalars_of_a_model_are_those_that_can_be_typed() -> None:
    names = scalars(state(*TENSORS))
    assert names[:3] == ("weight", "0.weight[0,0]", "0.weight[0,1]")
    assert len(set(names)) == len(names) == 1 + 6 + 3 + 4
    assert all(scalar(name, TENSORS) == name for name in names)
    places = [f"0.weight[{row},{column}]" for row, column in itertools.product(range(3), range(2))]
    assert list(names[1:7]) == places


def test_axes_are_the_first_two_numbers_unless_others_were_chosen() -> None:
    assert chosen_axes(state(*TENSORS), None) == ("weight", "0.weight[0,0]")
    assert chosen_axes(state(tensor("weight")), None) is None
    assert chosen_axes(state(*TENSORS), ("w[0]", "w[1]")) == ("w[0]", "w[1]")
    big = scalars(state(tensor("big", 1000, 1000)))
    assert len(big) == 64
