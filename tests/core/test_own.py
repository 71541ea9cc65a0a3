"""What a model of the user's own keeps beside its parameters goes on with it: an interrupted run is the whole one."""

# ruff: noqa: E501 - a line for each kind
from __future__ import annotations

import importlib.util
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.test_back import Life, live
from tests.core.test_custom import net, spec, write
from tests.core.test_train_state import plain

from workflow_core import devices
from workflow_core.protocol import Branch, BuildModel, LookBack, MakeData, NextLine, SetTraining
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data, own
from workflow_core.steps.train import Trainer

__all__ = ["live"]
DATASET = data.make(DataSpec(noise=0.05))
TRAIN = TrainSpec(epochs=12, batch_size=8, optimizer="adam", learning_rate=0.01, device="cpu")
LAYERS = "self.linear = nn.Linear(1, 1)\nself.other = nn.Dropout(0.0)\n"
NOISE = "return self.linear(x * (1 + 0.1 * float({})))"
DRAWN = "torch.rand((), generator={})"
HEAD = "import random\n"
NUMPY = "import numpy\n"
SEEDED = "torch.Generator().manual_seed(3)"

KINDS: dict[str, tuple[str, str, str]] = {
    "a generator": ("", f"self.rng = {SEEDED}", NOISE.format(DRAWN.format("self.rng"))),
    "a generator of a part": ("", f"self.other.rng = {SEEDED}", NOISE.format(DRAWN.format("self.other.rng"))),
    "a generator in a list": ("", f"self.rng = [None, {SEEDED}]", NOISE.format(DRAWN.format("self.rng[1]"))),
    "a generator in a tuple": ("", f"self.rng = ({SEEDED}, 1)", NOISE.format(DRAWN.format("self.rng[0]"))),
    "a generator in a dict of lists": ("", f"self.rng = {{'a': [{SEEDED}]}}", NOISE.format(DRAWN.format("self.rng['a'][0]"))),
    "a generator beside what cannot be kept": ("", f"self.rng = [{SEEDED}, self.other, object()]", NOISE.format(DRAWN.format("self.rng[0]"))),
    "one generator twice": ("", f"self.rng = {SEEDED}\nself.same = [self.rng]", NOISE.format(f"{DRAWN.format('self.rng')} + {DRAWN.format('self.same[0]')}")),
    "a generator of a closure, too": ("", f"self.rng = {SEEDED}\nrng = self.rng\nself.draw = lambda: torch.rand((), generator=rng)", NOISE.format("self.draw()")),
    "a global generator": (f"RNG = {SEEDED}\n", "", NOISE.format(DRAWN.format("RNG"))),
    "a global dict of generators": ("RNG = {1: [random.Random(3)]}\n", "", NOISE.format("RNG[1][0].random()")),
    "a generator of a class": ("class Noise:\n    rng = random.Random(3)\n    def draw(self): return self.rng.random()\n", "self.noise = Noise()", NOISE.format("self.noise.draw()")),
    "a generator of another file": ("from beside import draw\n", "", NOISE.format("draw()")),
    "a global generator made by the way": ("RNG = None\ndef draw():\n    global RNG\n    RNG = RNG or random.Random(5)\n    return RNG.random()\n", "", NOISE.format("draw()")),
    "one of Python's generators": ("", "self.rng = random.Random(3)", NOISE.format("self.rng.gauss(0, 1)")),
    "Python's generator": ("", "", NOISE.format("random.gauss(0, 1)")),
    "Python's generator with a seed": ("random.seed(5)\n", "", NOISE.format("random.random()")),
    "NumPy's generator": (NUMPY, "", NOISE.format("numpy.random.normal()")),
    "one of NumPy's generators": (NUMPY, "self.rng = numpy.random.default_rng(3)", NOISE.format("self.rng.normal()")),
    "NumPy's generators of other kinds": (NUMPY, "self.rng = [numpy.random.RandomState(3), numpy.random.Generator(numpy.random.MT19937(1))]", NOISE.format("self.rng[0].normal() + self.rng[1].random()")),
    "a global one of NumPy's": (f"{NUMPY}RNG = numpy.random.default_rng(3)\n", "", NOISE.format("RNG.normal()")),
    "an array": (NUMPY, "self.mean = numpy.zeros(2)\nself.last = numpy.float32(0)", "self.mean = self.mean * 0.9 + float(x.mean())\nself.last += numpy.float32(self.mean[0])\n" + NOISE.format("self.last")),
    "a tensor": ("", "self.mean = torch.zeros(1)", "self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()\n" + NOISE.format("self.mean")),
    "a tensor changed in place": ("", "self.mean = torch.zeros(1)", "self.mean.mul_(0.9).add_(x.detach().mean())\n" + NOISE.format("self.mean")),
    "a tensor that another looks at": ("", "self.means = torch.zeros(3)\nself.last = self.means[1:2]", "self.means += x.detach().mean()\n" + NOISE.format("self.last")),
    "a tensor that looks at a parameter": ("", "self.was = None", "n = 0 if self.was is None else self.was\nself.was = self.linear.weight.detach()\n" + NOISE.format("n")),
    "a copy of what looked at a parameter": ("", "self.was = self.linear.weight.detach()", "n = self.was.sum()\nself.was = self.linear.weight.detach() * 0.5\n" + NOISE.format("n")),
    "a tensor made by the way": ("", "", "self.mean = 0.9 * getattr(self, 'mean', 0) + 0.1 * x.detach().mean()\n" + NOISE.format("self.mean")),
    "a tensor of what was computed": ("", "self.last = None", "n = 0 if self.last is None else float(self.last.detach().mean())\nself.last = self.linear(x)\n" + NOISE.format("n")),
    "a counter": ("", "self.calls = 0", "self.calls += 1\n" + NOISE.format("self.calls % 7")),
    "a setting of a part": ("", "self.other.p = 0.0", "self.other.p = min(self.other.p + 0.01, 0.5)\nreturn self.linear(self.other(x))"),
    "a text": ("", "self.phase = 'a'", "self.phase = {'a': 'b', 'b': 'c', 'c': 'a'}[self.phase]\n" + NOISE.format("ord(self.phase) - 96")),
    "a list that grows": ("", "self.seen = []", "self.seen.append(float(x.detach().mean()))\n" + NOISE.format("sum(self.seen[-5:])")),
    "a list that others know": ("", "seen = self.seen = [0]\nself.count = lambda: seen[0]", "self.seen[0] += 1\n" + NOISE.format("self.count() % 5")),
    "two lists that were one": ("", "self.a = self.b = [0]", "self.b = [self.a[0] + 1]\nself.a = [self.b[0] + len(self.a)]\n" + NOISE.format("(self.a[0] - self.b[0]) + self.a[0] % 3")),
    "a dict of tensors": ("", "self.means = {}", "key = len(self.means) % 3, 'x'\nself.means[key] = self.means.get(key, 0) + x.detach().mean()\n" + NOISE.format("sum(self.means.values())")),
    "what is gone": ("", "self.first = 3", "n = self.__dict__.pop('first', 1)\n" + NOISE.format("n")),
    "everything at once, looked at in eval mode as well": (
        f"RNG = {SEEDED}\n",
        f"self.calls, self.mean, self.rngs = 0, torch.zeros(1), (random.Random(3), [{SEEDED}])",
        "self.calls += 1\nself.mean = 0.9 * self.mean + 0.1 * x.detach().mean()\n"
        + NOISE.format(f"self.mean + self.calls % 3 + self.rngs[0].random() + random.random() + {DRAWN.format('RNG')} + {DRAWN.format('self.rngs[1][0]')}"),
    ),
}  # fmt: skip
BESIDE = "import random\n\n_rng = random.Random(9)\n\n\ndef draw():\n    return _rng.random()\n"


def model_of(folder: Path, kind: str) -> ModelSpec:
    """A model that keeps what is of that kind, in a file of its own; it trains on it, and is no other without it."""
    before, init, forward = KINDS[kind]
    if NUMPY in before and importlib.util.find_spec("numpy") is None:
        pytest.skip("NumPy is not installed here")
    write(folder, BESIDE, "beside.py")
    return spec(write(folder, net(LAYERS + init, forward, HEAD + before + "\n\n")))


def disturb() -> None:
    """Somebody else draws random numbers of every kind, and from another place."""
    torch.manual_seed(99)
    random.seed(99)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(99)


def end(trainer: Trainer) -> Any:
    while trainer.done < trainer.spec.epochs:
        trainer.epoch()
    return plain([trainer.model.state_dict(), trainer.optimizer.state_dict(), trainer.state(), trainer.fetch()])


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [0, 2])
def test_a_run_that_keeps_more_than_weights_is_resumed_as_if_it_had_never_stopped(
    tmp_path: Path, kind: str, lines: int
) -> None:
    devices.set_threads(50)
    model_spec = model_of(tmp_path, kind)
    whole = end(Trainer(build.build(model_spec), DATASET, TRAIN))
    first = Trainer(build.build(model_spec), DATASET, TRAIN)
    for _ in range(7):
        first.epoch()
    assert not first.advance(batches=2)
    for _ in range(lines):
        first.next_line()
    state = through_a_file(first.state())
    assert end(first) == whole, "what was kept has changed the run that went on"
    disturb()
    for _ in range(2):  # what is kept in memory is gone on from more than once
        second = Trainer.resumed(build.build(model_spec), DATASET, TRAIN, state)
        assert (second.done, second.batch) == (7, 2)
        assert end(second) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_it_matters_what_is_kept(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the same training ends elsewhere: none of these models is a test of nothing."""
    devices.set_threads(50)
    model_spec = model_of(tmp_path, kind)
    whole = end(Trainer(build.build(model_spec), DATASET, TRAIN))
    first = Trainer(build.build(model_spec), DATASET, TRAIN)
    for _ in range(7):
        first.epoch()
    first.advance(batches=2)
    state = first.state()
    del state["own"]
    state["random"]["shared"] = None
    disturb()
    assert end(Trainer.resumed(build.build(model_spec), DATASET, TRAIN, state))[0] != whole[0]


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind.startswith(("everything", "a counter")) else pytest.param(kind, marks=pytest.mark.soak)
        for kind, (_, init, _) in KINDS.items()
        if "lambda" not in init
    ],
)
def test_in_the_engine_it_is_the_same_however_often_it_is_looked_at_and_lost(
    live: Callable[..., Life], tmp_path: Path, kind: str
) -> None:
    model_spec = model_of(tmp_path, kind)
    begin = (MakeData(spec=DataSpec(noise=0.05)), BuildModel(spec=model_spec), SetTraining(spec=TRAIN))
    whole = live("whole")
    whole(*begin)
    whole.train()
    alone = Trainer(build.build(model_spec), DATASET, TRAIN)
    end(alone)
    assert plain([alone.model.state_dict(), alone.optimizer.state_dict()]) == whole.weights
    life = live("parts")
    life(*begin)
    life.advance(3)
    life.end()
    disturb()
    life = live("parts")
    life.advance(4, 2)
    for _ in range(3):
        life(NextLine())
    life.end()
    life = live("parts")
    life.advance(2)
    for epoch in (0, 5):
        slow = life(LookBack(epoch=epoch))
        while not slow.advance(float("inf")):
            pass
        assert slow.answer().past.equal
    life.train()
    assert life.weights == whole.weights
    assert plain(life.recorded()) == plain(whole.recorded())
    slow = whole(Branch(epoch=4))
    while not slow.advance(float("inf")):
        pass
    slow.answer()
    whole.train()
    assert whole.view.parent == 1
    assert whole.weights == life.weights


def test_a_look_at_a_model_changes_nothing_of_it(tmp_path: Path) -> None:
    init = (
        "self.linear = nn.Linear(1, 1)\nself.register_buffer('passes', torch.zeros(1))\n"
        f"self.calls, self.seen, self.mean, self.rng = 0, [[]], torch.zeros(1), {SEEDED}"
    )
    forward = (
        "self.passes += 1\nself.calls += 1\nself.seen[0].append(self.calls)\nself.mean += 1\nself.new = 1\n"
        + NOISE.format(DRAWN.format("self.rng"))
    )
    model = build.build(spec(write(tmp_path, net(init, forward))))
    before, seen, mean = plain([own.state(model), model.state_dict()]), model.seen, model.mean
    for _ in range(3):
        build.line(model, DATASET)
    assert plain([own.state(model), model.state_dict()]) == before
    assert (model.seen is seen, model.mean is mean) == (True, True)
    assert model.calls == 0, "to be tried when it is built is no call either"


@pytest.mark.parametrize("kind", ["a counter", "a tensor", "a setting of a part"])
def test_a_look_back_shows_the_model_as_it_was_in_all_of_it(
    live: Callable[..., Life], tmp_path: Path, kind: str
) -> None:
    """Its two numbers are on record, what it keeps beside them is not."""
    model_spec = model_of(tmp_path, kind)
    life = live()
    life(MakeData(spec=DataSpec(noise=0.05)), BuildModel(spec=model_spec), SetTraining(spec=TRAIN))
    life.advance(10)
    then = Trainer(build.build(model_spec), DATASET, TRAIN)
    for _ in range(4):
        then.epoch()
    slow = life(LookBack(epoch=3))
    while not slow.advance(float("inf")):
        pass
    assert slow.answer().past.line == build.line(then.model, DATASET)


def test_of_a_model_of_ours_there_is_nothing_to_keep() -> None:
    kinds = (ModelSpec(), ModelSpec(kind="polynomial"), ModelSpec(kind="mlp", dropout=0.2))
    for model in map(build.build, kinds):
        assert own.state(model) is None
        state = Trainer(model, DATASET, TRAIN).state()
        assert (state["random"] or {}).get("shared") is None


def test_what_else_a_model_refers_to_is_left_alone(tmp_path: Path) -> None:
    init = (
        "self.linear = nn.Linear(1, 1)\nself.parts = [self.linear, self.linear.weight, 1]\n"
        "self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)\nself.odd = {self.linear: 1}\nself.text = 'a'"
    )
    model_spec = spec(write(tmp_path, net(init, "return self.linear(x)")))
    one: Any = build.build(model_spec)
    other: Any = build.build(model_spec)
    one.parts[2], one.text = 2, "b"
    optimizer, odd, parts = other.optimizer, other.odd, other.parts
    own.put(other, through_a_file({"own": own.state(one)})["own"])
    assert (other.optimizer, other.odd, other.parts) == (optimizer, odd, parts)
    assert other.parts is parts
    assert parts[0] is other.linear
    assert parts[1] is other.linear.weight
    assert (parts[2], other.text) == (2, "b")


def test_the_generators_that_an_earlier_version_has_kept_go_on(tmp_path: Path) -> None:
    model_spec = model_of(tmp_path, "a generator of a part")
    whole = end(Trainer(build.build(model_spec), DATASET, TRAIN))
    first = Trainer(build.build(model_spec), DATASET, TRAIN)
    first.epoch()
    state = first.state()
    generator: Any = first.model.other.rng  # type: ignore[union-attr]
    del state["own"], state["random"]["shared"]
    state["random"]["own"] = {"other.rng": generator.get_state()}
    assert end(Trainer.resumed(build.build(model_spec), DATASET, TRAIN, through_a_file(state)))[:2] == whole[:2]
