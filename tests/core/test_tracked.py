"""The tracked values are the model's own, at any moment, under names that nothing else has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from workflow_core.steps.tracked import Tracked


class Given(nn.Module):
    """A module of the given parameters."""

    def __init__(self, **tensors: torch.Tensor | nn.Parameter) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            kept = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
            self.register_parameter(name, kept)


def test_every_parameter_of_a_small_model_by_its_place() -> None:
    model = Given(weight=torch.tensor([1.5]), w=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), bias=torch.tensor(-2.0))
    assert Tracked(model).read() == {"weight": 1.5, "w[0,0]": 1, "w[0,1]": 2, "w[1,0]": 3, "w[1,1]": 4, "bias": -2}


def test_axes_of_one_are_left_out() -> None:
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(3, 1))
    assert Tracked(model).names == ("linear.weight[0]", "linear.weight[1]", "linear.weight[2]", "linear.bias")


@pytest.mark.parametrize("inputs", [7, 8])
def test_eight_numbers_are_each_followed_and_nine_are_summed_up(inputs: int) -> None:
    model = nn.Linear(inputs, 1)
    found = Tracked(model).read()
    if inputs == 7:
        assert len(found) == 8
    else:
        weight = model.weight.flatten().tolist()
        assert found == {
            "weight norm": pytest.approx(math.hypot(*weight)),
            "weight mean": pytest.approx(sum(weight) / 8),
            "bias norm": pytest.approx(abs(model.bias.item())),
            "bias mean": pytest.approx(model.bias.item()),
        }


@pytest.mark.parametrize("inputs", [3, 30])
def test_what_an_optimizer_a_move_or_a_load_changes_is_seen(inputs: int) -> None:
    model = nn.Linear(inputs, 1)
    tracked = Tracked(model)
    before = tracked.read()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    model(torch.ones(4, inputs)).sum().backward()
    optimizer.step()
    after = tracked.read()
    assert all(after[name] != before[name] for name in before)
    model.double()
    with torch.no_grad():
        model.weight.fill_(2.0)
    assert next(iter(tracked.read().values())) == pytest.approx(2.0 if inputs == 3 else 2 * math.sqrt(30))
    model.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()})
    assert set(tracked.read().values()) == {0.0}


def test_reading_makes_no_gradients_and_leaves_the_graph_alone() -> None:
    for model in (nn.Linear(2, 1), nn.Linear(20, 1)):
        tracked = Tracked(model)
        loss = model(torch.ones(1, model.in_features)).sum()
        assert not any(tensor.requires_grad for tensor in tracked.tensors())
        assert [tensor.shape for tensor in tracked.tensors()] == [()] * len(tracked.names)
        loss.backward()


def test_names_of_recorded_series_are_told_apart() -> None:
    model = Given(**{name: torch.ones(1) for name in ("learning_rate", "learning_rate (parameter)", "grad_norm")})
    names = Tracked(model).names
    assert names == ("learning_rate (parameter)", "learning_rate (parameter) (parameter)", "grad_norm (parameter)")


def test_frozen_whole_and_empty_parameters_and_shared_ones() -> None:
    shared = nn.Parameter(torch.tensor([3.0]))
    frozen = nn.Parameter(torch.tensor([7]), requires_grad=False)
    small = Given(a=shared, b=shared, frozen=frozen, empty=torch.empty(0))
    assert Tracked(small).read() == {"a": 3.0, "frozen": 7.0}
    large = Given(w=torch.ones(9), frozen=frozen, brief=torch.ones(1, dtype=torch.bfloat16), empty=torch.empty(0, 4))
    assert list(Tracked(large).read().values()) == [3, 1, 7, 7, 1, 1]
    assert Tracked(nn.Sequential()).read() == {}


def test_a_diverged_model_is_read_as_it_is() -> None:
    found = Tracked(Given(weight=torch.tensor([math.nan]), bias=torch.tensor([math.inf]))).read()
    assert math.isnan(found["weight"])
    assert found["bias"] == math.inf
