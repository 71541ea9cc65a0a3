"""Which flags the headless commands have, and how the text of each is read; `options` makes a spec of them.

The name under which a flag is kept is the setting it stands for: `--lr` is `train.learning_rate`. A flag that was not
given is not there at all, so that it never wins over a file.
"""

from __future__ import annotations

import argparse
import csv
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from workflow_core.sanitize import sanitize
from workflow_core.specs import (
    ACTIVATIONS,
    DATA_KINDS,
    DTYPES,
    INITS,
    LINES,
    LOSSES,
    MISSING,
    MODEL_KINDS,
    OPTIMIZER_OVER,
    OPTIMIZERS,
    SAMPLES,
    SCHEDULERS,
    SPACINGS,
    Argument,
    InitSpec,
    Line,
    ModelSpec,
)

PROGRAM = "workflow-tui"
FORMULAS = tuple(kind for kind in DATA_KINDS if kind not in ("sample", "table"))
SAVE_KINDS = ("state_dict", "checkpoint")

_EPILOG = """\
Flags win over SPEC.toml; --print-spec shows all settings as such a file.

examples:
  workflow-tui train --noise 0.05 --shuffle --save model.pt
  workflow-tui train --data table.csv --features age,bmi --target score \\
      --standardize --model mlp --hidden 32,32 --optimizer adam --batch-size 64
  workflow-tui train run.toml --lr 0.05 --early-stop 20
"""


class Parser(argparse.ArgumentParser):
    """Refuses in one line, and knows no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **settings)
        self.flags: dict[str, str] = {}
        """The flag of every setting: `--lr` of `train.learning_rate`."""

    def group(self, title: str) -> Group:
        """A part of the help, with flags of its own."""
        return Group(self, title)

    def error(self, message: str) -> NoReturn:
        """End with one sentence on stderr and status 2."""
        self.exit(2, f"{self.prog}: {sanitize(message, 400)}\n")


class Group:
    """Flags that stand together in the help."""

    def __init__(self, parser: Parser, title: str) -> None:
        self._flags = parser.flags
        self._add = parser.add_argument_group(title).add_argument

    def add(self, flag: str, name: str, text: str, **settings: Any) -> None:
        """A flag that is kept under `name`, explained by `text`."""
        self._flags[name] = flag
        self._add(flag, dest=name, help=text, **settings)

    def number(self, flag: str, name: str, text: str) -> None:
        """A flag that takes a number."""
        self.add(flag, name, text, type=_number, metavar="NUMBER")

    def numbers(self, flag: str, name: str, text: str) -> None:
        """A flag that takes numbers with commas between them."""
        self.add(flag, name, text, type=_numbers, metavar="A,B,...")

    def whole(self, flag: str, name: str, text: str) -> None:
        """A flag that takes a whole number."""
        self.add(flag, name, text, type=_whole, metavar="N")

    def choice(self, flag: str, name: str, choices: Sequence[str], text: str, metavar: str = "NAME") -> None:
        """A flag that takes one of `choices`; `{}` in the text stands for all of them."""
        self.add(flag, name, text.format(", ".join(choices)), choices=choices, metavar=metavar)

    def switch(self, flag: str, name: str, text: str) -> None:
        """A flag that is on, or off as `--no-...`: a file may have said the other."""
        self.add(flag, name, text, action=argparse.BooleanOptionalAction)


def parsers() -> tuple[Parser, Parser]:
    """The parser of the whole command line, and that of `train`."""
    parser = Parser(prog=PROGRAM, description="The PyTorch workflow without the app.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train | predict", parser_class=Parser)
    train = commands.add_parser(
        "train",
        help="make or read data, build a model, train, evaluate and save it",
        description="Make or read data, build a model, train, evaluate and save it.",
        usage=f"{PROGRAM} train [SPEC.toml] [flags]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "spec", metavar="SPEC.toml", nargs="?", help="settings to start from; what it leaves out is default"
    )
    _add_sources(train.group("data: a formula (default line), a sample or a table of your own"))
    _add_formula(train.group("data from a formula: X = arange(start, stop, step)"))
    _add_rows(train.group("rows"))
    _add_model(train.group("model"))
    _add_training(train.group("training"))
    _add_schedule(train.group("schedule and end"))
    _add_seeds(train.group("seeds (default 42)"))
    _add_output(train.group("output"))
    predict = commands.add_parser(
        "predict",
        help="predict with a saved model",
        description="Load a saved model and print `X  y_pred` for every X, in the units of the data.",
        usage=f"{PROGRAM} predict FILE X [X ...] [flags]",
    )
    _add_predict(predict)
    return parser, train


def _add_sources(group: Group) -> None:
    group.choice("--formula", "data.kind", FORMULAS, "{}", "KIND")
    group.choice("--sample", "data.sample", SAMPLES, "{}")
    group.add("--data", "data.file", "a CSV, TSV or Parquet file", type=_path, metavar="FILE")
    group.add(
        "--features",
        "data.features",
        "columns of --data (default: all numeric ones but the target)",
        type=_names,
        metavar="A,B,...",
    )
    group.add("--target", "data.target", "column of --data (default: the last)", metavar="NAME")
    group.switch("--header", "data.header", "does --data begin with names? Without: column_1, column_2, ...")
    group.choice(
        "--missing", "data.missing", MISSING, "refuse (default), drop their rows, or impute the training mean", "HOW"
    )


def _add_formula(group: Group) -> None:
    group.number("--weight", "data.weight", "slope or height (default 0.7)")
    group.number("--bias", "data.bias", "y at 0 (default 0.3)")
    group.number("--curve", "data.curve", "of quadratic: curve X^2 + weight X + bias (default 1)")
    group.number("--frequency", "data.frequency", "of sine: weight sin(2 pi frequency X) + bias (default 1)")
    group.number("--threshold", "data.threshold", "of step: bias, from there on bias + weight (default 0.5)")
    group.numbers(
        "--coefficients", "data.coefficients", "of polynomial: those of 1, X, X^2, ... (default 0.3,0.7,-1,0.5)"
    )
    group.numbers("--weights", "data.weights", "of plane: one for each feature x1, x2, ... (default 0.7,-0.4)")
    for name, value in (("start", "0"), ("stop", "1"), ("step", "0.02")):
        group.number(f"--{name}", f"data.{name}", f"default {value}")
    group.number("--noise", "data.noise", "standard deviation of noise on y (default 0)")
    group.choice("--spacing", "data.spacing", SPACINGS, "of X: {} (default grid)", "HOW")


def _add_rows(group: Group) -> None:
    group.add("--split", "split", "shares of training, validation and test (default 70/15/15)", metavar="A/B/C")
    group.switch("--shuffle", "shuffle", "deal the rows in random order, not from first to last")
    group.switch(
        "--standardize", "data.standardize", "features and target to mean 0, deviation 1 over the training rows"
    )
    group.choice("--dtype", "data.dtype", DTYPES, "of data and model: {} (default float32)", "TYPE")


def _add_model(group: Group) -> None:
    group.add(
        "--model",
        "model",
        "parameter (default; one feature), linear, polynomial, mlp, or a class of your own: FILE.py:Class",
        type=_model,
        metavar="KIND",
    )
    group.add(
        "--model-arg",
        "model.arguments",
        "keyword argument of your class; may be given several times",
        type=_argument,
        action="append",
        metavar="NAME=VALUE",
    )
    group.whole("--degree", "model.degree", "of polynomial (default 2)")
    group.add("--hidden", "model.hidden", "layers of mlp (default 16,16)", type=_widths, metavar="N,N,...")
    group.choice("--activation", "model.activation", ACTIVATIONS, "of mlp: {} (default relu)")
    group.number("--dropout", "model.dropout", "of mlp (default 0)")
    group.add("--init", "init", "zeros, seed (default), or values: weight=1,bias=0", type=_init, metavar="VALUES")


def _add_training(group: Group) -> None:
    group.choice("--loss", "train.loss", LOSSES, "{} (default mse)")
    group.number("--delta", "train.delta", "of huber and smooth_l1 (default 1)")
    group.choice("--optimizer", "train.optimizer", OPTIMIZERS, "{} (default sgd)")
    group.number("--lr", "train.learning_rate", "learning rate (default 0.01)")
    group.number("--momentum", "train.momentum", "of sgd and rmsprop (default 0)")
    group.switch("--nesterov", "train.nesterov", "of sgd with momentum")
    group.number("--weight-decay", "train.weight_decay", "default 0.01 for adamw, 0 for the others")
    group.whole("--batch-size", "train.batch_size", "default 0: all rows at once")
    group.number("--clip", "train.clip", "largest norm of all gradients together (default 0: any)")
    group.switch("--deterministic", "train.deterministic", "only algorithms that repeat to the last bit")
    group.add("--device", "train.device", "auto (default), cpu, mps, cuda or cuda:N", metavar="NAME")
    group.add(
        "--loop",
        "train.loop",
        "an experiment: the lines that run, in this order (default forward,loss,zero_grad,backward,step)",
        type=_loop,
        metavar="LINES",
    )
    group.choice(
        "--optimizer-over",
        "train.optimizer_over",
        OPTIMIZER_OVER,
        "an experiment: holds the parameters of this model, or of another that is equal: {} (default model)",
    )


def _add_schedule(group: Group) -> None:
    group.whole("--epochs", "train.epochs", "default 100")
    group.choice("--scheduler", "train.scheduler", SCHEDULERS, "of the learning rate: {} (default none)")
    group.whole(
        "--scheduler-epochs", "train.scheduler_epochs", "of a step, of warmup, or of patience on a plateau (default 30)"
    )
    group.number("--scheduler-factor", "train.scheduler_factor", "of step, plateau and warmup (default 0.1)")
    group.whole(
        "--early-stop",
        "train.early_stop",
        "end after N epochs without a better validation loss, and keep the best weights (default 0: never)",
    )
    group.number("--min-delta", "train.min_delta", "what --early-stop takes for better (default 0)")


def _add_seeds(group: Group) -> None:
    group.whole("--seed", "seed", "all of them at once; its own flag wins for each")
    group.whole("--noise-seed", "data.seed", "of the noise on y")
    group.whole("--x-seed", "data.x_seed", "of X, where it is drawn or shuffled")
    group.whole("--shuffle-seed", "split.seed", "of --shuffle")
    group.whole("--init-seed", "init.seed", "of the initial parameters")
    group.whole("--batch-seed", "train.batch_seed", "of the order of the rows, with --batch-size")


def _add_output(group: Group) -> None:
    group.add("--save", "save", "save the trained model there", metavar="FILE")
    group.add(
        "--kind",
        "save_kind",
        "what --save writes: state_dict, the weights alone (default), or checkpoint, everything",
        type=_save_kind,
        metavar="KIND",
    )
    group.add("--overwrite", "overwrite", "let --save replace a file that is there", action="store_true")
    group.add("--detach", "detach", "train in the engine of a workspace, and return at once", action="store_true")
    group.add("--workspace", "workspace", "which one, with --detach (default: default)", metavar="NAME|DIR")
    group.add("--json", "json", "JSON lines: started, epoch (with --every) and finished", action="store_true")
    group.add("--every", "every", "report every Nth epoch and the last", type=_positive, metavar="N")
    group.add("--print-spec", "print_spec", "print all settings as TOML, and end", action="store_true")


def _add_predict(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file that was saved by train or by the app")
    parser.add_argument(
        "x", metavar="X", type=_features, nargs="+", help="a number, or a,b,... where the model has several features"
    )
    group = parser.group("flags")
    group.add("--model", "model", "the class, where it is your own", type=_own_class, metavar="FILE.py:Class")
    group.add(
        "--model-arg",
        "arguments",
        "keyword argument of your class, where the file's own cannot be tried out; may be given several times",
        type=_argument,
        action="append",
        metavar="NAME=VALUE",
    )
    group.add("--spec", "spec", "settings of a bare state_dict that is no default model's", metavar="SPEC.toml")
    group.add("--json", "json", "one JSON object a line", action="store_true")


# --- how a text is read: argparse turns an ArgumentTypeError into its one sentence -------------------


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a number") from None


def _features(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    if not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a finite number")
    return numbers


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(_number, text.split(",")))


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


def _widths(text: str) -> tuple[int, ...]:
    return tuple(map(_whole, text.split(","))) if text.strip() else ()


def _path(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("no file is named")
    return text


def _names(text: str) -> tuple[str, ...]:
    """Names between commas; one that holds a comma itself stands in double quotes, as in a CSV file."""
    try:
        names = tuple(next(csv.reader([text], skipinitialspace=True, strict=True), []))
    except csv.Error as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no list of names: {error}") from None
    if not names or not all(names):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} has an empty name in it; write for example age,bmi")
    return names


def _model(text: str) -> dict[str, Any]:
    if text in MODEL_KINDS and text != "custom":
        return {"kind": text}
    if (custom := ModelSpec.parse_custom(text)) is not None:
        return {"kind": "custom", "file": custom[0], "class_name": custom[1]}
    kinds = ", ".join(kind for kind in MODEL_KINDS if kind != "custom")
    raise argparse.ArgumentTypeError(f"{text[:200]!r} is no model; choose {kinds} or FILE.py:Class")


def _own_class(text: str) -> tuple[str, str]:
    if (custom := ModelSpec.parse_custom(text)) is None:
        raise argparse.ArgumentTypeError(f"{text[:200]!r} is no class of your own; write FILE.py:Class")
    return custom


def _argument(text: str) -> tuple[str, Argument]:
    """`width=8` and `names=["a", "b"]` as TOML reads them, True and False as Python does; all else is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not NAME=VALUE; write for example width=8")
    return name, _value(value.strip())


def _value(text: str) -> Argument:
    if text in ("True", "False"):
        return text == "True"
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    try:
        return msgspec.convert(document["value"], Argument) if len(document) == 1 else text
    except msgspec.ValidationError:
        return text


def _init(text: str) -> Mapping[str, Any]:
    """`zeros` or `seed`, values by parameter name, or one of the two and then values."""
    first, comma, rest = text.partition(",")
    kind = first.strip()
    if kind not in INITS:
        kind, comma, rest = "", ",", text
    try:
        values = InitSpec.parse(rest) if comma else {}
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return {"values": values, **({"kind": kind} if kind else {})}


def _loop(text: str) -> tuple[Line, ...]:
    """Lines of the loop with commas between them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := next((name for name in names if name not in LINES), None):
        raise argparse.ArgumentTypeError(f"{unknown[:60]!r} is no line of the loop; there are {', '.join(LINES)}")
    return tuple(line for name in names for line in LINES if line == name)


def _save_kind(text: str) -> str:
    if text in SAVE_KINDS:
        return text
    if text in FORMULAS:
        raise argparse.ArgumentTypeError(f"it says what --save writes; data are made by --formula {text}")
    raise argparse.ArgumentTypeError(f"invalid choice: {text[:60]!r} (choose {' or '.join(SAVE_KINDS)})")
