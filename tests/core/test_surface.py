"""The loss surface is what torch's criterion gives at every point of it, and making it leaves no trace."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.specs import LOSSES, DataSpec, InitSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data, plane, ranges, surface
from workflow_core.steps.data import Dataset
from workflow_core.steps.plane import Plane, Work
from workflow_core.steps.ranges import rounded
from workflow_core.steps.scalars import find
from workflow_core.steps.surface import Ask, Surface, Surfaces, Walked
from workflow_core.steps.tracked import Tracked
from workflow_core.steps.train import Trainer, records

LINE = data.make(DataSpec(noise=0.05))
PLANE = data.make(DataSpec(kind="plane", noise=0.1, step=0.02))
MLP = ModelSpec(kind="mlp", hidden=(6, 5), activation="tanh", dropout=0.3)
BOX = Ask(7, 5, (-2.0, 3.0), (-1.0, 1.5))

Put = tuple[str, tuple[int, ...], float]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


def drained(work: Work[Any]) -> tuple[Any, int]:
    """What work comes to, and how often it could have been put aside."""
    pauses = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value, pauses
        pauses += 1


def plane_of(model: nn.Module, dataset: Dataset, x: str, y: str, spec: TrainSpec | None = None) -> Plane:
    return Plane(model, dataset.inputs("train"), spec or TrainSpec(), find(model, x), find(model, y))


def mapped(
    model: nn.Module, dataset: Dataset, x: str, y: str, ask: Ask = BOX, spec: TrainSpec | None = None
) -> Surface:
    found: Surface = drained(Surfaces().work(plane_of(model, dataset, x, y, spec), ask))[0]
    return found


def plain_loss(model: nn.Module, dataset: Dataset, spec: TrainSpec, values: Sequence[Put] = ()) -> float:
    """The loss with these numbers put into a copy of the model, written as anybody would."""
    other = copy.deepcopy(model).eval()
    parameters = dict(other.named_parameters())
    criteria = {
        "mse": nn.MSELoss(),
        "l1": nn.L1Loss(),
        "huber": nn.HuberLoss(delta=spec.delta),
        "smooth_l1": nn.SmoothL1Loss(beta=spec.delta),
    }
    X_train, y_train = dataset.inputs("train")
    with torch.no_grad():
        for name, position, value in values:
            parameters[name][position] = value
        return float(criteria[spec.loss](other(X_train), y_train).item())


def plain_heights(
    model: nn.Module, dataset: Dataset, places: Sequence[Any], ask: Ask, spec: TrainSpec | None = None
) -> list[list[float]]:
    """The map of `ask`, whose ranges are given, point by point."""
    assert ask.x_range is not None
    assert ask.y_range is not None
    (left, right), (low, high) = ask.x_range, ask.y_range
    return [
        [
            plain_loss(
                model,
                dataset,
                spec or TrainSpec(),
                [
                    (*places[0], left + (right - left) * (column / (ask.columns - 1))),
                    (*places[1], low + (high - low) * (row / (ask.rows - 1))),
                ],
            )
            for column in range(ask.columns)
        ]
        for row in range(ask.rows)
    ]


CASES: dict[str, tuple[ModelSpec, Dataset, tuple[str, str], tuple[Any, Any]]] = {
    "line": (ModelSpec(), LINE, ("weight", "bias"), (("weight", (0,)), ("bias", (0,)))),
    "linear": (
        ModelSpec(kind="linear"),
        PLANE,
        ("linear.weight[1]", "linear.bias"),
        (("linear.weight", (0, 1)), ("linear.bias", (0,))),
    ),
    "one tensor": (
        ModelSpec(kind="polynomial", degree=3),
        LINE,
        ("linear.weight[2]", "linear.weight[0]"),
        (("linear.weight", (0, 2)), ("linear.weight", (0, 0))),
    ),
    "network": (
        MLP,
        PLANE,
        ("layers.0.weight[3,1]", "layers.3.weight[4,0]"),
        (("layers.0.weight", (3, 1)), ("layers.3.weight", (4, 0))),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_every_height_is_the_criterions(case: str, loss: Any, dtype: Any) -> None:
    """But for the rounding of sums, which many points at a time may add up in another order."""
    kind, dataset, names, places = CASES[case]
    dataset = data.make(msgspec.structs.replace(dataset.spec, dtype=dtype))
    model = build.build(kind, len(dataset.features), dtype)
    spec = TrainSpec(loss=loss, delta=0.3)
    found = mapped(model, dataset, *names, spec=spec)
    rounding = 1e-5 if dtype == "float32" else 1e-12
    for row, expected in zip(found.loss, plain_heights(model, dataset, places, BOX, spec), strict=True):
        assert list(row) == pytest.approx(expected, rel=rounding)
    assert found.now_loss == plain_loss(model, dataset, spec)
    there = [(*place, value) for place, value in zip(places, found.minimum, strict=True)]
    assert found.minimum_loss == pytest.approx(plain_loss(model, dataset, spec, there), rel=rounding)


class Odd(nn.Module):
    """A class of the user's own: batch norm, dropout, shared weights, noise in eval mode, and a look across rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.drop = nn.Dropout(0.5)
        self.again = nn.Linear(2, 2)
        self.again.weight = self.first.weight
        self.last = nn.Linear(2, 1)
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        torch.rand(3)
        h = self.again(self.drop(self.norm(self.first(x))))
        result: Tensor = self.last(h - h.mean(0))
        return result


def odd() -> Odd:
    torch.manual_seed(3)
    model = Odd()
    Trainer(model, PLANE, TrainSpec(epochs=3, device="cpu")).epoch()
    return model


def test_a_class_of_ones_own_is_called_as_a_loop_would_and_gives_the_same_bits() -> None:
    model = odd()
    places = (("first.weight", (1, 0)), ("last.bias", (0,)))
    found = mapped(model, PLANE, "first.weight[1,0]", "last.bias")
    assert [list(row) for row in found.loss] == plain_heights(model, PLANE, places, BOX)


@pytest.mark.parametrize("name", ["odd", "network"])
def test_the_model_and_torch_are_left_as_they_were(name: str) -> None:
    model = odd() if name == "odd" else build.build(MLP, 2)
    model.train()
    next(model.children()).eval()
    X_train, y_train = PLANE.inputs("train")
    nn.MSELoss()(model(X_train), y_train).backward()

    def everything() -> list[Any]:
        gradients = [None if part.grad is None else part.grad.tolist() for part in model.parameters()]
        modes = [module.training for module in model.modules()]
        tensors = [part.tolist() for part in model.state_dict().values()]
        calls = list(model.calls) if isinstance(model, Odd) else []
        globals_ = torch.get_rng_state().tolist(), torch.get_num_threads(), torch.is_grad_enabled()
        return [gradients, modes, tensors, calls, globals_, [part.requires_grad for part in model.parameters()]]

    before = everything()
    first, last = [names for names, part in model.named_parameters() if part.dim() == 1][:2]
    mapped(model, PLANE, f"{first}[0]", f"{last}[1]")
    assert everything() == before


@pytest.mark.parametrize("kind", ["odd", "network"])
def test_a_training_goes_on_between_two_pieces_as_if_nothing_were(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh() -> nn.Module:
        return odd() if kind == "odd" else build.build(MLP, 2)

    spec = TrainSpec(epochs=20, batch_size=16, device="cpu")
    expected = list(records(Trainer(fresh(), PLANE, spec)))
    monkeypatch.setattr(plane, "PIECE", 0.0)
    model = fresh()
    names = [name for name, part in model.named_parameters() if part.dim() == 1][:2]
    heights = mapped(copy.deepcopy(model), PLANE, f"{names[0]}[0]", f"{names[1]}[1]").loss
    work = Surfaces().work(plane_of(model, PLANE, f"{names[0]}[0]", f"{names[1]}[1]"), BOX)
    done, found = [], None
    for record in records(Trainer(model, PLANE, spec)):
        done.append(record)
        try:
            for _ in range(3):
                next(work)
        except StopIteration as end:
            found = found or end.value
    assert done == expected
    assert found is not None
    assert found.loss == heights, "what is mapped is the model as it was, not as it has become"


def test_many_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build.build(MLP, 2)
    names = "layers.0.weight[3,1]", "layers.3.bias[2]"
    whole = mapped(model, PLANE, *names)
    monkeypatch.setattr(plane, "MAX_ROWS", 8)
    found, pauses = drained(Surfaces().work(plane_of(model, PLANE, *names), BOX))
    for row, expected in zip(found.loss, whole.loss, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    parts = math.ceil(len(PLANE.inputs("train")[0]) / 8)
    assert pauses >= 35 * parts


def test_work_can_be_put_aside_after_every_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "PIECE", 0.0)
    _, pauses = drained(Surfaces().work(plane_of(build.build(MLP, 2), PLANE, "layers.0.bias[0]", "layers.6.bias"), BOX))
    assert pauses >= 35


def test_where_it_would_take_too_long_there_are_fewer_points_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface, "LONGEST", 0.0)
    ask = Ask(40, 20, BOX.x_range, BOX.y_range)
    found = mapped(build.build(ModelSpec()), LINE, "weight", "bias", ask)
    columns, rows = len(found.loss[0]), len(found.loss)
    assert (columns, rows) == (13, 6)
    small = Ask(columns, rows, BOX.x_range, BOX.y_range)
    places = ("weight", (0,)), ("bias", (0,))
    for row, expected in zip(found.loss, plain_heights(build.build(ModelSpec()), LINE, places, small), strict=True):
        assert list(row) == pytest.approx(expected, rel=1e-5)


# names


@pytest.mark.parametrize("spec", [ModelSpec(), ModelSpec(kind="linear"), ModelSpec(kind="polynomial", degree=3)])
def test_every_tracked_name_finds_its_number(spec: ModelSpec) -> None:
    features = 1 if spec.kind == "parameter" else 2
    model = build.build(spec, features)
    parameters = dict(model.named_parameters())
    for name, value in Tracked(model).read().items():
        assert find(model, name).read(parameters) == value  # type: ignore[arg-type]


def test_a_number_goes_by_all_its_indices_too_and_by_a_name_set_apart_from_a_recorded_one() -> None:
    model = nn.Module()
    model.register_parameter("train_loss", nn.Parameter(torch.tensor([[1.0, 2.0]])))
    model.register_parameter("w[1]", nn.Parameter(torch.tensor([5.0])))
    model.register_parameter("w", nn.Parameter(torch.tensor([6.0, 7.0])))
    model.register_parameter("scalar", nn.Parameter(torch.tensor(8.0)))
    parameters = dict(model.named_parameters())
    expected = {"train_loss[1]": 2.0, "train_loss[0,1]": 2.0, "w[1]": 5.0, "w[0]": 6.0, "scalar": 8.0}
    for name, value in expected.items():
        assert find(model, name).read(parameters) == value  # type: ignore[arg-type]
    assert find(model, "scalar (parameter)") == find(model, "scalar")


@pytest.mark.parametrize(
    "name",
    ["", "weights", "layers.0.weight", "layers.0.weight[6,0]", "layers.0.weight[1]", "layers.0.weight[-1,0]", "\x1b["],
)
def test_an_unknown_name_is_told_what_there_is(name: str) -> None:
    with pytest.raises(WorkflowError, match=r"layers\.0\.weight\[0,0\] to layers\.0\.weight\[5,1\]") as caught:
        find(build.build(MLP, 2), name)
    assert caught.value.problem.line().isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": 1},
        {"rows": 513},
        {"columns": 400, "rows": 400},
        {"x_range": (1.0, 1.0)},
        {"y_range": (0.0, math.inf)},
    ],
)
def test_grids_and_ranges_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError):
        Ask(**{"columns": 7, "rows": 5} | wrong)


# the minimum


def least_squares(model: nn.Module, dataset: Dataset, places: Sequence[Any]) -> list[float]:
    """The best values for two numbers of a linear model, all others as they are."""
    X_train, y_train = dataset.inputs("train")
    wide = copy.deepcopy(model).double()
    parameters = dict(wide.named_parameters())
    columns = []
    with torch.no_grad():
        for name, position in places:
            parameters[name][position] = 0.0
        rest = wide(X_train.double())
        for name, position in places:
            parameters[name][position] = 1.0
            columns.append(wide(X_train.double()) - rest)
            parameters[name][position] = 0.0
    solution: list[float] = (
        torch.linalg.lstsq(torch.cat(columns, 1), y_train.double() - rest).solution.flatten().tolist()
    )
    return solution


@pytest.mark.parametrize("case", ["line", "linear", "one tensor", "norris"])
def test_of_a_linear_model_the_minimum_is_that_of_least_squares(case: str) -> None:
    kind, dataset, names, places = CASES["linear" if case == "norris" else case]
    if case == "norris":
        dataset = data.make(DataSpec(kind="sample", sample="norris", dtype="float64"))
        names, places = ("linear.weight", "linear.bias"), (("linear.weight", (0, 0)), ("linear.bias", (0,)))
    model = build.build(kind, len(dataset.features), dataset.spec.dtype)
    found = mapped(model, dataset, *names, Ask(30, 20, linear=True))
    assert found.minimum_is == "closed form"
    assert found.minimum == pytest.approx(least_squares(model, dataset, places), rel=1e-9)
    assert found.minimum_loss <= min(map(min, found.loss))


def test_columns_that_depend_on_one_another_have_a_minimum_all_the_same() -> None:
    """Two features that are one: there is a valley of minima, and what is shown is one of them."""
    rows = torch.linspace(0, 1, 20, dtype=torch.float64).unsqueeze(1)
    spec = DataSpec(kind="table", file="any.csv", dtype="float64")
    dataset = data.from_columns(spec, torch.cat([rows, 2 * rows], 1), 3 * rows, ("a", "b"), "y")
    model = build.build(ModelSpec(kind="linear", init=InitSpec(kind="zeros")), 2, "float64")
    found = mapped(model, dataset, "linear.weight[0]", "linear.weight[1]", Ask(9, 9, linear=True))
    assert found.minimum_is == "closed form"
    assert found.minimum[0] + 2 * found.minimum[1] == pytest.approx(3)
    assert found.minimum_loss < 1e-20


@pytest.mark.parametrize(("model", "loss"), [(MLP, "mse"), (ModelSpec(kind="linear"), "l1")])
def test_otherwise_it_is_the_best_of_all_that_was_tried(model: ModelSpec, loss: Any) -> None:
    built = build.build(model, 2)
    names = [name for name, part in built.named_parameters() if part.shape[0] == 1]
    found = mapped(built, PLANE, f"{names[0]}[1]", names[1], Ask(40, 30), TrainSpec(loss=loss))
    assert found.minimum_is in ("best point of the grid", "best point found")
    assert found.minimum_loss <= min(*map(min, found.loss), found.now_loss)
    for value, (low, high) in zip(found.minimum, (found.x_range, found.y_range), strict=True):
        assert low < value < high, "the map reaches to where the loss is least"
    assert found.minimum_loss < 0.9 * found.now_loss


# ranges


@example(a=1.2307680000000001e299, b=1.2307692307692308e299)
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_a_chosen_range_has_room_and_round_ends(a: float, b: float) -> None:
    seen = min(a, b), max(a, b)
    low, high = rounded(*seen)
    assert math.isfinite(high - low)
    assert low < seen[0]
    assert seen[1] < high
    assert ranges.fits((low, high), *seen)
    size = max(abs(a), abs(b))
    span = seen[1] - seen[0]
    assume(size > 1e-200)
    assert high - low <= 2 * (span if span > 1e-6 * size else size)
    for end in (low, high):
        digits = Decimal(repr(end)).normalize().as_tuple().digits
        assert len(digits) <= 3 + math.log10(max(1.0, size / (high - low)))


def trained(spec: TrainSpec) -> tuple[Trainer, Walked]:
    trainer = Trainer(build.build(ModelSpec()), LINE, spec)
    walked = Walked(trainer.tracked.read())
    while trainer.done < spec.epochs and not trainer.ended:
        for _ in range(7):
            trainer.epoch()
        walked.note(trainer.fetch())
    return trainer, walked


def asked(walked: Walked) -> Ask:
    return Ask(20, 10, walked=(walked.span("weight"), walked.span("bias")), limit=walked.limit, linear=True)


def test_the_path_the_present_and_the_minimum_are_on_the_map() -> None:
    spec = TrainSpec(learning_rate=0.1, momentum=0.9, epochs=70, device="cpu")
    expected = list(records(Trainer(build.build(ModelSpec()), LINE, spec)))
    trainer, walked = trained(spec)
    found = mapped(trainer.model, LINE, "weight", "bias", asked(walked))
    initial = build.build(ModelSpec()).state_dict()
    for name, ends, now, least in zip(
        ("weight", "bias"), (found.x_range, found.y_range), found.now, found.minimum, strict=True
    ):
        path = [float(initial[name].item()), *(record.parameters[name] for record in expected)]
        assert walked.span(name) == (min(path[:-1]), max(path[:-1]))
        for value in (*path, now, least):
            assert ends[0] < value < ends[1]
        assert ends[1] - ends[0] < 2.5 * (max(*path, least) - min(*path, least))
    assert found.now == tuple(expected[-1].parameters.values())


def test_ranges_stay_while_they_show_everything_and_grow_when_they_do_not() -> None:
    surfaces, model = Surfaces(), build.build(ModelSpec())

    def at(weight: float) -> Surface:
        with torch.no_grad():
            model.get_parameter("weight").fill_(weight)
        found: Surface = drained(surfaces.work(plane_of(model, LINE, "weight", "bias"), Ask(20, 10, linear=True)))[0]
        return found

    first = at(0.3)
    assert at(0.4).x_range == at(0.65).x_range == first.x_range
    assert at(0.4).loss == first.loss
    assert at(5.0).x_range[1] > 5
    assert at(0.3).x_range[1] > 5, "what was shown once is not taken away again"


def test_what_has_not_changed_is_not_computed_again_and_what_has_is(monkeypatch: pytest.MonkeyPatch) -> None:
    surfaces, model = Surfaces(), build.build(ModelSpec(kind="polynomial", degree=2))
    counted: list[int] = []
    losses = Plane.losses

    def counting(self: Plane, points: Any) -> Work[list[float]]:
        counted.append(len(points))
        return losses(self, points)

    monkeypatch.setattr(Plane, "losses", counting)

    def made(ask: Ask = BOX, dataset: Dataset = LINE, spec: TrainSpec | None = None) -> tuple[Surface, int]:
        counted.clear()
        plane_now = plane_of(model, dataset, "linear.weight[0]", "linear.bias", spec)
        return drained(surfaces.work(plane_now, ask))[0], sum(counted)

    first, work = made()
    assert work > 35
    with torch.no_grad():
        model.get_parameter("linear.bias").fill_(0.7)
    again, work = made()
    assert (again.loss, work) == (first.loss, 1)
    assert again.now[1] == pytest.approx(0.7)
    assert again.now_loss == plain_loss(model, LINE, TrainSpec())
    with torch.no_grad():
        model.get_parameter("linear.weight")[0, 1] = 2.0
    other, work = made()
    assert work > 35
    assert other.loss != first.loss
    assert made(spec=TrainSpec(loss="l1"))[0].loss != other.loss
    assert made(dataset=data.make(DataSpec(weight=0.1)))[0].loss != other.loss
    assert made(Ask(7, 5, (-2.0, 3.5), (-1.0, 1.5)))[0].loss != other.loss


def test_a_run_that_went_astray_is_shown_as_far_as_it_makes_sense() -> None:
    trainer, walked = trained(TrainSpec(learning_rate=1.5, epochs=100_000, device="cpu"))
    assert trainer.ended == "diverged"
    assert abs(trainer.tracked.read()["weight"]) > 1e15
    found = mapped(trainer.model, LINE, "weight", "bias", asked(walked))
    assert all(abs(end) < 100 for end in (*found.x_range, *found.y_range))
    assert found.x_range[0] < 0.33669 < found.x_range[1]
    assert all(map(math.isfinite, itertools.chain(*found.loss)))
    assert abs(found.now[0]) > 1e15
    shown = mapped(trainer.model, LINE, "weight", "bias", Ask(5, 5, (-3e38, 3e38), (-1.0, 1.0)))
    assert math.isinf(shown.loss[0][0])
    assert shown.loss[2][2] < 100


@pytest.mark.parametrize("spec", [ModelSpec(kind="polynomial"), ModelSpec(kind="mlp")])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_give_a_map_of_none(spec: ModelSpec, bad: float) -> None:
    model = build.build(spec)
    names = [name for name, part in model.named_parameters() if part.shape[0] == 1]
    weight = dict(model.named_parameters())[names[0]]
    with torch.no_grad():
        weight[0, 1] = bad
    fixed = mapped(model, LINE, f"{names[0]}[0]", names[1], Ask(9, 9, linear=spec.kind != "mlp"))
    assert not any(map(math.isfinite, itertools.chain(*fixed.loss)))
    assert all(map(math.isnan, (*fixed.minimum, fixed.minimum_loss)))
    chosen = mapped(model, LINE, f"{names[0]}[1]", names[1], Ask(9, 9, linear=spec.kind != "mlp"))
    assert all(map(math.isfinite, (*chosen.x_range, *chosen.y_range, *itertools.chain(*chosen.loss))))
    assert math.isfinite(chosen.minimum_loss)
