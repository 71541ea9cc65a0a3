"""Imports a Python file of the user's as it is now, and leaves the interpreter as it was.

Their folder can be imported from while their file is loaded and tried out, after everything that is installed: a
`json.py` beside the model takes nobody's place. Their modules stay in `sys.modules` until the next load, for what
their functions import later on, and are then forgotten, so that an edited file counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import linecache
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize

MAX_BYTES = 4 * 1024 * 1024

UNREADABLE = "?"
_MARK = "__workflow_user_file__"
"""The global in which a module of theirs has a digest of its file as it was when it ran."""


def is_users(scope: dict[str, Any]) -> bool:
    """Are these the globals of a module of the user's own?"""
    return bool(scope.get(_MARK))


def sources() -> dict[str, str]:
    """The files of the modules of theirs that are loaded now, and a digest of each as it was then."""
    scopes = [vars(module) for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    files = {str(scope["__file__"]): str(scope[_MARK]) for scope in scopes if is_users(scope) and scope.get("__file__")}
    return dict(sorted(files.items()))


def digest(path: Path) -> str:
    """What tells this file from any other: a SHA-256 in hexadecimal digits; UNREADABLE where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return UNREADABLE


def scopes(kinds: Iterable[type]) -> dict[str, dict[str, Any] | type]:
    """The globals of the modules of theirs that these classes are of, and what else of theirs those name, by name.

    With them their classes, whose attributes are as global.
    """
    found: dict[str, dict[str, Any] | type] = {}
    waiting: list[Any] = list(kinds)
    while waiting:
        item = waiting.pop()
        scope = vars(item) if isinstance(item, ModuleType) else getattr(item, "__globals__", None)
        if isinstance(item, type):
            name = f"{item.__module__}.{item.__qualname__}"
            functions = [part for part in vars(item).values() if isinstance(part, FunctionType)]
            if name not in found and any(is_users(function.__globals__) for function in functions):
                found[name] = item
            waiting += [function for function in functions if function.__globals__.get("__name__") not in found]
        elif isinstance(scope, dict) and is_users(scope) and scope["__name__"] not in found:
            found[scope["__name__"]] = scope
            waiting += [part for part in scope.values() if isinstance(part, ModuleType | FunctionType | type)]
    return found


@contextlib.contextmanager
def surroundings(path: Path) -> Iterator[None]:
    """What their code runs in while it is loaded: its folder importable, its prints on stderr, settings restored.

    A file in a package (a folder with `__init__.py`) can be imported from its project's folder as well.
    """
    _forget()
    known, search, bytecode = set(sys.modules), sys.path[:], sys.dont_write_bytecode
    dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    folders = list(dict.fromkeys((str(path.parent), str(_project(path)))))
    # an edit within the same second and of the same size would not show beside bytecode that was written here
    sys.dont_write_bytecode = True
    sys.path.extend(folders)
    importlib.invalidate_caches()
    try:
        # standard output may belong to whoever reads the records of a training
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:], sys.dont_write_bytecode = search, bytecode
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None)
        torch.set_grad_enabled(gradients)
        for name in set(sys.modules) - known:
            _mark(sys.modules.get(name), sys.modules.get(name.partition(".")[0]), folders)


def beside(path: Path, file: Path) -> bool:
    """Does `file` belong to the same project as `path`, and not to what is installed somewhere in it?"""
    installed = "site-packages" in file.parts or file.is_relative_to(Path(__file__).parents[1])
    return file.is_relative_to(_project(path)) and not installed


def load(path: Path) -> ModuleType:
    """Run the file and return its module. Raises WorkflowError where it cannot be read, else whatever it raises."""
    text = _read(path)
    linecache.checkcache(str(path))
    name, package = _names(path)
    if package:
        importlib.import_module(package)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)[_MARK] = hashlib.sha256(text).hexdigest()
    sys.modules[name] = module
    exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))
    return module


def _read(path: Path) -> bytes:
    try:
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
        reason = "there is no such file" if not path.exists() else "it is not a file of Python code"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the system refused"
    raise WorkflowError(
        "Your model", f"{sanitize(str(path))} cannot be read: {reason}.", "Name the file as path/to/model.py:Class."
    )


def _names(path: Path) -> tuple[str, str]:
    """The module's name as other modules of the user's would import it, and that of its package.

    It is an artificial one where something that is installed has that name.
    """
    project = _project(path)
    parts = [*path.parent.relative_to(project).parts, path.stem]
    name, package = ".".join(parts), ".".join(parts[:-1])
    if package:
        return name, package
    free = name.isidentifier() and name not in sys.modules and name not in sys.stdlib_module_names
    if free:
        found = importlib.util.find_spec(name)
        free = found is not None and found.origin is not None and Path(found.origin) == path
    return (name if free else f"_workflow_user_{name}"), ""


def _project(path: Path) -> Path:
    """The folder to import from: the first above the file that is not a package itself."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder != folder.parent:
        folder = folder.parent
    return folder


def _mark(module: ModuleType | None, top: ModuleType | None, folders: list[str]) -> None:
    """Mark a module that was imported from one of the user's folders, and not from something installed below it."""
    for place in [getattr(top, "__file__", None), *getattr(top, "__path__", ())]:
        if place and module is not None:
            file = Path(place)
            root = file.parent.parent if file.name == "__init__.py" else file.parent
            if str(root) in folders:
                vars(module).setdefault(_MARK, digest(Path(getattr(module, "__file__", None) or "")))


def _forget() -> None:
    """The user's modules of earlier loads are to be imported anew."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and is_users(vars(module)):
            del sys.modules[name]
