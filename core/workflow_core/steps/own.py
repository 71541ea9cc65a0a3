"""What a model of the user's own has beside its parameters and buffers: plain attributes, and generators among them.

Of torch's own models, and of those of this program, there is nothing of that kind, and asking costs next to nothing.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.steps import generators
from workflow_core.steps.generators import DEPTH, MANY

Tree = Any
"""A value as it is kept: a number, a text or None as it is, all else a tuple of its kind and what it is made of."""
Own = dict[str, dict[str, Tree]]
"""The attributes of every module of a model, by the name of the module and their own."""

PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))
LITTLE = 2**20
"""Bytes that are copied with any tensor which shows only a part of them."""
LEFT = ("left",)
"""Something else: it is left as it is."""
HIDDEN = "_workflow_"
"""What begins so is an attribute of ours."""
_INTERNAL = frozenset(vars(nn.Module()))
_MISSING = object()


def is_theirs(model: nn.Module) -> bool:
    """Is a module in it neither torch's own nor one of this program?"""
    return any(not type(module).__module__.startswith(("torch.", "workflow_core.")) for module in model.modules())


def state(model: nn.Module) -> Own | None:
    """A copy of all that can be kept, of types that torch.load reads with its safe defaults; None for a model of ours.

    Kept are numbers, texts, tensors, arrays of NumPy's, random generators, and lists, tuples and dicts of those. What
    is there twice is kept once.
    """
    if not is_theirs(model):
        return None
    taking = _Taking(model)
    return {
        path: {name: taking.tree(value) for name, value in _attributes(module)}
        for path, module in model.named_modules()
    }


def put(model: nn.Module, saved: Own | None) -> None:
    """Give a model like it what `state` gave. Generators, lists and dicts that it has remain those that they are."""
    putting, modules = _Putting(model), dict(model.named_modules())
    for path, attributes in (saved or {}).items():
        if (module := modules.get(path)) is None:
            continue
        live = module.__dict__
        for name in [name for name, _ in _attributes(module) if name not in attributes]:
            del live[name]
        for name, tree in attributes.items():
            value = putting.value(tree, live.get(name, _MISSING))
            if value is not _MISSING:
                live[name] = value  # a __setattr__ of theirs may do anything


def same(one: Tree, other: Tree) -> bool:
    """Are these, which `state` gave, equal to the last bit?"""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Whatever is done with a model of the user's own, afterwards its attributes and its buffers are as they were.

    So its training does not depend on how often it was looked at, be it that it counts its calls.
    """
    if not is_theirs(model):
        yield
        return
    undo: list[Callable[[], object]] = []
    seen: set[int] = set()
    for module in model.modules():
        undo.append(_undo_of(vars(module), dict(_attributes(module)), lambda name: name in _INTERNAL))
        undo.append(_undo_of(module._buffers, dict(module._buffers)))
        for value in (*dict(_attributes(module)).values(), *module._buffers.values()):
            _remember(value, undo, seen, DEPTH)
    shared = generators.Shared(model)
    stood = shared.read()
    try:
        yield
    finally:
        shared.write(stood)
        with torch.no_grad():
            for each in undo:
                each()


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(module).items()):
        if name not in _INTERNAL and not name.startswith(HIDDEN):
            yield name, value


def _undo_of(
    live: dict[str, Any], was: dict[str, Any], others: Callable[[str], bool] = lambda name: False
) -> Callable[[], None]:
    def undo() -> None:
        for name in [name for name in live if name not in was and not others(name) and not name.startswith(HIDDEN)]:
            del live[name]
        live.update(was)

    return undo


def _remember(value: Any, undo: list[Callable[[], object]], seen: set[int], depth: int) -> None:
    """Add what makes of `value`, which is changed in place, what it is now."""
    kind: Any = type(value)
    if kind in PLAIN or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if not value.is_inference() and value.layout == torch.strided:
            undo.append(_undo_of_tensor(value))
    elif kind in (list, dict):
        items = kind(value)
        undo.append(lambda: _refill(value, items))
        if depth and len(items) <= MANY:
            for item in list(items.values()) if kind is dict else items:
                _remember(item, undo, seen, depth - 1)
    elif kind is tuple and depth:
        for item in value:
            _remember(item, undo, seen, depth - 1)
    elif _is_array(value):
        array = value.copy()
        undo.append(lambda: value.__setitem__(..., array) if value.flags.writeable else None)
    elif (stood := generators.state_of(value)) is not None:
        undo.append(lambda: generators.put(value, stood))


def _undo_of_tensor(tensor: Tensor) -> Callable[[], None]:
    version, was = tensor._version, tensor.detach().clone()

    def undo() -> None:
        # one that nobody has changed may be needed as it is by the line of the loop that comes next
        if tensor._version != version:
            tensor.copy_(was)

    return undo


def _refill(live: Any, items: Any) -> None:
    live.clear()
    live.extend(items) if isinstance(live, list) else live.update(items)


class _Taking:
    """Makes trees of values; what it meets again it names by the number it gave it."""

    def __init__(self, model: nn.Module) -> None:
        parts = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._parts = {id(tensor) for tensor in parts.values()}
        self._storages = {
            tensor.untyped_storage().data_ptr(): (name, tensor.dtype)
            for name, tensor in parts.items()
            if tensor.layout == torch.strided and tensor.numel()
        }
        self._numbers: dict[int, int] = {}
        self._memo: dict[int, Any] = {}

    def tree(self, value: Any, depth: int = DEPTH) -> Tree:
        if type(value) in PLAIN:
            return value
        if (number := self._numbers.get(id(value))) is not None:
            return "same", number
        tree = self._tree(value, depth)
        if tree is LEFT:
            return LEFT
        number = self._numbers[id(value)] = len(self._numbers)
        return (tree[0], number, *tree[1:])

    def _tree(self, value: Any, depth: int) -> tuple[Any, ...]:
        kind = type(value)
        if kind is Tensor:
            return LEFT if id(value) in self._parts else self._tensor(value)
        if kind in (list, tuple):
            if all(type(item) in PLAIN for item in value):
                return kind.__name__, list(value)
            return (kind.__name__, [self.tree(item, depth - 1) for item in value]) if depth else LEFT
        if kind is dict:
            if not depth or not all(map(_is_key, value)):
                return LEFT
            return "dict", [(key, self.tree(item, depth - 1)) for key, item in value.items()]
        if _is_array(value):
            order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            scalar = kind.__name__ != "ndarray"
            return "array", value.dtype.str, tuple(value.shape), order, value.tobytes(order), scalar
        found = generators.state_of(value)
        return LEFT if found is None else ("generator", found)

    def _tensor(self, value: Tensor) -> tuple[Any, ...]:
        data = value.detach()
        if data.layout == torch.strided and data.numel():
            storage = data.untyped_storage()
            name, dtype = self._storages.get(storage.data_ptr(), ("", None))
            if name and dtype == data.dtype:  # it looks at a parameter, and moves with that
                return "view", name, tuple(data.shape), data.stride(), data.storage_offset()
            whole = storage.nbytes() <= max(2 * data.nbytes, LITTLE)
            if whole and data.device.type == "cpu" and not data.is_inference():
                # two that share their numbers still do so afterwards
                copied: Tensor = copy.deepcopy(data, self._memo)
                return "tensor", copied, False, value.is_leaf and value.requires_grad
        return "tensor", data.cpu().clone(), data.device.type != "cpu", value.is_leaf and value.requires_grad


class _Putting:
    """Makes values of trees, where it can of what is there."""

    def __init__(self, model: nn.Module) -> None:
        self._parts = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._device = next((tensor.device for tensor in self._parts.values()), torch.device("cpu"))
        self._made: dict[int, Any] = {}
        self._used: set[int] = set()
        self._memo: dict[int, Any] = {}

    def value(self, tree: Tree, there: Any) -> Any:
        """The value; what is `there` where that is to be left as it is, which may be nothing."""
        if not isinstance(tree, tuple):
            return tree
        if tree == LEFT:
            return there
        kind, number, *rest = tree
        if kind == "same":
            return self._made.get(number, there)
        value = getattr(self, f"_{kind}")(there, *rest)
        if value is not _MISSING:
            self._made[number] = value
        return value

    def _may_use(self, there: Any, kind: type) -> bool:
        """May this be made what another was? What is there twice was perhaps two by then."""
        if type(there) is not kind or id(there) in self._used:
            return False
        self._used.add(id(there))
        return True

    def _list(self, there: Any, trees: list[Tree]) -> Any:
        return self._filled(there, self._items(there, trees, list), list)

    def _tuple(self, there: Any, trees: list[Tree]) -> Any:
        items = self._items(there, trees, tuple)
        return there if items is None else tuple(items)

    def _items(self, there: Any, trees: list[Tree], kind: Any) -> list[Any] | None:
        """None where one of them cannot be had."""
        old = list(there) if type(there) is kind else []
        items = [self.value(tree, old[at] if at < len(old) else _MISSING) for at, tree in enumerate(trees)]
        return None if any(item is _MISSING for item in items) else items

    def _dict(self, there: Any, trees: list[tuple[Any, Tree]]) -> Any:
        old = there if type(there) is dict else {}
        items = {key: self.value(tree, old.get(key, _MISSING)) for key, tree in trees}
        return self._filled(there, None if any(item is _MISSING for item in items.values()) else items, dict)

    def _filled(self, there: Any, items: Any, kind: type) -> Any:
        if items is None:
            return there
        if not self._may_use(there, kind):
            return items
        _refill(there, items)
        return there

    def _generator(self, there: Any, state: generators.State) -> Any:
        if id(there) not in self._used and generators.put(there, state):
            self._used.add(id(there))
            return there
        found = generators.made(state)
        return there if found is None else found

    def _view(self, there: Any, name: str, shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Any:
        part = self._parts.get(name)
        return there if part is None else part.detach().as_strided(shape, stride, offset)

    def _tensor(self, there: Any, saved: Tensor, moved: bool, requires_grad: bool) -> Tensor:
        copied: Tensor = copy.deepcopy(saved, self._memo)
        return (copied.to(self._device) if moved else copied).requires_grad_(requires_grad)

    def _array(self, there: Any, dtype: str, shape: tuple[int, ...], order: str, data: bytes, scalar: bool) -> Any:
        numpy: Any = sys.modules.get("numpy")
        if numpy is None:
            return there
        array = numpy.frombuffer(data, dtype=dtype).reshape(shape, order=order).copy(order="K")
        return array[()] if scalar else array


def _is_key(key: Any) -> bool:
    return type(key) in PLAIN or (type(key) is tuple and all(map(_is_key, key)))


def _is_array(value: Any) -> bool:
    """Is it an array of NumPy's, or one number of it, that holds its values itself?"""
    numpy: Any = sys.modules.get("numpy")
    kinds = (numpy.ndarray, numpy.generic) if numpy is not None else ()
    return isinstance(value, kinds) and type(value).__module__ == "numpy" and value.dtype.kind not in "OV"
