"""The arguments of the headless commands: read, checked and turned into a spec before anything heavy is loaded."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from workflow_core.sanitize import sanitize
from workflow_core.specs import (
    LOSSES,
    OPTIMIZERS,
    DataSpec,
    InitSpec,
    ModelSpec,
    SaveKind,
    SplitSpec,
    TrainSpec,
    WorkflowSpec,
)

PROGRAM = "workflow-tui"
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class TrainOptions:
    """What `train` was asked for. `every` is None where the report is to choose."""

    spec: WorkflowSpec
    save: str | None
    kind: SaveKind
    overwrite: bool
    json: bool
    every: int | None


@dataclass(frozen=True)
class PredictOptions:
    """What `predict` was asked for."""

    file: str
    x: tuple[float, ...]
    json: bool


Options = TrainOptions | PredictOptions


def parse(argv: Sequence[str]) -> Options:
    """The options that `argv` (without the program's name) stands for.

    Raises SystemExit, with one sentence on stderr and status 2 for bad arguments, with status 0 after `--help`.
    """
    parser, train = _parsers()
    given = parser.parse_args(_with_negative_numbers(argv))
    if given.command == "predict":
        return PredictOptions(given.file, tuple(given.x), given.json)
    try:
        spec = _spec(given)
    except ValueError as error:
        train.error(str(error))
    return TrainOptions(spec, given.save, given.kind, given.overwrite, given.json, given.every)


def _spec(given: argparse.Namespace) -> WorkflowSpec:
    def seed(own: int | None) -> int:
        return next(value for value in (own, given.seed, 42) if value is not None)

    split = SplitSpec.parse(
        given.split, order="shuffled" if given.shuffle else "sequential", seed=seed(given.shuffle_seed)
    )
    data = DataSpec(
        weight=given.weight,
        bias=given.bias,
        start=given.start,
        stop=given.stop,
        step=given.step,
        noise=given.noise,
        seed=seed(given.noise_seed),
        split=split,
    )
    values = {} if given.init is None else InitSpec.parse(given.init)
    train = TrainSpec(
        loss=given.loss,
        optimizer=given.optimizer,
        learning_rate=given.lr,
        epochs=given.epochs,
        device=given.device,
    )
    model = ModelSpec(init=InitSpec(seed=seed(given.init_seed), values=values))
    return WorkflowSpec(data=data, model=model, train=train)


def _with_negative_numbers(argv: Sequence[str]) -> list[str]:
    """The arguments in a form in which argparse takes -3e-2 for a number, too; it knows -3 and -0.03 only.

    No option begins as a number does, and those of `predict` take no value: there they may stand before the rest.
    """
    command, rest = list(argv[:1]), list(argv[1:])
    end = rest.index("--") if "--" in rest else len(rest)
    before, after = rest[:end], rest[end + 1 :]
    if command == ["train"]:
        joined: list[str] = []
        for text in before:
            if _NEGATIVE.match(text) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        return command + joined + rest[end:]
    if command == ["predict"]:
        options = [text for text in before if text.startswith("-") and not _NEGATIVE.match(text)]
        values = [text for text in before if text not in options] + after
        return command + options + (["--", *values] if values else [])
    return list(argv)


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, and knows no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {sanitize(message, 400)}\n")


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = _Parser(prog=PROGRAM, description="The PyTorch workflow without the app.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train | predict", parser_class=_Parser)
    train = commands.add_parser(
        "train",
        help="make data, build a model, train, evaluate and save it",
        description="Make data, build a model, train, evaluate and save it.",
    )
    _add_data(train.add_argument_group("data: y = weight * X + bias, X = arange(start, stop, step)"))
    _add_model(train.add_argument_group("model and training"))
    _add_output(train.add_argument_group("output"))
    predict = commands.add_parser(
        "predict",
        help="predict with a saved model",
        description="Load a saved model and print `x  y_pred` for every X.",
    )
    predict.add_argument("file", metavar="FILE", help="a file that was saved by train or by the app")
    predict.add_argument("x", metavar="X", type=_finite, nargs="+", help="a number to predict y for")
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser, train


def _add_data(group: argparse._ArgumentGroup) -> None:
    default = DataSpec()
    for name in ("weight", "bias", "start", "stop", "step"):
        value = getattr(default, name)
        group.add_argument(f"--{name}", type=_number, default=value, metavar="NUMBER", help=f"default {value:g}")
    group.add_argument(
        "--noise", type=_number, default=0.0, metavar="NUMBER", help="standard deviation of noise on y (default 0)"
    )
    group.add_argument(
        "--split",
        default="70/15/15",
        metavar="A/B/C",
        help="shares of training, validation and test (default 70/15/15)",
    )
    group.add_argument("--shuffle", action="store_true", help="deal the rows in random order, not from left to right")
    group.add_argument("--seed", type=_whole, metavar="N", help="all three seeds at once (default 42)")
    for name in ("noise", "shuffle", "init"):
        group.add_argument(f"--{name}-seed", type=_whole, metavar="N", help=f"the {name} seed alone; wins over --seed")


def _add_model(group: argparse._ArgumentGroup) -> None:
    default = TrainSpec()
    group.add_argument("--init", metavar="NAME=NUMBER,...", help="initial parameters, for example weight=1,bias=0")
    group.add_argument("--loss", choices=LOSSES, default=default.loss, help="default mse")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default=default.optimizer, help="default sgd")
    group.add_argument(
        "--lr", type=_number, default=default.learning_rate, metavar="NUMBER", help="learning rate (default 0.01)"
    )
    group.add_argument("--epochs", type=_whole, default=default.epochs, metavar="N", help="default 100")
    group.add_argument(
        "--device", default=default.device, metavar="NAME", help="auto, cpu, mps, cuda or cuda:N (default auto)"
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save", metavar="FILE", help="save the trained model there")
    group.add_argument(
        "--kind",
        choices=("state_dict", "checkpoint"),
        default="state_dict",
        help="what --save writes: the weights alone (default), or everything",
    )
    group.add_argument("--overwrite", action="store_true", help="let --save replace a file that is there")
    group.add_argument("--json", action="store_true", help="JSON lines: started, epoch (with --every) and finished")
    group.add_argument("--every", type=_positive, metavar="N", help="report every Nth epoch and the last")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a number") from None


def _finite(text: str) -> float:
    number = _number(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a finite number")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a whole number") from None


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a whole number above 0")
    return number
