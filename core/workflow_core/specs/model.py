"""What the model of a run is: one of ours, or a class in the user's own file, and where its parameters start."""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

from workflow_core.specs.checks import check_number, check_seed, check_text, check_whole
from workflow_core.specs.data import MAX_DEGREE

ModelKind = Literal["parameter", "linear", "polynomial", "mlp", "custom"]
Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"]
InitKind = Literal["seed", "zeros"]
Argument = bool | int | float | str | list[bool | int | float | str]

MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
INITS: tuple[InitKind, ...] = get_args(InitKind)

MAX_LAYERS = 32
MAX_WIDTH = 65_536

MODEL_USES: dict[ModelKind, tuple[str, ...]] = {
    "parameter": (),
    "linear": (),
    "polynomial": ("degree",),
    "mlp": ("hidden", "activation", "dropout"),
    "custom": ("file", "class_name", "arguments"),
}
"""The settings that each kind of model has for itself."""

_PAIRS = re.compile(r"\s*([^=,\[\]]+?)\s*=\s*(\[[^\]]*\]|[^,\[\]]*)\s*(?:,|$)")


class InitSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model starts: drawn with `seed` set just before (or all `zeros`), then `values` put in by parameter name.

    A single value fills its parameter, a list gives every element in order. All parameters are drawn even where a
    value is given, so that giving one never moves another.
    """

    kind: InitKind = "seed"
    seed: int = 42
    values: dict[str, float | tuple[float, ...]] = {}

    def __post_init__(self) -> None:
        check_seed("the initialisation seed", self.seed)
        for name, value in self.values.items():
            check_text("the name of a parameter", name)
            for number in value if isinstance(value, tuple) else (value,):
                check_number(f"the initial {name}", number)

    @staticmethod
    def parse(text: str) -> dict[str, float | tuple[float, ...]]:
        """Read `weight=1,bias=0` or `linear.weight=[1, 2],linear.bias=0`. Raises ValueError with what is wrong."""
        values: dict[str, float | tuple[float, ...]] = {}
        at = 0
        while at < len(text):
            pair = _PAIRS.match(text, at)
            if pair is None:
                part = text[at:].partition(",")[0].strip()
                raise ValueError(f"{part[:60]!r} is not NAME=NUMBER; write for example weight=1,bias=0")
            name, numbers = pair.groups()
            if name in values:
                raise ValueError(f"{name} is given twice")
            listed = numbers.startswith("[")
            parts = numbers.strip("[]").replace(",", " ").split() if listed else [numbers]
            found = tuple(_number(part, name) for part in parts)
            values[name] = found if listed else found[0]
            at = pair.end()
        if not values or text.rstrip().endswith(","):
            raise ValueError(f"{text[:60]!r} does not end with NAME=NUMBER; write for example weight=1,bias=0")
        return values


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a number (for {name})") from None


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model; `kind` says which of the settings are used, the others are kept and do nothing.

    - `parameter`: the course's line, nn.Parameter weight then bias, each of shape [1]; one feature
    - `linear`: nn.Linear(features, 1)
    - `polynomial`: nn.Linear on x, x², ... up to `degree` of every feature
    - `mlp`: nn.Linear layers of the `hidden` widths, each with `activation` and `dropout` after it, then one to y
    - `custom`: `class_name` out of the Python `file`, made with `arguments`
    """

    kind: ModelKind = "parameter"
    degree: int = 2
    hidden: tuple[int, ...] = (16, 16)
    activation: Activation = "relu"
    dropout: float = 0.0
    file: str = ""
    class_name: str = ""
    arguments: dict[str, Argument] = {}
    init: InitSpec = InitSpec()

    def __post_init__(self) -> None:
        check_whole("the degree", self.degree, 1, MAX_DEGREE)
        if len(self.hidden) > MAX_LAYERS:
            raise ValueError(f"there are {len(self.hidden)} hidden layers; {MAX_LAYERS} is the most")
        for width in self.hidden:
            check_whole("the width of a hidden layer", width, 1, MAX_WIDTH)
        check_number("dropout", self.dropout, 0.0, 0.99)
        for name in ("file", "class_name"):
            check_text(name, getattr(self, name))
        for name in self.arguments:
            check_text("the name of an argument", name)
        if self.kind == "parameter":
            for name, value in self.init.values.items():
                if name not in ("weight", "bias"):
                    raise ValueError(f"the model has no parameter {name!r}; it has weight and bias")
                if isinstance(value, tuple) and len(value) != 1:
                    raise ValueError(f"{len(value)} values are given for {name}; it holds one")
        if self.kind == "custom" and not (self.file and self.class_name.isidentifier()):
            raise ValueError("a model of your own is named as FILE.py:Class, such as model.py:Net")

    @staticmethod
    def parse_custom(text: str) -> tuple[str, str] | None:
        """(file, class) of `path/to/model.py:Net`; None for a text that is not of this form."""
        file, colon, name = text.rpartition(":")
        return (file, name) if colon and file.endswith(".py") and name.isidentifier() else None
