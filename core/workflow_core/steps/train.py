"""Step 3: the training loop, the five lines of it as in any textbook, as fast as its bare form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.devices import available_devices, pick_device
from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import LINES, TrainSpec
from workflow_core.steps import own
from workflow_core.steps.batches import Batches
from workflow_core.steps.custom import check_output
from workflow_core.steps.data import Dataset
from workflow_core.steps.figures import Figures, before_clipping
from workflow_core.steps.ledger import DIVERGED, EARLY_STOP, make_ledger
from workflow_core.steps.lines import Tools, make_lines
from workflow_core.steps.losses import LOSSES, make_criterion, make_lean_criterion
from workflow_core.steps.modes import Modes
from workflow_core.steps.optimizers import OPTIMIZERS, LeanOptimizer, load_state, make_optimizer
from workflow_core.steps.records import CHUNK, EpochRecord, records
from workflow_core.steps.schedules import Schedule
from workflow_core.steps.snapshot import contents, put
from workflow_core.steps.surroundings import around
from workflow_core.steps.tensors import on_cpu
from workflow_core.steps.tracked import Tracked
from workflow_core.views import LoopView

__all__ = [
    "CHUNK",
    "DIVERGED",
    "EARLY_STOP",
    "LOSSES",
    "OPTIMIZERS",
    "EpochRecord",
    "Trainer",
    "available_devices",
    "make_criterion",
    "pick_device",
    "records",
    "train",
]


class Trainer:
    """A model in training on the device that `spec` names; it moves `model` there and changes it in place.

    `epoch` is how many epochs the model has behind it already; `done` counts completed epochs, `tracked` are the values
    that are followed. The figures of an epoch stay on the device until `fetch`, so that `epoch()` never waits for an
    accelerator; only the scheduler `plateau` and the optimizer `lbfgs` do, which cannot go on without the loss. Where
    the device `reads_at_once` there is nothing to wait for.

    `ended` says why the training is over before its last epoch (see `Ledger`); `best` is (epoch, loss) of the best so
    far. On an accelerator both are those of the last `fetch`. torch's global generators are seeded with `batch_seed`
    here, once (see `around`). Raises WorkflowError for a device that is not there.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, spec: TrainSpec, epoch: int = 0) -> None:
        self.spec = spec
        self.device = pick_device(spec.device, dataset.spec.dtype)
        self.model = model.to(self.device).train()
        dataset = dataset.to(self.device)
        self.batches = Batches(*dataset.inputs("train"), spec.batch_size, spec.batch_seed)
        self.X_val, self.y_val = dataset.inputs("validation")
        self.validates = len(self.X_val) > 0
        self.criterion: Callable[..., Any] = make_lean_criterion(spec)
        self.optimizer = make_optimizer(spec, self.model)
        self.schedule = Schedule(spec, self.optimizer)
        self.done = epoch
        # a CPU figure is there at once; elsewhere reading it would wait for the device
        self.reads_at_once = reads_at_once(self.device)
        self._figures = Figures(self.model, self.batches, self.reads_at_once)
        self._ledger: Any = make_ledger(self.model, spec, self.validates, epoch, self.reads_at_once)
        self.tracked: Tracked = self._ledger.tracked
        self._lean = LeanOptimizer(self.optimizer)
        self._modes = Modes(self.model)
        self._parameters = list(self.model.parameters())
        surroundings = around(spec, self.model, self.device)
        self._around, self._random = surroundings.cheapest(), surroundings.random
        self._dealt: Iterator[tuple[Tensor, Tensor]] | None = None
        self._losses: list[Any] = []
        self._norm: Any = None
        self._last_norm: Any = None
        self._next_rate: float | None = None
        self._forward: Callable[[Tensor], Any] = self._checked
        self._lines = make_lines(
            spec,
            Tools(
                lambda X: self._forward(X),
                self.criterion,
                self._lean,
                dict(self.model.named_parameters()),
                self._figures.read,
                self._figures.grad_norm,
            ),
        )
        textbook = spec.loop == LINES and spec.optimizer != "lbfgs"
        self._learn = self._descend if textbook else self._go_through
        self._before_pass: dict[str, Any] | None = None
        self._pass: tuple[int, int] = 0, 0
        self._threads: int | None = None
        self._rows = spec.batch_size or len(dataset.X)

    @classmethod
    def resumed(cls, model: nn.Module, dataset: Dataset, spec: TrainSpec, state: dict[str, Any]) -> Trainer:
        """A trainer that goes on where one stood when its `state()` was taken, by the same settings on the same data.

        `model` is one like that which was trained; it gets its weights, its buffers, and what else of it is kept (see
        `own.state`). On a CPU with the same torch and as many threads the training goes on as if it had never been
        interrupted, to the last bit. Raises WorkflowError where the state does not fit; `model` is of no use then.
        """
        trainer = cls(model, dataset, spec, state["epoch"])
        try:
            trainer._load(state)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise WorkflowError(
                "Another training",
                f"what was kept of the run does not fit its settings: {sanitize(str(error), 200)}.",
                "Reset to train from the start.",
            ) from error
        return trainer

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on: plain values and tensors on the CPU, all of it copied.

        torch.load reads it with its safe defaults. `threads` are those that the training had last, None where it has
        not begun, `rows` the number by which they are chosen. Figures not fetched so far are in it, too. Waits for the
        device. In a pass that is made one line at a time it is that from before the pass.
        """
        self._settle()
        if self._before_pass is not None:
            # its own is never changed, and may hold a tensor twice
            kept = on_cpu({name: part for name, part in self._before_pass.items() if name != "own"})
            kept["own"] = self._before_pass["own"]
            return {**kept, "next_rate": self._next_rate, "ledger": self._ledger.state()}
        gradients = {name: parameter.grad for name, parameter in self.model.named_parameters()}
        return {
            "epoch": self.done,
            "losses": torch.tensor(list(map(float, self._losses)), dtype=torch.float64),
            "model": contents(self.model),
            "own": own.state(self.model),
            # the textbook's loop forgets them before they are used again
            "gradients": on_cpu(gradients) if self.spec.experiment else {},
            # what they had before they were clipped
            "norm": None if self._clipped_from is None else float(self._clipped_from),
            "optimizer": on_cpu(self.optimizer.state_dict()),
            "schedule": self.schedule.state(),
            "next_rate": self._next_rate,
            "batches": self.batches.state(begun=self._dealt is not None),
            "random": self._random.state() if self._random is not None else None,
            "ledger": self._ledger.state(),
            "torch_version": str(torch.__version__),
            "device": str(self.device),
            "threads": self._threads,
            "rows": self._rows,
        }

    def _load(self, state: dict[str, Any]) -> None:
        put(self.model, state["model"])
        own.put(self.model, state.get("own"))
        for name, gradient in state["gradients"].items():
            parameter = self.model.get_parameter(name)
            parameter.grad = gradient.to(parameter.device, copy=True) if gradient is not None else None
        self._last_norm = state["norm"]
        self._threads = state["threads"]
        load_state(self.optimizer, state["optimizer"])
        self.schedule.load(state["schedule"])
        self._next_rate = state["next_rate"]
        self._ledger.load(state["ledger"])
        self.batches.load(state["batches"])
        losses = state["losses"]
        if len(losses):
            self._dealt = self.batches.after(len(losses))
            self._losses = (
                losses.tolist() if self.reads_at_once else list(losses.to(self.device, self.batches.y.dtype).unbind())
            )
        if self._random is not None:
            self._random.load(state["random"])

    @property
    def batch(self) -> int:
        """How many batches of the epoch under way are done; 0 between two epochs."""
        return len(self._losses)

    @property
    def under_way(self) -> bool:
        """Has an epoch begun that is not over?"""
        return self._dealt is not None

    @property
    def ended(self) -> str:
        """`early stop`, `diverged`, `failed`, or "" where neither has happened."""
        return str(self._ledger.ended)

    @property
    def first_bad(self) -> int | None:
        """The first epoch with a NaN or infinite figure; the model holds the weights from before it."""
        first_bad: int | None = self._ledger.first_bad
        return first_bad

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch with the least validation loss (without validation rows, training loss), and that loss."""
        best: tuple[int, float] | None = self._ledger.best
        return best

    @property
    def held_epochs(self) -> int:
        """How many completed epochs are behind the weights that the model holds now.

        All while the training goes on. After an early stop those up to the best epoch, and with it where it is one of
        the validation loss; the training loss was best before that epoch's updates. After a divergence `first_bad`.
        """
        if self.first_bad is not None:
            return self.first_bad
        if self.ended == EARLY_STOP and self.best is not None:
            return self.best[0] + self.validates
        return self.done

    def break_off(self) -> None:
        """End the training after an error in the middle of an epoch; the model gets the weights from before it back."""
        self._ledger.break_off()
        self._forget_batches()

    def optimizer_state(self) -> dict[str, Any] | None:
        """The optimizer's `state_dict`, a live view; None where the model holds other weights than those it stepped to.

        That is so after an early stop and after a divergence, which put back earlier weights: the momentum and step
        counts of the later ones would lead a training that goes on from them astray.
        """
        return None if self.ended else self.optimizer.state_dict()

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return self.schedule.learning_rate

    def set_learning_rate(self, learning_rate: float) -> None:
        """Go on with another learning rate; a scheduler goes on from it, its later values scaled alike.

        An epoch has one learning rate: while one is under way it is the next that begins with the other.
        """
        if self._dealt is None:
            self.schedule.set_learning_rate(learning_rate)
        else:
            self._next_rate = learning_rate

    def epoch(self) -> None:
        """Train on to the end of the epoch under way, which is one pass over all training rows, then validation.

        Does nothing where the training has ended. Raises WorkflowError where the repeatable mode is asked for and not
        to be had, and in the first epoch where the model does not give one number for each row.
        """
        self.advance()

    def advance(self, interrupted: Callable[[], bool] | None = None, batches: int | None = None) -> bool:
        """As `epoch`, but not beyond so many batches, or the batch after which it is `interrupted`.

        True where the epoch, or the training, is over; else the next call goes on with it.
        """
        if self._ledger.ended:
            return True
        last = self.batches.count
        self._threads = torch.get_num_threads()
        with self._around:
            if self._dealt is None:
                self._dealt = iter(self.batches)
            stop = last if batches is None else min(last, len(self._losses) + batches)
            if self._lines.under_way:
                self._note_pass(self._lines.finish())
            if len(self._losses) < stop:
                self._learn(self._dealt, stop, interrupted)
            if len(self._losses) < last:
                return False
            losses = self._all_losses()
        self._close(losses)
        return True

    def next_line(self) -> LoopView:
        """Run the next line of the loop on the batch under way, or the first one on the next batch, and what it made.

        After the last line the batch is done, and with the last batch the epoch, as if all had run in one go. Does
        nothing where the training has ended. Waits for the device. Raises as `epoch` does, and where a line of an
        experiment lacks what it needs; what went wrong is then in `loop`, too.
        """
        over = False
        if not self._lines.under_way:
            before = self.state()
            if self._ledger.ended:
                return self.loop
            self._before_pass, self._pass = before, (self.done, self.batch)
        self._threads = torch.get_num_threads()
        with self._around:
            if self._dealt is None:
                self._dealt = iter(self.batches)
            if not self._lines.under_way:
                self._lines.begin(*next(self._dealt))
            loss = self._lines.watch()
            if loss is not None:
                self._note_pass(loss)
                over = len(self._losses) == self.batches.count
            losses = self._all_losses() if over else []
        if over:
            self._close(losses)
        return self.loop

    @property
    def loop(self) -> LoopView:
        """The pass that `next_line` has begun last."""
        return self._lines.view(*self._pass, self.batches.count)

    def _all_losses(self) -> list[Any]:
        """Of an epoch whose batches are done, that of training and, with validation rows, validation."""
        losses = [self._figures.loss(self._losses)]
        if self.validates:
            losses.append(self._validate())
        return losses

    def _close(self, losses: list[Any]) -> None:
        """An epoch is over."""
        learning_rate = self.schedule.learning_rate
        grad_norm = self._figures.grad_norm() if self._norm is None else self._norm
        self._forward = self.model
        if not self.schedule.idle:
            self.schedule.step(losses[-1])
        self._forget_batches()
        self._last_norm = grad_norm
        self._ledger.note(losses, learning_rate, grad_norm)
        self.done += 1
        if self._next_rate is not None:
            self.schedule.set_learning_rate(self._next_rate)
            self._next_rate = None

    def _forget_batches(self) -> None:
        self._dealt, self._losses, self._norm = None, [], None
        self._lines.under_way, self._before_pass = False, None

    def _descend(
        self, dealt: Iterator[tuple[Tensor, Tensor]], stop: int, interrupted: Callable[[], bool] | None
    ) -> None:
        """The loop, until `stop` batches of the epoch are done; the loss of every one is noted."""
        model, criterion, optimizer, clip = self._forward, self.criterion, self._lean, self.spec.clip
        read, losses = self._figures.read, self._losses
        self._norm = None

        for X, y in dealt:
            y_pred = model(X)
            loss = criterion(y_pred, y)
            optimizer.zero_grad()
            loss.backward()
            if clip:
                self._norm = read(nn.utils.clip_grad_norm_(self._parameters, clip))
            optimizer.step()
            losses.append(read(loss))
            if len(losses) == stop or (interrupted is not None and interrupted()):
                break

    def _go_through(
        self, dealt: Iterator[tuple[Tensor, Tensor]], stop: int, interrupted: Callable[[], bool] | None
    ) -> None:
        """The same by the lines of an experiment, or of an optimizer that runs them itself."""
        for X, y in dealt:
            self._lines.begin(X, y)
            self._note_pass(self._lines.finish())
            if len(self._losses) == stop or (interrupted is not None and interrupted()):
                break

    def _note_pass(self, loss: Any) -> None:
        self._losses.append(loss)
        self._norm = self._lines.norm
        self._before_pass = None

    def _checked(self, X: Tensor) -> Any:
        """What the model gives in the first epoch: when it was built it was tried in eval mode alone."""
        y_pred = self.model(X)
        check_output(y_pred, len(X))
        return y_pred

    def _validate(self) -> Any:
        with torch.inference_mode():
            self._modes.eval()
            loss = self._figures.read(self.criterion(self.model(self.X_val), self.y_val))
            self._modes.train()
        return loss

    def gradients(self) -> dict[str, float]:
        """What the last batch has left in `.grad` (see `Tracked.gradients`), before clipping; in one transfer."""
        loop = self.spec.loop
        clipped = {"backward", "step"} <= set(loop) and loop.index("step") > loop.index("backward")
        if self._lines.under_way and self._lines.ran("backward") and not self._lines.ran("step"):
            clipped = False  # not yet
        return before_clipping(self.tracked.gradients(), self.spec.clip if clipped else 0.0, self._clipped_from)

    @property
    def _clipped_from(self) -> Any:
        """The norm of the gradients of the last batch, before clipping; None where none was had."""
        return self._last_norm if self._norm is None else self._norm

    def fetch(self) -> dict[str, list[float]]:
        """The figures of all epochs since the last fetch, in one transfer: a column each, oldest first.

        The columns are `train_loss`, `val_loss` (absent without validation rows), `learning_rate`, `grad_norm`, and the
        tracked values by name. The last row is that of the epoch in which the training `ended`, if it did: what an
        accelerator had trained beyond it is dropped, and `done` set back.
        """
        self._settle()
        columns: dict[str, list[float]] = self._ledger.take()
        return columns

    def _settle(self) -> None:
        self.done -= self._ledger.settle()
        if self._ledger.ended:  # which an accelerator may tell in the middle of a later epoch
            self._forget_batches()


def reads_at_once(device: torch.device) -> bool:
    """Does reading a number from `device` wait for nothing?"""
    return device.type == "cpu"


def train(model: nn.Module, dataset: Dataset, spec: TrainSpec) -> Iterator[EpochRecord]:
    """Train `model` in place and yield the record of every epoch.

    Ends after `spec.epochs` epochs, with an early stop, or after the first whose record is not finite. On an
    accelerator records come in chunks, so the model may be up to CHUNK - 1 epochs ahead of the record last yielded.
    Raises WorkflowError for a device that is not there.
    """
    yield from records(Trainer(model, dataset, spec))
