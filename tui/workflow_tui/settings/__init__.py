"""What the forms of Data, Build and Train hold: their fields, and the way from a spec to their values and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from workflow_tui.widgets.field import Values

Spec = TypeVar("Spec")


class IncompleteError(ValueError):
    """The values are on their way to a spec, but something must be chosen first: one sentence."""


def convert(values: Mapping[str, Any], spec: type[Spec]) -> Spec:
    """The spec these plain values describe. Raises ValueError with one sentence that names what does not fit."""
    try:
        return msgspec.convert(values, spec)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).removesuffix(".").partition(" - at `")[0]) from error


def uses(choice: str, table: Mapping[Any, tuple[str, ...]], name: str) -> Callable[[Values], bool]:
    """Is the setting `name` one that the chosen `choice` has a use for, by a table such as OPTIMIZER_USES?"""
    return lambda values: name in table[values[choice]]


def whole_path(text: str) -> str:
    """A path as typed, absolute: the engine may have been started in another folder."""
    if not text:
        return ""
    try:
        return os.path.abspath(os.path.expanduser(text))
    except OSError:  # the current folder was removed
        return text
