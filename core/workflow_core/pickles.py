"""A saved file's pickle is read once without executing anything, to know what torch would be asked to make.

Opcodes and globals must be on a short list, and every tensor must fit into the bytes that the file really holds: tiny
files that ask for gigabytes, views that repeat one number a billion times and sparse tensors end here. Torch-free.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workflow_core.archive import Refused
from workflow_core.sanitize import sanitize

MAX_PICKLE = 2 * 1024 * 1024
MAX_DEPTH = 8
MAX_ITEMS = 50_000
MAX_DIMENSIONS = 16
MAX_KEY = 500

_OPCODES = frozenset(
    {
        "PROTO",
        "STOP",
        "MARK",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "BINPERSID",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "SETITEM",
        "SETITEMS",
        "APPEND",
        "APPENDS",
    }
)
_ITEM_SIZES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
_DAMAGED = "Damaged file"


@dataclass(frozen=True)
class Claim:
    """A tensor that a pickle asks for, known to fit its storage."""

    shape: tuple[int, ...]
    size: int

    def __setstate__(self, state: object) -> None:
        # torch would let BUILD change the tensor behind the back of the check
        raise Refused("Not weights", "it changes its tensors in a way that saved weights never do")


@dataclass(frozen=True)
class _Storage:
    item_size: int
    count: int

    def __setstate__(self, state: object) -> None:
        raise Refused("Not weights", "it changes its storages in a way that saved weights never do")


class _Mapping(dict[Any, Any]):
    """Stands for an OrderedDict; the attributes that state_dicts carry are of no use to anybody here."""

    def __setstate__(self, state: object) -> None:
        return


def outline(data: bytes, storages: dict[str, int]) -> object:
    """The pickle's content with a `Claim` in each tensor's place. Raises Refused.

    `storages` gives the bytes that the file holds for each storage key.
    """
    _scan(data)
    try:
        content = _Reader(data, storages).load()
    except Refused:
        raise
    except Exception as error:  # a malformed pickle raises nearly anything
        raise Refused(_DAMAGED, "its list of contents makes no sense", "Fetch or save it again.") from error
    claimed = sum(leaf.size for _, leaf in walk(content, Claim) if isinstance(leaf, Claim))
    if claimed > 4 * sum(storages.values()) + 65_536:
        raise Refused("Not weights", "its tensors claim far more than the file holds")
    return content


def walk(content: object, kind: type) -> Iterator[tuple[str, object]]:
    """Every leaf of nested dictionaries, lists and tuples with its dotted name; flat lists of plain values are leaves.

    Leaves are plain values (None, bool, int, float, str), lists of them, and instances of exactly `kind`. Raises
    Refused for anything else, and for content that is too deep or too much.
    """
    left = MAX_ITEMS
    stack: list[tuple[str, object, int]] = [("", content, 0)]
    while stack:
        name, item, depth = stack.pop()
        if isinstance(item, list | tuple) and len(item) <= left and all(map(_plain, item)):
            left -= len(item)
            yield name, list(item)
        elif isinstance(item, Mapping | list | tuple):
            if depth == MAX_DEPTH or len(item) > left:
                raise Refused("Not weights", "it holds more, or deeper nested, things than saved weights do")
            left -= len(item)
            parts = item.items() if isinstance(item, Mapping) else enumerate(item)
            stack += [(_dotted(name, key), part, depth + 1) for key, part in reversed(list(parts))]
        elif _plain(item) or type(item) is kind:
            yield name, item
        else:
            raise Refused("Not weights", "it holds something that is neither a tensor nor a plain value")


def _plain(item: object) -> bool:
    return item is None or type(item) in (bool, int, float, str)


def _dotted(name: str, key: object) -> str:
    if type(key) is not int and (type(key) is not str or len(key) > MAX_KEY):
        raise Refused("Not weights", "it has keys that are neither short texts nor whole numbers")
    return f"{name}.{key}" if name else str(key)


def _scan(data: bytes) -> None:
    if len(data) > MAX_PICKLE:
        raise Refused("Not weights", "its list of contents is far too long")
    foreign: list[str] = []
    unknown = False
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name not in _OPCODES:
                unknown = True
                break
            if opcode.name.endswith("PUT") and int(argument or 0) > count:
                raise Refused(_DAMAGED, "its list of contents makes no sense", "Fetch or save it again.")
            if opcode.name == "GLOBAL" and argument not in _GLOBALS and argument not in _ITEM_SIZES:
                foreign.append(str(argument))
    except Refused:
        raise
    except Exception as error:  # pickletools raises nearly anything for what is no pickle
        raise Refused(_DAMAGED, "its list of contents makes no sense", "Fetch or save it again.") from error
    if foreign:
        raise _foreign(foreign[0])
    if unknown:
        raise Refused("Not only weights", "it holds Python objects, which could run code when they are opened")


def _foreign(name: str) -> Refused:
    shown = sanitize(name.replace(" ", "."), 80)
    if name.endswith(" TorchVersion"):
        return Refused(
            "Not only weights",
            "it holds torch.__version__ as an object, not as text",
            "Save it again with str(torch.__version__).",
        )
    return Refused(
        "Not only weights",
        f"it asks for the Python object {shown}, which could run code",
        "Save only the weights: torch.save(model.state_dict(), ...).",
    )


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, storages: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module} {name}"
        if full in _ITEM_SIZES:
            return full
        if full in _GLOBALS:
            return _GLOBALS[full]
        raise _foreign(full)

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _, count = pid
        if word != "storage" or kind not in _ITEM_SIZES or type(count) is not int or count < 0:
            raise Refused(_DAMAGED, "its list of contents makes no sense")
        if self.storages.get(key) != count * _ITEM_SIZES[kind]:
            raise Refused(_DAMAGED, "it claims to hold more or other numbers than it does", "Fetch or save it again.")
        return _Storage(_ITEM_SIZES[kind], count)


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, _grad: object, *extras: object) -> Claim:
    numbers = (offset, *shape, *stride)
    if (
        type(storage) is not _Storage
        or any(extras)
        or len(shape) != len(stride)
        or len(shape) > MAX_DIMENSIONS
        or any(type(number) is not int or number < 0 for number in numbers)
    ):
        raise Refused(_DAMAGED, "one of its tensors makes no sense")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise Refused("Not weights", "one of its tensors claims more numbers than the file holds")
    return Claim(tuple(shape), count * storage.item_size)


def _parameter(data: Claim, _grad: object, *extras: object) -> Claim:
    if type(data) is not Claim or any(extras):
        raise Refused(_DAMAGED, "one of its tensors makes no sense")
    return data


_GLOBALS: dict[str, Any] = {
    "collections OrderedDict": _Mapping,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
