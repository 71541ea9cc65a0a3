"""The lines of step 2: the model's class, the model itself, and the values that it starts with."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from pathlib import PurePath

from workflow_core.scripts.data import features
from workflow_core.scripts.text import listed, literal, number
from workflow_core.specs import Activation, ModelSpec, WorkflowSpec

ACTIVATIONS: dict[Activation, str] = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "gelu": "GELU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
}
NAMES = {"parameter": "LinearRegressionModel", "linear": "LinearModel", "polynomial": "PolynomialModel", "mlp": "MLP"}

MODEL_CLASS = """\
class LinearRegressionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x):
        return self.weight * x + self.bias
"""

LINEAR = """\
class LinearModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear({inputs}, 1)

    def forward(self, x):
        return self.linear(x)
"""

POLYNOMIAL = """\
class PolynomialModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear({inputs}, 1)

    def forward(self, x):
        powers = torch.cat([x**power for power in range(1, {stop})], 1)
        return self.linear(powers)
"""

MLP = """\
class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
{layers}        )

    def forward(self, x):
        return self.layers(x)
"""

# what a script may call itself, or takes from elsewhere; a module that was imported already would win over the user's
TAKEN = frozenset((*sys.stdlib_module_names, "torch", "polars", "numpy", "typing_extensions", "sympy", "workflow"))


def model_class(spec: WorkflowSpec) -> str:
    """The class of the model as a learner writes it; of the user's own, how it gets here from their file."""
    model, count = spec.model, features(spec.data)
    match model.kind:
        case "parameter":
            return MODEL_CLASS
        case "linear":
            return LINEAR.format(inputs=_inputs(count))
        case "polynomial":
            return POLYNOMIAL.format(inputs=_inputs(count, model.degree), stop=model.degree + 1)
        case "mlp":
            return MLP.format(layers=_layers(model, count))
        case _:
            return _import(model)


def construct(model: ModelSpec, dtype: str) -> str:
    """The expression that makes a model, drawn from the random numbers as they stand."""
    if model.kind == "custom":
        name = model.class_name if _importable(model) else "UserModel"
        call = f"{name}({_arguments(model)})"
    else:
        call = f"{NAMES[model.kind]}()"
    return call + (".double()" if dtype == "float64" else "")


def build(spec: WorkflowSpec) -> str:
    """The lines of the step."""
    model = spec.model
    text = model_class(spec) + f"\ntorch.manual_seed({model.init.seed})\nmodel = {construct(model, spec.data.dtype)}\n"
    start = ""
    if model.init.kind == "zeros":
        start += "    for parameter in model.parameters():\n        parameter.zero_()\n"
    start += "".join(_given(name, value) for name, value in model.init.values.items())
    return text + (f"with torch.no_grad():\n{start}" if start else "")


def _inputs(count: int | None, degree: int = 1) -> str:
    if count is not None:
        return str(degree * count)
    return f"{degree} * X.shape[1]" if degree > 1 else "X.shape[1]"


def _layers(model: ModelSpec, count: int | None) -> str:
    layers, inputs = [], _inputs(count)
    for width in model.hidden:
        layers += [f"nn.Linear({inputs}, {width})", f"nn.{ACTIVATIONS[model.activation]}()"]
        if model.dropout:
            layers.append(f"nn.Dropout({number(model.dropout)})")
        inputs = str(width)
    return "".join(f"            {layer},\n" for layer in (*layers, f"nn.Linear({inputs}, 1)"))


def _given(name: str, value: float | tuple[float, ...]) -> str:
    # dotted names of parts that are attributes read as in any other code
    plain = all(part.isidentifier() and part.isascii() and not keyword.iskeyword(part) for part in name.split("."))
    parameter = f"model.{name}" if plain else f"model.get_parameter({name!r})"
    if not isinstance(value, tuple):
        return f"    {parameter}.fill_({number(value)})\n"
    values = listed("    values", "torch.tensor([", map(number, value), "], dtype=torch.float64)")
    return f"{values}    {parameter}.copy_(values.view_as({parameter}))\n"


def _import(model: ModelSpec) -> str:
    path = PurePath(model.file)
    folder = f"os.path.expanduser({str(path.parent)!r})" if model.file.startswith("~") else repr(str(path.parent))
    text = f"sys.path.append({folder})\n"
    if _importable(model):
        return f"{text}from {path.stem} import {model.class_name}\n"
    file = f"os.path.expanduser({model.file!r})" if model.file.startswith("~") else repr(model.file)
    return f"{text}UserModel = runpy.run_path({file})[{model.class_name!r}]\n"


def by_path(model: ModelSpec) -> bool:
    """Is the user's file run by its path, because a plain import could mean something else?"""
    return model.kind == "custom" and not _importable(model)


def _importable(model: ModelSpec) -> bool:
    """Can `from FILE import CLASS` be written, and does it mean this file and hide nothing else?"""
    path, name = PurePath(model.file), model.class_name
    module = path.suffix == ".py" and _plain(path.stem) and path.stem not in TAKEN
    # names in capitals with small letters are no names of the script's own
    return module and bool(re.fullmatch(r"[A-Z]\w*[a-z]\w*", name, re.ASCII)) and "_" not in name and _free(name)


def _plain(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def _free(name: str) -> bool:
    return not keyword.iskeyword(name) and not hasattr(builtins, name) and name != "Path"


def _arguments(model: ModelSpec) -> str:
    named = {name: value for name, value in model.arguments.items() if _plain(name)}
    parts = [f"{name}={literal(value)}" for name, value in named.items()]
    if others := {name: value for name, value in model.arguments.items() if name not in named}:
        parts.append(f"**{{{', '.join(f'{name!r}: {literal(value)}' for name, value in others.items())}}}")
    return ", ".join(parts)
