"""Random generators of every kind that a model of the user's own may draw from, and where they stand, in plain values.

NumPy is never imported here: where nobody has, nothing can draw from it.
"""

from __future__ import annotations

import array
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from workflow_core.steps import userfile

State = tuple[Any, ...]
"""Where a generator stands: its kind, and what that kind needs to stand there again."""
Place = tuple[str, str, str]
"""Where a generator is to be found: the module or class, its name there, and its place within what has this name."""


def state_of(item: Any) -> State | None:
    """Where a generator stands; None for what is none, or has no place to stand (the system's own random numbers)."""
    if isinstance(item, torch.Generator):
        return "torch", str(item.device), item.get_state()
    if isinstance(item, random.Random):
        whole = type(item).getstate is random.Random.getstate
        return ("python", type(item).__name__, _packed(item.getstate())) if whole else None
    numpy = _numpy_random()
    if numpy is None:
        return None
    if isinstance(item, numpy.Generator):
        return "numpy", "Generator", _plain(item.bit_generator.state)
    if isinstance(item, numpy.RandomState):
        return "numpy", "RandomState", _plain(item.get_state(legacy=False))
    return ("numpy", "BitGenerator", _plain(item.state)) if isinstance(item, numpy.BitGenerator) else None


def put(item: Any, state: State) -> bool:
    """Let a generator go on from there, itself and no copy of it; False where it is none of that kind.

    One that draws on a device of another kind stays where it is: its numbers are those of its seed.
    """
    kind, which, saved = state
    if kind == "torch":
        if isinstance(item, torch.Generator) and item.device.type == torch.device(which).type:
            item.set_state(saved)
        return isinstance(item, torch.Generator)
    if kind == "python":
        if isinstance(item, random.Random) and type(item).__name__ == which:
            item.setstate(_unpacked(saved))
            return True
        return False
    numpy = _numpy_random()
    if numpy is None or not isinstance(item, getattr(numpy, which)):
        return False
    if which == "RandomState":
        item.set_state(_numpy(saved))
    else:
        (item.bit_generator if which == "Generator" else item).state = _numpy(saved)
    return True


def made(state: State) -> Any:
    """A generator that stands there; None where none can be made."""
    kind, which, _ = state
    numpy = _numpy_random()
    found: Any = None
    if kind == "torch":
        found = torch.Generator(which)
    elif kind == "python" and which == "Random":
        found = random.Random()
    elif kind == "numpy" and numpy is not None:
        bits = getattr(numpy, state[2]["bit_generator"])()
        found = bits if which == "BitGenerator" else getattr(numpy, which)(bits)
    return found if found is not None and put(found, state) else None


def seed(number: int) -> None:
    """Let the random numbers of Python and NumPy begin anew, which a process has once."""
    random.seed(number)
    if (numpy := _numpy_random()) is not None:
        numpy.seed(number % 2**32)


class Shared:
    """The random numbers that a model of the user's own may draw and that are not its own alone.

    Those are Python's, NumPy's where that is loaded, and the generators that are globals of their files or attributes
    of their classes, also within lists, tuples and dicts.
    """

    def __init__(self, model: nn.Module) -> None:
        kinds = dict.fromkeys(kind for module in model.modules() for kind in type(module).__mro__)
        self._scopes = userfile.scopes(kinds)
        self._found = dict(self._search())

    def look_again(self) -> dict[Place, State | None]:
        """Find those too that are there only now, and where they stand."""
        known, self._found = self._found, dict(self._search())
        return {place: state_of(item) for place, item in self._found.items() if place not in known}

    def read(self) -> dict[str, Any]:
        """Where they stand; only `packed` makes plain values of it."""
        numpy = _numpy_random()
        return {
            "python": random.getstate(),
            "numpy": numpy.get_state(legacy=False) if numpy is not None else None,
            "found": {place: state_of(item) for place, item in self._found.items()},
        }

    def write(self, state: dict[str, Any]) -> None:
        """Let them go on from there."""
        random.setstate(state["python"])
        numpy = _numpy_random()
        if numpy is not None and state["numpy"] is not None:
            numpy.set_state(state["numpy"])
        for place, saved in state["found"].items():
            if saved is not None and place in self._found:
                put(self._found[place], saved)

    def revive(self, places: dict[Place, State | None]) -> None:
        """Make those that were made by the way, and are not there yet."""
        for place, saved in places.items():
            scope, variable, path = place
            holder = self._scopes.get(scope)
            if saved is None or place in self._found or path or holder is None or (item := made(saved)) is None:
                continue
            self._found[place] = item
            if isinstance(holder, type):
                setattr(holder, variable, item)
            else:
                holder[variable] = item

    def _search(self) -> Iterator[tuple[Place, Any]]:
        for name, scope in self._scopes.items():
            for variable, value in list((vars(scope) if isinstance(scope, type) else scope).items()):
                for path, item in within(value):
                    yield (name, variable, path), item


DEPTH = 8
"""Lists within lists that are looked into."""
MANY = 10_000
"""Items of a list that are looked at one by one whenever the model is."""


def within(value: Any, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """The generators in a value, each with its place there."""
    kind = type(value)
    if kind in (list, tuple, dict):
        if not depth or len(value) > MANY:
            return
        for key, item in list(value.items()) if kind is dict else enumerate(value):
            for path, found in within(item, depth - 1):
                yield f"[{key!r}]{path}", found
    elif kind not in (int, float, str, type, type(within)) and state_of(value) is not None:
        yield "", value


def packed(state: dict[str, Any]) -> dict[str, Any]:
    """What `Shared.read` gave, of plain types."""
    numpy = state["numpy"]
    return {**state, "python": _packed(state["python"]), "numpy": _plain(numpy) if numpy is not None else None}


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """What `packed` was made of."""
    numpy = state["numpy"] if _numpy_random() is not None else None
    return {**state, "python": _unpacked(state["python"]), "numpy": _numpy(numpy) if numpy is not None else None}


def _numpy_random() -> Any:
    """None where nobody has loaded NumPy, which loads this part of itself when it is first asked for it."""
    return getattr(sys.modules.get("numpy"), "random", None)


def _packed(state: tuple[Any, ...]) -> tuple[Any, ...]:
    version, numbers, gauss = state
    return version, array.array("I", numbers).tobytes(), gauss


def _unpacked(state: tuple[Any, ...]) -> tuple[Any, ...]:
    version, numbers, gauss = state
    return version, tuple(array.array("I", numbers)), gauss


def _plain(item: Any) -> Any:
    """A state of NumPy's with its arrays as bytes."""
    if isinstance(item, dict):
        return {key: _plain(part) for key, part in item.items()}
    return ("array", item.dtype.str, item.tobytes()) if hasattr(item, "tobytes") else item


def _numpy(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _numpy(part) for key, part in item.items()}
    if isinstance(item, tuple):
        numpy: Any = sys.modules["numpy"]
        return numpy.frombuffer(item[2], dtype=item[1]).copy()
    return item
