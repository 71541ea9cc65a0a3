"""How a model is trained: criterion, optimizer, batches, schedule, and when it ends."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from workflow_core.specs.checks import check_number, check_seed, check_whole
from workflow_core.specs.data import MAX_ROWS

Loss = Literal["mse", "l1", "huber", "smooth_l1"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "lbfgs"]
Scheduler = Literal["none", "step", "cosine", "plateau", "warmup"]
SaveKind = Literal["state_dict", "checkpoint"]
Line = Literal["forward", "loss", "zero_grad", "backward", "step"]
OptimizerOver = Literal["model", "another"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
LINES: tuple[Line, ...] = get_args(Line)
"""The five lines of the loop, in the order in which they belong."""
OPTIMIZER_OVER: tuple[OptimizerOver, ...] = get_args(OptimizerOver)

OPTIMIZER_NAMES: dict[Optimizer, str] = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "lbfgs": "LBFGS",
}
"""Their classes in torch.optim, and what people call them."""
LOSS_NAMES: dict[Loss, str] = {"mse": "MSE", "l1": "L1", "huber": "Huber", "smooth_l1": "Smooth L1"}

OPTIMIZER_USES: dict[Optimizer, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov", "weight_decay"),
    "adam": ("weight_decay",),
    "adamw": ("weight_decay",),
    "rmsprop": ("momentum", "weight_decay"),
    "adagrad": ("weight_decay",),
    "lbfgs": (),
}
"""The settings beside the learning rate that each optimizer takes."""
SCHEDULER_USES: dict[Scheduler, tuple[str, ...]] = {
    "none": (),
    "step": ("scheduler_epochs", "scheduler_factor"),
    "cosine": (),
    "plateau": ("scheduler_epochs", "scheduler_factor"),
    "warmup": ("scheduler_epochs", "scheduler_factor"),
}
LOSS_USES: dict[Loss, tuple[str, ...]] = {"mse": (), "l1": (), "huber": ("delta",), "smooth_l1": ("delta",)}

MAX_EPOCHS = 1_000_000_000
MAX_DEVICE = 127  # torch keeps a device's number in a signed byte


def parse_device(text: str) -> str:
    """The device that `text` names: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`, N from 0 to 127 as torch counts them.

    Raises ValueError for anything else; whether this machine has the device is another question.
    """
    name, _, index = text.partition(":")
    if text in ("auto", "cpu", "mps", "cuda"):
        return text
    # the digits are looked at one by one: int() also takes 1_0, +1 and digits of other scripts
    digits = index.isascii() and index.isdigit() and len(index) <= 3
    if name == "cuda" and digits and index == str(int(index)) and int(index) <= MAX_DEVICE:
        return text
    raise ValueError(f"the device {text[:40]!r} is not known; choose auto, cpu, mps, cuda or cuda:0")


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the model is trained; settings that the chosen loss, optimizer or scheduler has no use for do nothing.

    `delta` is huber's delta and smooth_l1's beta. `learning_rate` is the optimizer's lr; `weight_decay` None is the
    optimizer's own (0.01 for adamw, 0 for the others). `batch_size` 0 takes all rows at once; with any other they are
    dealt to batches anew every epoch, in an order drawn with `batch_seed`.

    `scheduler` changes the learning rate after every epoch: `step` multiplies it by `scheduler_factor` every
    `scheduler_epochs`; `cosine` takes it down to 0 over all epochs; `plateau` multiplies it by the factor where the
    validation loss (without one, the training loss) has not fallen for more than `scheduler_epochs`; `warmup` raises it
    from factor times the learning rate to all of it over `scheduler_epochs`.

    `early_stop` ends the training after so many epochs in which that loss has not fallen by more than `min_delta`, and
    puts back the weights that it was best with (the training loss of an epoch is that from before its updates); 0 never
    does. `clip` is the largest norm that the gradients may have together, 0 leaves them, as lbfgs needs them.
    `deterministic` asks torch for algorithms that repeat to the last bit. `device` is `auto` (CUDA, then MPS, then
    CPU), `cpu`, `mps`, `cuda` or `cuda:N`.

    `loop` and `optimizer_over` are for experiments, and do what torch does: `loop` names the lines of the loop that
    run, in their order (one that is left out is switched off), `optimizer_over` may give the optimizer the parameters
    of another, equal model, a mistake that says nothing of itself.
    """

    loss: Loss = "mse"
    delta: float = 1.0
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float | None = None
    epochs: int = 100
    batch_size: int = 0
    batch_seed: int = 42
    scheduler: Scheduler = "none"
    scheduler_epochs: int = 30
    scheduler_factor: float = 0.1
    early_stop: int = 0
    min_delta: float = 0.0
    clip: float = 0.0
    deterministic: bool = False
    device: str = "auto"
    loop: tuple[Line, ...] = LINES
    optimizer_over: OptimizerOver = "model"

    @property
    def experiment(self) -> bool:
        """Is the loop another one than the textbook's?"""
        return self.loop != LINES or self.optimizer_over != "model"

    def __post_init__(self) -> None:
        check_number("delta", self.delta, 1e-12, 1e12)
        check_number("the learning rate", self.learning_rate, 0.0, 1e6)
        if self.learning_rate == 0:
            raise ValueError("the learning rate is 0; nothing would be learnt, choose one above 0")
        check_number("momentum", self.momentum, 0.0, 0.9999)
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum, which is 0; set a momentum such as 0.9")
        if self.weight_decay is not None:
            check_number("weight decay", self.weight_decay, 0.0, 1e6)
        check_whole("epochs", self.epochs, 1, MAX_EPOCHS)
        check_whole("the batch size", self.batch_size, 0, MAX_ROWS)
        check_seed("the batch seed", self.batch_seed)
        check_whole("the epochs of the scheduler", self.scheduler_epochs, 1, MAX_EPOCHS)
        check_number("the factor of the scheduler", self.scheduler_factor, 1e-9, 1.0)
        check_whole("the patience of early stopping", self.early_stop, 0, MAX_EPOCHS)
        check_number("min delta", self.min_delta, 0.0)
        check_number("the largest gradient norm", self.clip, 0.0)
        if self.clip and self.optimizer == "lbfgs":
            # lbfgs takes the change of the gradients for the curvature; between clipped ones there is none
            raise ValueError("lbfgs cannot learn from clipped gradients; set clip to 0, or choose another optimizer")
        parse_device(self.device)
        if len(set(self.loop)) < len(self.loop):
            raise ValueError("a line of the loop stands there twice; each can run once")
        if self.optimizer == "lbfgs" and self.loop != LINES:
            raise ValueError("lbfgs runs the lines of the loop by itself; choose another optimizer to change them")


def goes_on(spec: TrainSpec, epoch: int, settings: TrainSpec) -> bool:
    """Can a run by `spec`, after `epoch` epochs, be trained on by these settings as if it had had them from the start?

    Only where nothing but the number of epochs is another one, and a cosine schedule ends with the last of them.
    """
    if settings.epochs <= epoch or msgspec.structs.replace(settings, epochs=spec.epochs) != spec:
        return False
    return settings == spec or spec.scheduler != "cosine"
