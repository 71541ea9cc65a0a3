"""Trainings of every kind, drawn at random, and what happens to them on the way."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workflow_core.specs import (
    ACTIVATIONS,
    LINES,
    LOSSES,
    OPTIMIZER_USES,
    OPTIMIZERS,
    SCHEDULERS,
    DataSpec,
    InitSpec,
    ModelSpec,
    SplitSpec,
    TrainSpec,
)

BATCHES = (0, 1, 5, 8, 64)
"""Of 35 rows: all at once in their order, one by one, in equal ones, with a smaller last one, all dealt at once."""
EPOCHS = (6, 14)

RESTLESS = '''
import random

import torch
from torch import nn

GENERATOR = torch.Generator().manual_seed(5)
DICE = {"global": [random.Random(7)]}


class Restless(nn.Module):
    """Draws from generators of every kind, wherever they are, and keeps what it has seen in all that can be kept.

    It has buffers, one of them in no state_dict, and plain attributes that change with every call.
    """

    dice = random.Random(11)

    def __init__(self, features, batch_norm):
        super().__init__()
        self.first = nn.Linear(features, 5)
        self.norm = nn.BatchNorm1d(5) if batch_norm else nn.LayerNorm(5)
        self.drop = nn.Dropout(0.0)
        self.last = nn.Linear(5, 1)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64), persistent=False)
        self.generator = torch.Generator().manual_seed(3)
        self.more = {"torch": (torch.Generator().manual_seed(4),), "python": [random.Random(3), self.generator]}
        self.mean = torch.zeros(1)
        self.means = torch.zeros(3)
        self.middle = self.means[1:2]
        self.calls, self.phase, self.seen = 0, "a", []

    def forward(self, x):
        self.calls += 1
        self.phase = "b" if self.phase == "a" else "a"
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean().float()
        self.means += self.mean
        self.seen = [*self.seen[-3:], float(self.middle)]
        x = self.norm(self.first(x))
        if self.training:
            self.passes += 1
            self.drop.p = min(self.drop.p + 0.001, 0.2)
            x = x * (torch.rand_like(x) > 0.2) + torch.randn(x.shape, dtype=x.dtype, generator=self.generator) * 0.1
            drawn = sum(float(torch.rand((), generator=one)) for one in (GENERATOR, *self.more["torch"]))
            drawn += random.random() + self.dice.random() + self.more["python"][0].gauss(0, 1)
            x = self.drop(x) * (1 + 0.01 * (drawn + DICE["global"][0].random()))
        kept = self.calls % 5 + (self.phase == "b") + float(self.mean) + sum(self.seen) / (1 + self.calls)
        return self.last(x) + self.passes.to(x.dtype) * 0.001 + kept * 0.01
'''


class Act(NamedTuple):
    """Something that happens `after` so many batches in all.

    `end`, `die` and `lines` take the engine away, the last of them in the middle of a pass; `stale` does with a
    checkpoint that is so many batches old; `rate` sets another learning rate, `extend` adds epochs.
    """

    after: int
    what: str
    value: float = 0.0


class Case(NamedTuple):
    """A training with what happens on its way."""

    data: DataSpec
    model: ModelSpec
    train: TrainSpec
    acts: tuple[Act, ...]

    @property
    def asked(self) -> tuple[Act, ...]:
        """What the user does, engine or not."""
        return tuple(act for act in self.acts if act.what in ("rate", "extend"))


def cases(seed: int, folder: Path) -> Iterator[Case]:
    """Every optimizer with every scheduler and every kind of batches, again and again, the rest at random."""
    table = folder / "table.csv"
    dice = random.Random(seed)
    rows = [(dice.gauss(0, 3), dice.gauss(5, 1), dice.choice("abc")) for _ in range(50)]
    lines = [
        f"{a},{'' if at % 17 == 3 else b},{c},{2 * a - b + dice.gauss(0, 0.1)}" for at, (a, b, c) in enumerate(rows)
    ]
    table.write_text("a,b,letter,y\n" + "\n".join(lines) + "\n")
    (folder / "restless.py").write_text(RESTLESS)
    product = list(itertools.product(OPTIMIZERS, SCHEDULERS, BATCHES))
    while True:
        dice.shuffle(product)
        for optimizer, scheduler, batch_size in product:
            data = _data(dice, table)
            train = _train(dice, optimizer=optimizer, scheduler=scheduler, batch_size=batch_size)
            yield Case(data, _model(dice, data, batch_size, folder), train, _acts(dice, train))


def _data(dice: random.Random, table: Path) -> DataSpec:
    kinds: tuple[dict[str, Any], ...] = (
        {"kind": "line"},
        {"kind": "sine"},
        {"kind": "plane"},
        {"kind": "table", "file": str(table), "target": "y", "missing": "impute"},
    )
    order: Any
    validation, order = dice.choice((0.15, 0.0)), dice.choice(("sequential", "shuffled"))
    settings: dict[str, Any] = {
        "noise": 0.05,
        "standardize": dice.random() < 0.5,
        "dtype": dice.choice(("float32", "float64")),
        "split": SplitSpec(train=0.7, validation=validation, test=0.3 - validation, order=order),
    }
    return DataSpec(**settings, **dice.choice(kinds))


def _model(dice: random.Random, data: DataSpec, batch_size: int, folder: Path) -> ModelSpec:
    features = 2 if data.kind in ("plane", "table") else 1
    kind: Any = dice.choice(
        ("linear", "polynomial", "mlp", "mlp", "custom", "parameter" if features == 1 else "custom")
    )
    settings: dict[str, Any] = {"init": InitSpec(seed=dice.randrange(100))}
    if kind == "mlp":
        settings |= {
            "hidden": dice.choice(((5,), (4, 3))),
            "activation": dice.choice(ACTIVATIONS),
            "dropout": dice.choice((0.0, 0.3)),
        }
    elif kind == "custom":
        settings |= {
            "file": str(folder / "restless.py"),
            "class_name": "Restless",
            "arguments": {"features": features, "batch_norm": batch_size != 1},
        }
    return ModelSpec(kind=kind, **settings)


def _train(dice: random.Random, **settings: Any) -> TrainSpec:
    lbfgs = settings["optimizer"] == "lbfgs"
    uses = OPTIMIZER_USES[settings["optimizer"]]
    if "momentum" in uses and dice.random() < 0.5:
        settings |= {"momentum": 0.9, "nesterov": dice.random() < 0.5}
    if "weight_decay" in uses and dice.random() < 0.3:
        settings |= {"weight_decay": 0.01}
    if not lbfgs and dice.random() < 0.3:
        settings |= {"clip": dice.choice((0.1, 1.0))}
    if not lbfgs and dice.random() < 0.15:
        settings |= dice.choice(
            (
                {"loop": tuple(line for line in LINES if line != "zero_grad")},
                {"loop": ("forward", "loss", "backward", "step", "zero_grad")},
                {"optimizer_over": "another"},
            )
        )
    return TrainSpec(
        **settings,
        loss=dice.choice(LOSSES),
        learning_rate=1e4 if dice.random() < 0.03 else math.exp(dice.uniform(math.log(1e-3), math.log(0.3))),
        epochs=dice.randint(*EPOCHS),
        batch_seed=dice.randrange(100),
        scheduler_epochs=dice.randint(1, 5),
        scheduler_factor=dice.choice((0.1, 0.5)),
        early_stop=dice.choice((0, 0, 0, 2, 4)),
        deterministic=dice.random() < 0.2,
        device="cpu",
    )


def _acts(dice: random.Random, train: TrainSpec) -> tuple[Act, ...]:
    last = train.epochs * -(-35 // (train.batch_size or 35))
    acts = [
        Act(dice.randrange(last), dice.choice(("end", "die", "stale", "lines")), dice.randint(1, 7)) for _ in range(4)
    ]
    for _ in range(dice.choice((0, 0, 1, 2))):
        at = dice.randrange(last)
        acts.append(Act(at, "rate", dice.uniform(0.001, 0.1)))
        acts.append(Act(min(at + dice.randrange(3), last - 1), "die"))  # perhaps before an epoch begins that has it
    if train.scheduler != "cosine" and dice.random() < 0.2:
        acts.append(Act(dice.randrange(last), "extend", 3))
    return tuple(sorted(acts))
