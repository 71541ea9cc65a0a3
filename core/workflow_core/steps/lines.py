"""The lines of the loop one by one: in whatever order an experiment has them, and to be looked at while they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.scripts.train import codes
from workflow_core.specs import LINES, Line, TrainSpec
from workflow_core.steps.tensors import SHOWN, dtype_name
from workflow_core.views import LineView, LoopView, MadeView

MAX_SHOWN = 16
"""Of so many parameters of a model it is shown what a line does to them."""

Made = tuple[MadeView, ...]


@dataclass(frozen=True)
class Tools:
    """What the lines work with: `read` makes a figure of a loss, `grad_norm` one of all gradients as they are."""

    forward: Callable[[Tensor], Any]
    criterion: Callable[[Any, Tensor], Any]
    optimizer: Any
    parameters: Mapping[str, nn.Parameter]
    read: Callable[[Any], Any]
    grad_norm: Callable[[], Any]


class Lines:
    """The lines that `spec.loop` names, in its order: `begin` a pass on a batch, then run them one by one or all.

    A line that needs what no line before it has made raises WorkflowError with what Python says to that. `norm` is that
    of the gradients at the step, before clipping; without a step, at the end of the pass.
    """

    def __init__(self, spec: TrainSpec, tools: Tools) -> None:
        self.order = spec.loop
        self.codes = codes(spec)
        self.under_way = False
        self.norm: Any = None
        self._tools = tools
        self._clip = spec.clip
        self._rows = 0
        self._y_pred: Any = None
        self._loss: Any = None
        self._next = 0
        self._made: dict[Line, Made] = {}
        self._fault = ""
        self._run: dict[Line, Callable[[], object]] = {
            "forward": self._forward,
            "loss": self._compare,
            "zero_grad": tools.optimizer.zero_grad,
            "backward": self._backward,
            "step": self._step,
        }

    def begin(self, X: Tensor, y: Tensor) -> None:
        """A pass on a batch, none of whose lines has run."""
        self.X, self.y, self._rows = X, y, len(X)
        self._y_pred = self._loss = self.norm = None
        self._next, self._made, self._fault = 0, {}, ""
        self.under_way = True

    def ran(self, line: Line) -> bool:
        """Has this line run in this pass?"""
        return line in self.order[: self._next]

    def finish(self) -> Any:
        """Run the lines that are left; the loss of the pass."""
        for line in self.order[self._next :]:
            self._run[line]()
        self._next = len(self.order)
        return self._end()

    def watch(self) -> Any:
        """Run the next line and note what it makes; the loss of the pass after its last line, None before."""
        try:
            self._watch_next()
            return self._end() if self._next == len(self.order) else None
        except Exception as error:
            self._fault = (
                error.problem.message if isinstance(error, WorkflowError) else f"{type(error).__name__}: {error}"
            )
            raise

    def view(self, epoch: int, batch: int, batches: int) -> LoopView:
        """The pass as far as it was watched; `left_out` are tensors that nothing is shown of."""
        hidden = max(0, len(self._tools.parameters) - MAX_SHOWN)
        left_out: dict[Line, int] = {"zero_grad": hidden, "backward": hidden, "step": hidden * (2 if self._clip else 1)}
        return LoopView(
            epoch=epoch,
            batch=batch,
            batches=batches,
            rows=self._rows,
            lines=tuple(
                LineView(
                    line=line,
                    code=self.codes[line],
                    done=line in self._made,
                    made=self._made.get(line, ()),
                    left_out=left_out.get(line, 0) if line in self._made else 0,
                )
                for line in self.order
            ),
            next=self._next,
            off=tuple(line for line in LINES if line not in self.order),
            fault=self._fault,
        )

    def _watch_next(self) -> None:
        if self._next < len(self.order):
            line = self.order[self._next]
            self._made[line] = self._watched(line)
            self._next += 1

    def _end(self) -> Any:
        if self.norm is None:
            self.norm = self._tools.grad_norm()
        loss = self._tools.read(self._needed("loss", "loss.item()"))
        self.under_way = False
        return loss

    def _needed(self, name: str, where: str) -> Any:
        value = self._loss if name == "loss" else self._y_pred
        if value is not None:
            return value
        maker: Line = "loss" if name == "loss" else "forward"
        why = "comes later" if maker in self.order else "is switched off"
        raise WorkflowError(
            "A line lacks what it needs",
            f"{where} gives NameError: name '{name}' is not defined, because {self.codes[maker].strip()} {why}",
            "Put that line before the ones that need it.",
        )

    def _forward(self) -> None:
        self._y_pred = self._tools.forward(self.X)

    def _compare(self) -> None:
        self._loss = self._tools.criterion(self._needed("y_pred", self.codes["loss"].strip()), self.y)

    def _backward(self) -> None:
        loss, order = self._needed("loss", self.codes["backward"].strip()), self.order
        try:
            loss.backward()
        except RuntimeError as error:
            moved = "step" in order and order.index("forward") < order.index("step") < order.index("backward")
            if not moved or "modified by an inplace operation" not in str(error):
                raise
            raise WorkflowError(
                "A line comes too early",
                "loss.backward() gives RuntimeError: one of the variables needed for gradient computation has been "
                "modified by an inplace operation, because optimizer.step() has changed the parameters since "
                "the forward pass that it goes back through",
                "Put optimizer.step() after loss.backward().",
            ) from error

    def _step(self) -> None:
        self._limit()
        self._tools.optimizer.step()

    def _limit(self) -> None:
        """What is done with the gradients before a step: look how large they are, and clip them."""
        if self._clip:
            norm = nn.utils.clip_grad_norm_(list(self._tools.parameters.values()), self._clip)
            self.norm = self._tools.read(norm)
        else:
            self.norm = self._tools.grad_norm()

    def _watched(self, line: Line) -> Made:
        if line in ("zero_grad", "backward"):
            return self._difference(self._run[line], ".grad")
        if line == "step":
            if self._clip:
                return self._difference(self._limit, ".grad, clipped") + self._difference(self._tools.optimizer.step)
            return self._difference(self._step)
        self._run[line]()
        if line == "loss":
            return (_made("loss", self._loss),)
        return _made("y_pred", self._y_pred), _made("residual", self._y_pred.detach() - self.y)

    def _difference(self, run: Callable[[], object], suffix: str = "") -> Made:
        """Run something, and see what it does to the parameters or, with a suffix, to their gradients."""
        parameters = dict(islice(self._tools.parameters.items(), MAX_SHOWN))

        def look() -> list[tuple[float, ...] | None]:
            return [_values(parameter.grad if suffix else parameter) for parameter in parameters.values()]

        before = look()
        run()
        return tuple(
            MadeView(
                label=f"{name}{suffix}",
                shape=tuple(parameter.shape),
                dtype=dtype_name(parameter.dtype),
                before=old,
                after=new,
            )
            for (name, parameter), old, new in zip(parameters.items(), before, look(), strict=True)
        )


class Search(Lines):
    """The lines of an optimizer that runs them itself, several times a step: one call of it is all of them.

    The loss, the norm, and what the lines before the step have made, are those of the first evaluation, at the weights
    from before the step: what the other optimizers' are, too.
    """

    def finish(self) -> Any:
        """The whole step."""
        self._search(lambda line: self._run[line]())
        return self._end()

    def _watch_next(self) -> None:
        evaluations = 0

        def watched(line: Line) -> None:
            nonlocal evaluations
            evaluations += line == "forward"
            if evaluations > 1:
                self._run[line]()
            else:
                self._made[line] = self._watched(line)

        moved = self._difference(lambda: self._search(watched))
        counted = MadeView(label="evaluations", shape=(), dtype="int64", before=None, after=(float(evaluations),))
        self._made["step"] = (counted, *moved)

    def _search(self, run: Callable[[Line], object]) -> None:
        def closure() -> Any:
            for line in LINES[:-1]:
                run(line)
            if self.norm is None:
                self.norm = self._tools.grad_norm()
            return self._loss

        self._loss = self._tools.optimizer.step(closure)
        self._next = len(self.order)


def make_lines(spec: TrainSpec, tools: Tools) -> Lines:
    """The lines as the optimizer of `spec` has them run."""
    return (Search if spec.optimizer == "lbfgs" else Lines)(spec, tools)


def _made(label: str, tensor: Tensor) -> MadeView:
    return MadeView(
        label=label, shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype), before=None, after=_values(tensor)
    )


def _values(tensor: Tensor | None) -> tuple[float, ...] | None:
    return None if tensor is None else tuple(map(float, tensor.detach().flatten()[:SHOWN].tolist()))
