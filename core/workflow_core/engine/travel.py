"""Back to any epoch of a run: states that are kept on the way, and training again from the nearest of them.

A training repeats to the last bit from a kept state, so what lies between two of them need not be kept. Of a model that
is tracked to its last number the weights after every epoch are in the record already.
"""

from __future__ import annotations

import bisect
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.history import RECORDED
from workflow_core.protocol import PastView
from workflow_core.specs import ModelSpec
from workflow_core.steps import build, linear, own
from workflow_core.steps.data import Dataset
from workflow_core.steps.tracked import Tracked
from workflow_core.steps.train import Trainer

BUDGET = 64 * 1024 * 1024
"""Bytes that the kept states of a run may take together."""
MOST = 1024
"""States that are kept at most."""
SHARE = 50
"""Keeping a state may take this part of the time: one in so many."""
State = dict[str, Any]


class Kept:
    """States of one run by the epochs that are behind them, closer together the fewer there are.

    The first one offered stays for ever, and is the only one where two would be too many. When there are too many every
    second one goes, and those to come are kept twice as far apart.
    """

    def __init__(self, budget: int = BUDGET, most: int = MOST) -> None:
        self._budget, self._most = budget, most
        self._epochs: list[int] = []
        self._states: list[State] = []
        self._sizes: list[int] = []
        self._apart = 1
        self._not_before = -math.inf

    def offer(self, epoch: int, make: Callable[[], State]) -> None:
        """Keep the state after `epoch` epochs, which `make` gives, where it is time for one."""
        now = time.monotonic()
        if self._sizes and 2 * self._sizes[0] > self._budget:
            return
        if self._epochs and (epoch < self._epochs[-1] + self._apart or now < self._not_before):
            return
        state = make()
        self._epochs.append(epoch)
        self._states.append(state)
        self._sizes.append(size_of(state))
        self._not_before = now + SHARE * (time.monotonic() - now)
        while len(self._epochs) > 2 and (len(self._epochs) > self._most or sum(self._sizes) > self._budget):
            self._thin_out()

    def put(self, epoch: int, state: State) -> None:
        """Keep a state, whenever the last one was kept."""
        self._not_before = -math.inf
        self.offer(epoch, lambda: state)

    def _thin_out(self) -> None:
        self._apart = max(2 * self._apart, (self._epochs[-1] - self._epochs[0]) // len(self._epochs) * 2)
        for kept in (self._epochs, self._states, self._sizes):
            del kept[1::2]

    def before(self, epoch: int) -> tuple[int, State]:
        """The last state with at most `epoch` epochs behind it, and how many there are."""
        at = max(bisect.bisect_right(self._epochs, epoch) - 1, 0)
        return self._epochs[at], self._states[at]

    def until(self, epoch: int) -> Kept:
        """Those with at most `epoch` epochs behind them, for a run that goes on from there."""
        kept = Kept(self._budget, self._most)
        stop = bisect.bisect_right(self._epochs, epoch)
        kept._epochs, kept._states, kept._sizes = self._epochs[:stop], self._states[:stop], self._sizes[:stop]
        kept._apart = self._apart
        return kept

    def steady(self, model: nn.Module) -> bool:
        """Was what `model` has beside its parameters and buffers the same in every one of them as it is now?"""
        now = own.state(model)
        return all(own.same(state.get("own"), now) for state in self._states)

    def __iter__(self) -> Iterator[tuple[int, State]]:
        return iter(zip(self._epochs, self._states, strict=True))


def size_of(item: Any) -> int:
    """Bytes of the tensors and byte strings in nested containers, and a little for everything else."""
    if isinstance(item, Tensor):
        return item.nbytes + 64
    if isinstance(item, bytes):
        return len(item) + 64
    if isinstance(item, Mapping):
        return sum(map(size_of, item.values())) + 64 * len(item)
    if isinstance(item, list | tuple):
        return sum(map(size_of, item)) + 16 * len(item)
    return 32


class Replay:
    """A training that is done again from a kept state, a slice at a time; the run itself is not touched."""

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        kept: Kept,
        epochs: int,
        lr_changes: Sequence[tuple[int, float]],
        *,
        to_the_end: bool,
    ) -> None:
        """Go on from the last of the `kept` states of `trainer` until `epochs` epochs are done.

        Where it is not to be trained on from there, `to_the_end`, an early stop does not put back other weights.
        """
        _, state = kept.before(epochs)
        spec = trainer.spec if to_the_end else replace(trainer.spec, early_stop=0)
        self.trainer = Trainer.resumed(twin(trainer.model), dataset, spec, state)
        self.epochs = epochs
        self.last: dict[str, float] = {}
        self._changes = dict(lr_changes)
        self._rows = spec.batch_size or len(dataset.X)  # as for the run itself

    def advance(self, until: float) -> bool:
        """Train until it is done, or until `until` (as time.monotonic() counts); says whether it is done."""
        trainer = self.trainer
        devices.set_threads(self._rows)
        while trainer.done < self.epochs and not trainer.ended and time.monotonic() < until:
            if trainer.done in self._changes and not trainer.batch:
                trainer.set_learning_rate(self._changes[trainer.done])
            trainer.advance(lambda: time.monotonic() >= until)
        columns = trainer.fetch()
        if columns["train_loss"]:
            self.last = {name: column[-1] for name, column in columns.items()}
        return trainer.done >= self.epochs or bool(trainer.ended)


def twin(model: nn.Module) -> nn.Module:
    """A copy of the model, with weights of its own. Raises WorkflowError where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a class of the user's own does when it is copied
        raise WorkflowError(
            "This model cannot be copied",
            f"{type(model).__name__} fails when it is copied ({type(error).__name__}), so no other epoch can be shown.",
            "Let it be copied by copy.deepcopy, or look at the recorded figures only.",
        ) from error


def is_recorded(model: nn.Module) -> bool:
    """Are all numbers of the model, buffers included, in the record of every epoch?"""
    return Tracked(model).complete and not any(True for _ in model.buffers())


def with_values(model: nn.Module, values: Mapping[str, float]) -> nn.Module:
    """A copy of a model that is tracked to its last number, with these values."""
    other = twin(model)
    tracked = Tracked(other)
    with torch.no_grad():
        for name, tensor in zip(tracked.names, tracked.tensors(), strict=True):
            tensor.fill_(values[name])
    return other


def view_of(
    run: int,
    epoch: int,
    model: nn.Module,
    model_spec: ModelSpec,
    dataset: Dataset,
    recorded: Mapping[str, float],
    replayed: Mapping[str, float] | None = None,
    *,
    held: bool = True,
) -> PastView:
    """The run as it stood after `epoch`, whose weights `model` holds unless they blew up and are not `held`.

    `recorded` are the figures of that epoch; `replayed` those of training it again, where that was done; there are none
    where the state after just this epoch was kept.
    """
    figures = recorded or replayed or {}
    parameters = {name: value for name, value in figures.items() if name not in RECORDED} or Tracked(model).read()
    whole = held and all(map(math.isfinite, parameters.values()))
    return PastView(
        run=run,
        epoch=epoch,
        parameters=parameters,
        line=build.line(model, dataset) if whole else (),
        pairs=build.pairs(model, dataset) if whole else (),
        coefficients=linear.coefficients(model, model_spec, dataset.features, dataset.scaling) if whole else {},
        train_loss=figures.get("train_loss"),
        val_loss=figures.get("val_loss"),
        learning_rate=figures.get("learning_rate"),
        grad_norm=figures.get("grad_norm"),
        replayed=replayed is not None,
        equal=not replayed or not recorded or all(same(recorded[name], replayed[name]) for name in recorded),
    )


def same(a: float, b: float) -> bool:
    """Equal to the last bit, or both not a number."""
    return a == b or (math.isnan(a) and math.isnan(b))
