"""What a run is made of: frozen, validated settings that are read from and written to one TOML file.

The defaults are the course's: X = arange(0, 1, 0.02), y = 0.7·X + 0.3, a sequential 70/15/15 split,
weight then bias drawn by `torch.randn(1)` with seed 42, MSELoss, SGD with lr 0.01, 100 epochs.
Every random act has a seed of its own, so that changing one never moves another.
"""

from __future__ import annotations

import math
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import tomli_w

from workflow_core.errors import WorkflowError

Order = Literal["sequential", "shuffled"]
ModelKind = Literal["parameter"]
Loss = Literal["mse", "l1", "huber", "smooth_l1"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
SaveKind = Literal["state_dict", "checkpoint"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
SPLITS = ("train", "validation", "test")

MAX_ROWS = 10_000_000
MAX_EPOCHS = 1_000_000_000
MAX_SEED = 2**63 - 1  # the largest integer that both torch.manual_seed and TOML take
MAX_DEVICE = 127  # torch keeps a device's number in a signed byte
MAX_VALUE = 1e30  # larger ones overflow float32 as soon as they are squared or summed


def _finite(name: str, value: float, low: float = -MAX_VALUE, high: float = MAX_VALUE) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}; it must lie between {low:g} and {high:g}")


def _seed(name: str, value: int) -> None:
    if not 0 <= value <= MAX_SEED:
        raise ValueError(f"{name} is {value}; it must be a whole number from 0 to {MAX_SEED}")


def parse_device(text: str) -> str:
    """The device that `text` names: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`, N from 0 to 127 as torch counts them.

    Raises ValueError for anything else; whether this machine has the device is another question.
    """
    name, _, index = text.partition(":")
    if text in ("auto", "cpu", "mps", "cuda"):
        return text
    # the digits are looked at one by one: int() also takes 1_0, +1 and digits of other scripts
    digits = index.isascii() and index.isdigit() and len(index) <= 3
    if name == "cuda" and digits and index == str(int(index)) and int(index) <= MAX_DEVICE:
        return text
    raise ValueError(f"the device {text[:40]!r} is not known; choose auto, cpu, mps, cuda or cuda:0")


class SplitSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the three splits, each from 0 to 1 and together 1, and the order rows are dealt in.

    Raises ValueError where the shares do not add up or the training share is 0.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    order: Order = "sequential"
    seed: int = 42

    def __post_init__(self) -> None:
        for name in SPLITS:
            _finite(f"the {name} share", getattr(self, name), 0.0, 1.0)
        if self.train == 0:
            raise ValueError("the training share is 0; a model cannot be trained on no rows")
        if (total := sum(self._shares())) != 1:
            raise ValueError(f"the shares {self.text()} add up to {float(total) * 100:g}%; they must add up to 100%")
        _seed("the shuffle seed", self.seed)

    def _shares(self) -> tuple[Fraction, Fraction, Fraction]:
        # repr gives the shortest decimal that reads back as this float: 0.7 is exactly 7/10 here
        return Fraction(repr(self.train)), Fraction(repr(self.validation)), Fraction(repr(self.test))

    def counts(self, n: int) -> tuple[int, int, int]:
        """Rows of the training, validation and test split out of `n`.

        The borders lie at int(train·n) and int((train + validation)·n), as in the course, in exact
        arithmetic: 70/15/15 of 50 rows is 35/7/8, and 70/10/20 is 35/5/10.
        """
        train, validation, _ = self._shares()
        first, second = int(train * n), int((train + validation) * n)
        return first, second - first, n - second

    def text(self) -> str:
        """The shares in percent, for example `70/15/15`."""
        return "/".join(f"{float(share * 100):.15g}" for share in self._shares())

    @classmethod
    def parse(cls, text: str, *, order: Order = "sequential", seed: int = 42) -> SplitSpec:
        """Read `70/15/15` or `0.7/0.15/0.15` (train/validation/test).

        Raises ValueError with what is wrong with the text.
        """
        parts = text.strip().split("/")
        if len(parts) != 3 or len(text) > 100:
            raise ValueError(
                f"the split {text[:100]!r} is not three numbers with slashes between them, such as 70/15/15"
            )
        try:
            numbers = [_decimal(part) for part in parts]
        except ValueError:
            raise ValueError(
                f"the split {text!r} holds something that is not a plain number; write it as 70/15/15"
            ) from None
        total = sum(numbers)
        if total not in (1, 100):
            raise ValueError(f"the shares {text.strip()} add up to {float(total):g}; they must add up to 100 (or to 1)")
        train, validation, test = (float(number / total) for number in numbers)
        return cls(train=train, validation=validation, test=test, order=order, seed=seed)


def _decimal(text: str) -> Fraction:
    text = text.strip().removesuffix("%")
    # twelve characters keep the share exact in a float's shortest decimal
    if not text or len(text) > 12 or set(text) - set("0123456789."):
        raise ValueError(text)
    return Fraction(text)


class DataSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A straight line with optional noise: X = arange(start, stop, step), y = weight·X + bias + noise·randn.

    `noise` is the standard deviation of the noise, in units of y. Raises ValueError for values that
    give no data, or more than 10 million rows.
    """

    weight: float = 0.7
    bias: float = 0.3
    start: float = 0.0
    stop: float = 1.0
    step: float = 0.02
    noise: float = 0.0
    seed: int = 42
    split: SplitSpec = SplitSpec()

    def __post_init__(self) -> None:
        for name in ("weight", "bias", "start", "stop", "step"):
            _finite(name, getattr(self, name))
        _finite("noise", self.noise, 0.0)
        _seed("the noise seed", self.seed)
        if self.step <= 0:
            raise ValueError(f"step is {self.step:g}; it must be greater than 0")
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop:g}) is not above start ({self.start:g}); the range holds no points")
        if (self.stop - self.start) / self.step > MAX_ROWS:
            raise ValueError(
                f"a step of {self.step:g} from {self.start:g} to {self.stop:g} makes more than "
                f"{MAX_ROWS:,} rows; choose a larger step"
            )
        if self.split.counts(self.rows)[0] == 0:
            raise ValueError(
                f"the range gives {self.rows} row{'s' * (self.rows != 1)}, of which a split of "
                f"{self.split.text()} leaves none for training; choose a smaller step or a larger training share"
            )

    @property
    def rows(self) -> int:
        """How many rows arange(start, stop, step) has: ceil((stop - start) / step), as torch computes it."""
        return math.ceil((self.stop - self.start) / self.step)


class InitSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model starts: drawn with `seed` set just before, then `values` put in by parameter name.

    All parameters are drawn even where a value is given, so that giving one never moves another.
    """

    seed: int = 42
    values: dict[str, float] = {}

    def __post_init__(self) -> None:
        _seed("the initialisation seed", self.seed)
        for name, value in self.values.items():
            _finite(f"the initial {name}", value)

    @staticmethod
    def parse(text: str) -> dict[str, float]:
        """Read `weight=1,bias=0` into values by name. Raises ValueError with what is wrong."""
        values: dict[str, float] = {}
        for part in text.split(","):
            name, equals, number = part.partition("=")
            name = name.strip()
            if not name or not equals:
                raise ValueError(f"{part.strip()!r} is not NAME=NUMBER; write for example weight=1,bias=0")
            if name in values:
                raise ValueError(f"{name} is given twice")
            try:
                values[name] = float(number)
            except ValueError:
                raise ValueError(f"{number.strip()!r} is not a number (for {name})") from None
        return values


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model: `parameter` is the course's line, nn.Parameter weight then bias, each of shape [1]."""

    kind: ModelKind = "parameter"
    init: InitSpec = InitSpec()

    def __post_init__(self) -> None:
        for name in self.init.values:
            if name not in ("weight", "bias"):
                raise ValueError(f"the model has no parameter {name!r}; it has weight and bias")


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the model is trained. `learning_rate` is the optimizer's lr, `epochs` full-batch passes.

    `device` is `auto` (CUDA, then MPS, then CPU), `cpu`, `mps`, `cuda` or `cuda:N`.
    """

    loss: Loss = "mse"
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
    epochs: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        _finite("the learning rate", self.learning_rate, 0.0, 1e6)
        if self.learning_rate == 0:
            raise ValueError("the learning rate is 0; nothing would be learnt, choose one above 0")
        if not 1 <= self.epochs <= MAX_EPOCHS:
            raise ValueError(f"epochs is {self.epochs}; it must be a whole number from 1 to {MAX_EPOCHS:,}")
        parse_device(self.device)


class WorkflowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one run is made of: data, model and training."""

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()

    def to_toml(self) -> str:
        """The complete spec as TOML text; `from_toml` reads it back equal."""
        return tomli_w.dumps(msgspec.to_builtins(self))

    @classmethod
    def from_toml(cls, text: str) -> WorkflowSpec:
        """Read TOML text; what it leaves out keeps its default. Raises WorkflowError with what is wrong."""
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise WorkflowError(
                "Not a TOML file", f"the settings are not TOML: {error}.", "Mend the line it names."
            ) from error
        return cls.from_builtins(document)

    @classmethod
    def from_builtins(cls, document: dict[str, Any]) -> WorkflowSpec:
        """Read plain dictionaries (as TOML or a checkpoint hold them). Raises WorkflowError."""
        try:
            return msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise WorkflowError("Settings that do not fit", f"{error}.") from error

    @classmethod
    def read(cls, path: Path) -> WorkflowSpec:
        """Read a TOML file. Raises WorkflowError where it cannot be read or does not fit."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise WorkflowError("Cannot read the settings", f"{path} cannot be read: {reason}.") from error
        return cls.from_toml(text)
