"""A model of the user's own: their class out of their file, and everything that may go wrong in it told as theirs.

What is checked here once, before any training, is what would otherwise end in a message of torch's about something
else, or in none at all: a wrong shape broadcasts silently, an output that no parameter has a part in learns nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import Dtype, ModelSpec
from workflow_core.steps import generators, userfile
from workflow_core.steps.own import HIDDEN, undisturbed
from workflow_core.steps.tensors import DTYPES, SAVED_DTYPES, dtype_name

ROWS = 3
MAX_SOURCE = 100_000

_SOURCE, _FILES = f"{HIDDEN}source", f"{HIDDEN}files"
_SHAPE = "Its forward must give one number for each row, of shape [n, 1]"


def build(spec: ModelSpec, features: int, dtype: Dtype, initialise: Callable[[nn.Module], None]) -> nn.Module:
    """A fresh model of the user's class, on the CPU, in `dtype`, given its values by `initialise` and tried out.

    The file is read anew every time. torch's global generator is seeded between the import of the file and the call of
    the class, Python's and NumPy's before the import, so that a seed of theirs counts. Raises WorkflowError with the
    line of their file where something is wrong.
    """
    path = Path(spec.file).expanduser().absolute()
    generators.seed(spec.init.seed)
    with userfile.surroundings(path), explained(path):
        model = _construct(userfile.load(path), spec)
        _check_parts(model)
        if any(nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            _try(model, features, torch.float32)
        model.to("cpu", DTYPES[dtype])
        initialise(model)
        _check_learns(model)
        with torch.random.fork_rng(devices=[]), undisturbed(model):
            _check_trial(_try(model, features, DTYPES[dtype]), DTYPES[dtype])
        str(model)
    vars(model)[_FILES] = userfile.sources()
    return model


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the state_dict of the class with these arguments, made without memory for its numbers.

    None where it cannot be made so, for example because its __init__ reads them. Raises WorkflowError as `build` does.
    """
    path = Path(spec.file).expanduser().absolute()
    with userfile.surroundings(path), explained(path):
        module = userfile.load(path)
        try:
            with torch.device("meta"):
                state = _construct(module, spec).state_dict()
            return {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_meta}
        except WorkflowError:
            raise
        except Exception:
            return None


def source(model: nn.Module) -> str:
    """The text of the class as it was when the file was read; empty for a model of ours."""
    return str(vars(model).get(_SOURCE, ""))


def sources(model: nn.Module) -> dict[str, str]:
    """The files that the model was made of and a digest of each as it was then; empty for a model of ours."""
    return dict(vars(model).get(_FILES, {}))


def _construct(module: ModuleType, spec: ModelSpec) -> nn.Module:
    kind = _class(module, spec.class_name)
    _check_arguments(kind, spec.arguments)
    torch.manual_seed(spec.init.seed)
    model = kind(**spec.arguments)
    if not isinstance(model, nn.Module) or not hasattr(model, "_modules"):
        raise _problem(f"{spec.class_name} gives no nn.Module", "Begin its __init__ with super().__init__().")
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        vars(model)[_SOURCE] = inspect.getsource(kind)[:MAX_SOURCE]
    return model


def _class(module: ModuleType, name: str) -> Callable[..., nn.Module]:
    kind = vars(module).get(name)
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return kind
    shown, file = sanitize(name, 60), sanitize(Path(module.__file__ or "").name)
    others = [
        key
        for key, item in vars(module).items()
        if isinstance(item, type) and issubclass(item, nn.Module) and not item.__module__.startswith("torch.")
    ]
    advice = f"It has {', '.join(others[:8])}." if others else "It has no class that is an nn.Module."
    if kind is None:
        raise _problem(f"{file} has no class {shown}", advice)
    raise _problem(f"{shown} in {file} is {'no nn.Module' if isinstance(kind, type) else 'no class'}", advice)


def _check_arguments(kind: Callable[..., nn.Module], arguments: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(kind)
    except (ValueError, TypeError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        name = getattr(kind, "__name__", "The class")
        takes = f"It is {sanitize(f'{name}{signature}')}" if signature.parameters else f"{name} takes no arguments"
        raise _problem(f"the arguments of {name} do not fit: {sanitize(str(error))}", f"{takes}.") from error


def _check_parts(model: nn.Module) -> None:
    """What a file of weights could not hold is refused before it is trained, not when it is to be saved."""
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise _problem(f"its state_dict holds {sanitize(name, 60)}, which is no tensor", "Keep it elsewhere.")
        if tensor.layout != torch.strided or tensor.dtype not in SAVED_DTYPES:
            what = "sparse" if tensor.layout != torch.strided else dtype_name(tensor.dtype)
            raise _problem(f"{sanitize(name, 60)} is {what}", "Make it of plain floating point numbers.")


def _check_learns(model: nn.Module) -> None:
    parameters = list(model.parameters())
    if not parameters:
        raise _problem(
            "it has no parameters, so there is nothing to learn", "Use nn.Parameter or layers that have some."
        )
    if not any(parameter.requires_grad for parameter in parameters):
        raise _problem("all of its parameters are frozen", "Leave requires_grad of at least one of them on.")


def _try(model: nn.Module, features: int, dtype: torch.dtype) -> Any:
    """What forward gives for a few rows of zeros, which few models refuse; train mode would move running statistics."""
    X = torch.zeros(ROWS, features, dtype=dtype)
    with evaluating(model), torch.enable_grad():
        return model(X)


def _check_trial(y_pred: Any, dtype: torch.dtype) -> None:
    check_output(y_pred, ROWS)
    if y_pred.dtype != dtype:
        raise _problem(
            f"its forward gives {dtype_name(y_pred.dtype)} for inputs and parameters of {dtype_name(dtype)}",
            "Make the tensors that it creates of the dtype of its input x.",
        )
    if not y_pred.requires_grad:
        raise _problem(
            "what its forward gives does not depend on any parameter, so it would learn nothing",
            "Do not use .detach(), .item() or torch.no_grad() on the way from the parameters to the output.",
        )


def check_output(y_pred: Any, rows: int) -> None:
    """Raises WorkflowError where `y_pred` is not one number for each of so many rows."""
    if not isinstance(y_pred, Tensor):
        raise _problem(f"its forward gives a {sanitize(type(y_pred).__name__, 60)}, not a tensor", f"{_SHAPE}.")
    if tuple(y_pred.shape) == (rows, 1):
        return
    if tuple(y_pred.shape) == (rows,):
        raise _problem(
            "its forward gives a tensor of shape [n]",
            f"{_SHAPE}: end it with .unsqueeze(1). Against y of shape [n, 1] it would broadcast to [n, n].",
        )
    shape = ["n" if length == rows else str(length) for length in y_pred.shape]
    raise _problem(f"its forward gives a tensor of shape [{', '.join(shape)}]", f"{_SHAPE}.")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def explained(path: Path | None = None) -> Iterator[None]:
    """Whatever a file of the user's raises inside becomes a WorkflowError that names its line.

    With `path` everything is theirs; without, errors that did not pass through code of theirs go on as they are.
    """
    try:
        yield
    except (WorkflowError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        problem = explain(error, path)
        if problem is None:
            raise
        raise problem from error


def explain(error: BaseException, path: Path | None = None) -> WorkflowError | None:
    """What an exception out of a model of the user's own says, with the line in their file.

    None where it did not pass through code of theirs; with `path` it is theirs in any case.
    """
    place = _place(error, path)
    if not place and path is None:
        return None
    where = place or (sanitize(path.name) if path else "")
    return _problem(f"{where}: {_what(error)}", "Mend it there; the file is read anew at every build.")


def _what(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it ends the program (sys.exit)"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return sanitize(f"{type(error).__name__}: {said}" if said else type(error).__name__, 300).rstrip(".")


def _place(error: BaseException, path: Path | None) -> str:
    """Where in the user's files: the innermost of their lines, as `model.py, line 12`."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{sanitize(Path(error.filename).name)}, line {error.lineno}"
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        # a module that could not be imported was never marked as theirs
        if userfile.is_users(frame.f_globals) or (path is not None and userfile.beside(path, file)):
            name = frame.f_code.co_name
            found = f"{sanitize(file.name)}, line {line}" + ("" if name == "<module>" else f", in {sanitize(name, 60)}")
    return found


def _problem(message: str, advice: str) -> WorkflowError:
    return WorkflowError("Your model", f"Your model cannot be used: {message}.", advice)
