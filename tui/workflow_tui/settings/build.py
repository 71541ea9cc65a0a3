"""The fields of the Build screen: which model, how it is made, and where its parameters start."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from workflow_core.specs import (
    ACTIVATIONS,
    INITS,
    MAX_DEGREE,
    MAX_SEED,
    MODEL_KINDS,
    MODEL_USES,
    InitKind,
    InitSpec,
    ModelKind,
    ModelSpec,
)
from workflow_tui.settings import IncompleteError, convert, uses, whole_path
from workflow_tui.widgets.field import Field, Value, Values

KINDS: dict[ModelKind, str] = {
    "parameter": "nn.Parameter",
    "linear": "nn.Linear",
    "polynomial": "polynomial",
    "mlp": "MLP",
    "custom": "your own class",
}
STARTS: dict[InitKind, str] = {"seed": "drawn", "zeros": "zeros"}
DRAWN = "drawn"
NAMED = ("weight", "bias")
BEGINNING = "Where it starts"


def _kind(name: str) -> Callable[[Values], bool]:
    return uses("kind", MODEL_USES, name)


def _named(values: Values) -> bool:
    return values["kind"] == "parameter"


FIELDS = (
    Field("kind", "model", "choice", choices=tuple((KINDS[kind], kind) for kind in MODEL_KINDS)),
    Field("degree", "degree", "int", "highest power", low=1, high=MAX_DEGREE, step=1, when=_kind("degree")),
    Field("hidden", "hidden", "wholes", "widths of the layers", when=_kind("hidden")),
    Field(
        "activation",
        "activation",
        "choice",
        choices=tuple((name, name) for name in ACTIVATIONS),
        when=_kind("activation"),
    ),
    Field("dropout", "dropout", hint="share put to 0", low=0, high=0.99, step=0.05, when=_kind("dropout")),
    Field("file", "file", "file", when=_kind("file"), empty="f chooses a .py file"),
    Field("class_name", "class", "text", when=_kind("class_name"), empty="an nn.Module in it"),
    Field("arguments", "arguments", "text", when=_kind("arguments"), empty="NAME=VALUE, …"),
    Field(
        "init",
        "start",
        "choice",
        choices=tuple((STARTS[kind], kind) for kind in INITS),
        group=BEGINNING,
    ),
    Field(
        "seed",
        "init seed",
        "int",
        "draws them",
        low=0,
        high=MAX_SEED,
        step=1,
        when=lambda values: values["init"] == "seed",
        group=BEGINNING,
    ),
    Field("weight", "weight", "text", "a number, or drawn", when=_named, group=BEGINNING),
    Field("bias", "bias", "text", "a number, or drawn", when=_named, group=BEGINNING),
    Field(
        "values",
        "values",
        "text",
        when=lambda values: not _named(values),
        group=BEGINNING,
        empty="linear.bias=0",
    ),
)


def values(spec: ModelSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    given, start = spec.init.values, DRAWN if spec.init.kind == "seed" else STARTS[spec.init.kind]
    shown: dict[str, Value] = {name: getattr(spec, name) for name in ("kind", "degree", "hidden", "activation")}
    shown |= {"dropout": spec.dropout, "file": spec.file, "class_name": spec.class_name}
    shown |= {"arguments": ", ".join(f"{name}={value!r}" for name, value in spec.arguments.items())}
    shown |= {"init": spec.init.kind, "seed": spec.init.seed, "values": assignments(given)}
    return shown | {name: _numbers(given[name]) if name in given else start for name in NAMED}


def assignments(given: Mapping[str, float | tuple[float, ...]]) -> str:
    """Initial values as `InitSpec.parse` reads them: `linear.weight=[1, 2], linear.bias=0`."""
    return ", ".join(f"{name}={_numbers(value)}" for name, value in given.items())


def _numbers(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_numbers, value)) + "]"
    return repr(value).removesuffix(".0")


def spec_of(form: Values) -> ModelSpec:
    """The spec the form's values describe.

    Raises ValueError with what does not fit, IncompleteError where a class of one's own is not named yet.
    """
    if form["kind"] == "custom" and not (form["file"] and form["class_name"]):
        raise IncompleteError(
            "Which class of it? type its name"
            if form["file"]
            else "Which model? f chooses its .py file, or type the path"
        )
    plain: dict[str, Any] = {
        name: form[name] for name in ("kind", "degree", "hidden", "activation", "dropout", "class_name")
    }
    plain |= {"file": whole_path(str(form["file"])), "arguments": arguments_of(str(form["arguments"]))}
    init = {"kind": form["init"], "seed": form["seed"], "values": _given(form)}
    return convert({**plain, "init": init}, ModelSpec)


def _given(form: Values) -> dict[str, float | tuple[float, ...]]:
    if not _named(form):
        text = str(form["values"]).strip()
        return InitSpec.parse(text) if text else {}
    given: dict[str, float | tuple[float, ...]] = {}
    for name in NAMED:
        text = str(form[name]).strip()
        if text and text not in STARTS.values():
            given |= InitSpec.parse(f"{name}={text}")
    return given


def arguments_of(text: str) -> dict[str, Any]:
    """The keyword arguments in `width=16, name=relu, sizes=[1, 2]`; a bare word is a text. Raises ValueError."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError
        names = [word.arg for word in call.keywords]
        if None in names or len(set(names)) < len(names):
            raise ValueError
        return {str(word.arg): _literal(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"the arguments {text[:60]!r} are not NAME=VALUE with commas between") from None


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def classes_in(source: str) -> list[str]:
    """The classes of a Python file that have a base, in its order: what may be an nn.Module, without running it.

    Raises ValueError with one sentence where the file is no Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"it is no Python that can be read: {error.msg} (line {error.lineno})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError("it is no Python that can be read") from error
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
