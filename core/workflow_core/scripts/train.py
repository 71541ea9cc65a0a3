"""The lines of step 3: criterion, optimizer, schedule and the loop, with no line that the settings do not need."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from workflow_core.scripts.data import splits
from workflow_core.scripts.text import listed, number
from workflow_core.specs import LINES, OPTIMIZER_NAMES, OPTIMIZER_USES, Line, Loss, TrainSpec, WorkflowSpec

LrChanges = Sequence[tuple[int, float]]

CRITERIA: dict[Loss, str] = {"mse": "MSELoss", "l1": "L1Loss", "huber": "HuberLoss", "smooth_l1": "SmoothL1Loss"}

BEST_DEVICE = """\
device = (
    "cuda" if torch.cuda.is_available()
    else "mps" if torch.backends.mps.is_available()
    else "cpu"
)
"""

BEST_DEVICE_FOR_FLOAT64 = 'device = "cuda" if torch.cuda.is_available() else "cpu"  # MPS has no float64\n'

CODES: dict[Line, str] = {
    "forward": "y_pred = model({X})",
    "loss": "loss = criterion(y_pred, {y})",
    "zero_grad": "optimizer.zero_grad()",
    "backward": "loss.backward()",
    "step": "optimizer.step()",
}
SEARCH = """\
def closure():
{closure}    return loss

{step}
"""

VALIDATE = """
    model.eval()
    with torch.inference_mode():
        val_loss = criterion(model(X_val), y_val).item()
"""

COPY = "copy.deepcopy(model.state_dict())"
BEFORE = f"    weights = {COPY}  # what train_loss will be the loss of\n"

EARLY_STOP = """
    if {watched} < best_loss{margin}:
        best_loss, waited = {watched}, 0
        best_weights = {weights}
    else:
        waited += 1
    if waited == {patience}:
        model.load_state_dict(best_weights)
        break
"""


BY_HAND = """\
    if epoch in lr_changes:
        optimizer.param_groups[0]["lr"] = lr_changes[epoch]
"""


def train(spec: WorkflowSpec, report: str = "", lr_changes: LrChanges = ()) -> str:
    """The lines of the step; `report` is what the loop's body says of an epoch before it may stop early.

    `lr_changes` are learning rates set by hand, each with the epoch that uses it first.
    """
    settings = spec.train
    text = _device(spec) + f"\n{_criterion(settings)}{_optimizer(settings)}{_scheduler(settings)}"
    text += _before_the_loop(spec) + _lr_changes(lr_changes)
    text += f"\nfor epoch in range({settings.epochs}):\n" + (BY_HAND if lr_changes else "")
    if settings.early_stop and not validates(spec):
        text += BEFORE
    return text + loop(spec) + report + _early_stop(spec)


def loop(spec: WorkflowSpec) -> str:
    """What is done in an epoch: the lines of the loop's body, indented, up to where it may stop early."""
    text = "    model.train()\n" + (_in_batches(spec) if in_batches(spec) else _at_once(spec.train))
    if validates(spec):
        text += VALIDATE
    scheduler = spec.train.scheduler
    if scheduler == "plateau":
        text += f"\n    scheduler.step({_watched(spec)})\n" if spec.train.scheduler_factor < 1 else ""
    elif scheduler != "none":
        text += "\n    scheduler.step()\n"
    return text


def codes(train: TrainSpec) -> dict[Line, str]:
    """The code of each line of the loop; those that lbfgs runs by itself are indented, as in its closure."""
    X, y = ("X_batch", "y_batch") if train.batch_size else ("X_train", "y_train")
    texts = {line: code.format(X=X, y=y) for line, code in CODES.items()}
    if train.optimizer != "lbfgs":
        return texts
    return {line: f"    {text}" for line, text in texts.items()} | {"step": "loss = optimizer.step(closure)"}


def validates(spec: WorkflowSpec) -> bool:
    """Are there validation rows?"""
    return "val" in splits(spec.data)


def in_batches(spec: WorkflowSpec) -> bool:
    """Are the rows dealt to batches? To a single one where they are no more than it takes."""
    return spec.train.batch_size > 0


def may_be_cuda(train: TrainSpec) -> bool:
    """Could the training be on a CUDA device?"""
    return train.device == "auto" or train.device.startswith("cuda")


def _watched(spec: WorkflowSpec) -> str:
    return "val_loss" if validates(spec) else "train_loss"


def _device(spec: WorkflowSpec) -> str:
    best = BEST_DEVICE if spec.data.dtype == "float32" else BEST_DEVICE_FOR_FLOAT64
    text = best if spec.train.device == "auto" else f"device = {spec.train.device!r}\n"
    text += "model.to(device)\nX_train, y_train = X_train.to(device), y_train.to(device)\n"
    if validates(spec):
        text += "X_val, y_val = X_val.to(device), y_val.to(device)\n"
    if spec.train.deterministic:
        if may_be_cuda(spec.train):
            text += 'os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what CUDA needs to repeat itself\n'
        text += "torch.use_deterministic_algorithms(True)\n"
    return text


def _criterion(train: TrainSpec) -> str:
    setting = ""
    if train.delta != 1.0 and train.loss in ("huber", "smooth_l1"):
        setting = f"{'delta' if train.loss == 'huber' else 'beta'}={number(train.delta)}"
    return f"criterion = nn.{CRITERIA[train.loss]}({setting})\n"


def _optimizer(train: TrainSpec) -> str:
    whose, text = "model", ""
    if train.optimizer_over == "another":
        whose = "another"
        text = "another = copy.deepcopy(model)  # an experiment: the optimizer gets the parameters of another model\n"
    settings = [f"lr={number(train.learning_rate)}"]
    uses = OPTIMIZER_USES[train.optimizer]
    if "momentum" in uses and train.momentum:
        settings.append(f"momentum={number(train.momentum)}")
    if "nesterov" in uses and train.nesterov:
        settings.append("nesterov=True")
    default = 0.01 if train.optimizer == "adamw" else 0.0
    if "weight_decay" in uses and train.weight_decay not in (None, default):
        settings.append(f"weight_decay={number(train.weight_decay or 0.0)}")
    return (
        text
        + f"optimizer = torch.optim.{OPTIMIZER_NAMES[train.optimizer]}({whose}.parameters(), {', '.join(settings)})\n"
    )


def _scheduler(train: TrainSpec) -> str:
    epochs, factor = train.scheduler_epochs, number(train.scheduler_factor)
    match train.scheduler:
        case "step":
            call = f"StepLR(optimizer, step_size={epochs}, gamma={factor})"
        case "cosine":
            call = f"CosineAnnealingLR(optimizer, T_max={train.epochs})"
        case "plateau" if train.scheduler_factor < 1:
            call = f"ReduceLROnPlateau(optimizer, factor={factor}, patience={epochs})"
        case "warmup":
            call = f"LinearLR(optimizer, start_factor={factor}, total_iters={epochs})"
        case _:
            return ""
    return f"scheduler = torch.optim.lr_scheduler.{call}\n"


def _before_the_loop(spec: WorkflowSpec) -> str:
    train, text = spec.train, ""
    if (spec.model.kind == "mlp" and spec.model.dropout) or spec.model.kind == "custom":
        text += f"torch.manual_seed({train.batch_seed})  # for what the model draws while it is trained\n"
    if in_batches(spec):
        text += f"generator = torch.Generator().manual_seed({train.batch_seed})\n"
    if train.early_stop:
        text += "best_loss, waited = math.inf, 0\n"
    return text


def _lr_changes(changes: LrChanges) -> str:
    if not changes:
        return ""
    items = (f"{epoch}: {number(rate)}" for epoch, rate in changes)
    return "# learning rates set by hand, by the epoch that used them first\n" + listed("lr_changes", "{", items, "}")


def _step(train: TrainSpec) -> str:
    texts = codes(train)
    if train.optimizer == "lbfgs":
        closure = "".join(f"{texts[line]}\n" for line in LINES[:-1])
        return SEARCH.format(closure=closure, step=texts["step"])
    if train.clip:
        texts["step"] = f"nn.utils.clip_grad_norm_(model.parameters(), {number(train.clip)})\n{texts['step']}"
    return _experiment(train) + "".join(f"{texts[line]}\n" for line in train.loop)


def _experiment(train: TrainSpec) -> str:
    """A comment on what is not as it belongs; none where all is."""
    off = [CODES[line].partition("(")[0].rpartition(" ")[2] + "()" for line in LINES if line not in train.loop]
    if off:
        return f"# an experiment: without {', '.join(off)}\n"
    return "" if train.loop == LINES else "# an experiment: these lines in another order\n"


def _at_once(train: TrainSpec) -> str:
    return indent(_step(train) + "train_loss = loss.item()\n", "    ")


def _in_batches(spec: WorkflowSpec) -> str:
    size = spec.train.batch_size
    batch = _step(spec.train) + "train_loss += loss.item() * len(X_batch)\n"
    return (
        "    train_loss = 0.0\n"
        "    order = torch.randperm(len(X_train), generator=generator)\n"
        f"    batches = zip(X_train[order].split({size}), y_train[order].split({size}))\n"
        "    for X_batch, y_batch in batches:\n" + indent(batch, "        ") + "    train_loss /= len(X_train)\n"
    )


def _early_stop(spec: WorkflowSpec) -> str:
    if not spec.train.early_stop:
        return ""
    margin = f" - {number(spec.train.min_delta)}" if spec.train.min_delta else ""
    weights = COPY if validates(spec) else "weights"
    patience = spec.train.early_stop
    return EARLY_STOP.format(watched=_watched(spec), margin=margin, patience=patience, weights=weights)
