"""What the engine shows of itself: plain values for every step, tensors stay in the engine.

Everything the user measures in is in the user's own units unless a docstring says that it is as the model holds it:
with `standardize` the model sees, and its parameters and running losses belong to, standardised features and target.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from workflow_core.errors import Problem
from workflow_core.specs import DataSpec, Line, ModelSpec, SaveKind, TrainSpec, WorkflowSpec

StepName = Literal["data", "build", "train", "evaluate", "save", "load"]
StepStatus = Literal["open", "done", "stale"]
EngineState = Literal["loading", "ready", "failed"]
RunState = Literal["ready", "running", "paused", "finished", "diverged", "failed"]
Source = Literal["trained", "loaded"]

Point = tuple[float, float]
"""An (x, y) pair in the user's own units; of several features x is the first."""


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """The engine itself. `devices` are the names a TrainSpec may ask for here; `problem` is set when failed.

    What it has trained comes back in another engine where it `keeps` it.
    """

    state: EngineState = "loading"
    pid: int = 0
    torch_version: str = ""
    devices: tuple[str, ...] = ()
    threads: int = 0
    load_seconds: float = 0.0
    log: str = ""
    problem: Problem | None = None
    keeps: bool = True


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What is done, open or stale, and for stale steps the reason in one sentence."""

    data: StepStatus = "open"
    build: StepStatus = "open"
    train: StepStatus = "open"
    evaluate: StepStatus = "open"
    save: StepStatus = "open"
    load: StepStatus = "open"
    reasons: dict[StepName, str] = {}


class TensorView(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as the tables show it: at most 8 leading `values`, flattened; `size` is its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    size: int
    values: tuple[float, ...] = ()
    requires_grad: bool = False


class SplitView(msgspec.Struct, frozen=True, kw_only=True):
    """One split: `share` is its true share (count / rows). Ranges are None where it has no rows.

    `points` holds at most 1,000 of its rows, the extremes among them; x and `x_range` are those of the first feature.
    """

    name: str
    count: int
    share: float
    x_range: tuple[float, float] | None
    y_range: tuple[float, float] | None
    points: tuple[Point, ...]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row of the data table: its index in the unsplit data, its features, y and the split it went to."""

    index: int
    x: tuple[float, ...]
    y: float
    split: str


class ColumnScale(msgspec.Struct, frozen=True, array_like=True):
    """What standardising takes off a column and divides it by: mean and standard deviation of its training rows."""

    name: str
    mean: float
    std: float


class DataView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 1 as done.

    `formula` says in one line where y comes from; `line` is that curve over the range of x, where there is one feature
    and a formula; `coefficients` are its true values in the form {"intercept": 0.3, "x": 0.7, "x^2": ...}, empty where
    it has none. `scaling` lists features and target where they are standardised. `notes` say in a sentence each what
    was done to the rows of a table; `extrapolation` that a split lies outside the training range, where one does.
    """

    spec: DataSpec
    rows: int
    features: tuple[str, ...]
    target: str
    X: TensorView
    y: TensorView
    splits: tuple[SplitView, ...]
    head: tuple[Row, ...]
    line: tuple[Point, ...]
    formula: str
    coefficients: dict[str, float]
    scaling: tuple[ColumnScale, ...] = ()
    notes: tuple[str, ...] = ()
    extrapolation: str = ""


class TableColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column of a table: its name, `number` or what else it holds, and how many of its values are missing."""

    name: str
    kind: str
    missing: int


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a training should arrive, as far as that is known without training.

    `targets` are the final values of tracked parameters as the model holds them; `targets_are` says whether they are
    those the data were made with or those of least squares on the training rows. `closed_form` is the least-squares
    answer in the user's own units, in the form of `coefficients`; `loss` the training loss there, as the criterion
    gives it (MSE only). `stable_lr` is the largest stable learning rate of gradient descent, 2/λmax of the loss's
    Hessian (times 1 + momentum). Empty or None where the model is not linear in its parameters or the loss gives none.
    """

    targets: dict[str, float] = {}
    targets_are: Literal["", "true", "closed form"] = ""
    closed_form: dict[str, float] = {}
    loss: float | None = None
    stable_lr: float | None = None


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 2 as done: the fresh model.

    `source` is the code of a class of the user's own. `count` are trainable scalars, `size` the bytes of all of them.
    `line` is the untrained prediction over the range of the data, where there is one feature; `pairs` are (y, y_pred)
    of training rows, where there are several. `untrained_loss` is the training loss before any step.
    """

    spec: ModelSpec
    class_name: str
    text: str
    parameters: tuple[TensorView, ...]
    count: int
    size: int
    line: tuple[Point, ...]
    untrained_loss: float | None
    source: str = ""
    pairs: tuple[Point, ...] = ()
    coefficients: dict[str, float] = {}
    reference: Reference = Reference()


class TrainingView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 3: the run with its own settings. `epoch` counts completed epochs, 0 before the first.

    `held` are the epochs behind the weights that the model holds now, None for all of `epoch`: an early stop and a
    divergence put back earlier ones.

    `initial` and `parameters` are the tracked values by name, as the model holds them, before the first epoch and now:
    all parameters where there are at most 8 scalars (`weight`, or `weight[0]`, `weight[1]` ...), else norm and mean of
    each tensor. `coefficients` are the model's now, in the user's own units. `line` and `pairs` are the prediction now.

    `train_loss` and `val_loss` are the criterion's; `loss_scale` times them are in the user's own units (None: not
    known), of huber and smooth_l1 those whose delta is the target's standard deviation times as large. `best_epoch` had
    the least validation loss (without validation rows, training loss) so far, counted from 0.

    `pace` is epochs per second asked for (None is flat out), `rate` those measured over the last second, `elapsed` the
    seconds spent training; `capacity` the epochs a second that the same training does flat out, as measured. `batch`
    batches of the epoch under way are done, of `batches` an epoch. `lr_changes` are the learning rates that were set by
    hand, each with the epoch it was first used in.

    `first_bad` is the first epoch with a NaN or infinite figure; `reason` says why the training ended, `cause` what has
    probably brought a divergence about, and `advice` what to try; `try_lr` is a learning rate that is known or likely
    to be stable. `findings` say in a sentence each what looks wrong while all figures are finite.

    `gradients` are those that the last batch has left, before clipping: of each tracked value by its name, or of a
    larger model the L2 norm of each tensor's; empty where there are none (`.grad` is None). A run that goes on from an
    epoch of another one has that one's number as `parent` (0: none) and `parent_epoch` completed epochs from it.
    """

    run: int
    spec: TrainSpec
    device: str
    state: RunState
    epoch: int
    pace: float | None
    rate: float
    elapsed: float
    initial: dict[str, float]
    parameters: dict[str, float]
    line: tuple[Point, ...]
    pairs: tuple[Point, ...] = ()
    coefficients: dict[str, float] = {}
    learning_rate: float = 0.0
    lr_changes: tuple[tuple[int, float], ...] = ()
    grad_norm: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    loss_scale: float | None = 1.0
    best_epoch: int | None = None
    best_loss: float | None = None
    held: int | None = None
    first_bad: int | None = None
    reason: str = ""
    advice: str = ""
    cause: str = ""
    try_lr: float | None = None
    findings: tuple[str, ...] = ()
    gradients: dict[str, float] = {}
    capacity: float = 0.0
    batch: int = 0
    batches: int = 1
    parent: int = 0
    parent_epoch: int = 0


class MadeView(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of the loop left behind: a tensor before and after it, at most 8 leading values, flattened.

    None stands for what is not there, such as `.grad` before the first backward. `label` is `y_pred`, `residual`
    (y_pred - y), `loss`, `weight.grad`, `weight` and so on.
    """

    label: str
    shape: tuple[int, ...]
    dtype: str
    before: tuple[float, ...] | None
    after: tuple[float, ...] | None


class LineView(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the loop: its code, whether it ran in this pass, and what it made then.

    Of a large model `left_out` more tensors were made or changed than are shown.
    """

    line: Line
    code: str
    done: bool = False
    made: tuple[MadeView, ...] = ()
    left_out: int = 0


class LoopView(msgspec.Struct, frozen=True, kw_only=True):
    """A pass through the loop that is made one line at a time: batch `batch` (from 0) of `batches` in epoch `epoch`.

    `lines` are those that run, in their order, `off` those switched off; `lines[next]` is the next one, and after the
    last, when `next` is their number, the next call begins the next batch. An optimizer that runs the other lines by
    itself (lbfgs) does so in one call; what they made is that of its first evaluation. Gradients that were clipped
    before the step are among what the step made. `fault` is what Python or torch said where a line could not run.
    """

    epoch: int
    batch: int
    batches: int
    rows: int
    lines: tuple[LineView, ...]
    next: int
    off: tuple[Line, ...] = ()
    fault: str = ""


class PastView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stood after epoch `epoch` (counted from 0; -1 is before the first), fields as in TrainingView.

    `replayed` where the weights were made by training again from a kept state, not read from the record. `equal` says
    whether losses and tracked values are those recorded then, bit for bit; False only where a model draws random
    numbers of its own.
    """

    run: int
    epoch: int
    parameters: dict[str, float]
    line: tuple[Point, ...]
    pairs: tuple[Point, ...] = ()
    coefficients: dict[str, float] = {}
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    replayed: bool = False
    equal: bool = True


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is kept: settings and result. `name` is empty until somebody gives it one.

    `begun` is seconds since 1970 in UTC, `elapsed` seconds spent training, `epochs` how many are recorded, `state` a
    RunState, `interrupted` (its engine was killed) or `stopped` (by hand). `race` is the number of the race it was a
    lane of, 0 for none. Losses are the criterion's, as the model saw them, `loss_scale` as in TrainingView.
    `parameters` are tracked values at the end, the first 64 of them.
    """

    run: int
    name: str
    begun: float
    elapsed: float
    spec: WorkflowSpec
    state: str
    reason: str = ""
    epochs: int = 0
    pinned: bool = False
    train_loss: float | None = None
    val_loss: float | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    loss_scale: float | None = 1.0
    parameters: dict[str, float] = {}
    lr_changes: tuple[tuple[int, float], ...] = ()
    parent: int = 0
    parent_epoch: int = 0
    race: int = 0


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """One of the trainings of a race; `label` names what its settings have that the others' have not."""

    run: int
    label: str
    spec: TrainSpec
    state: RunState
    epoch: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    parameters: dict[str, float] = {}
    first_bad: int | None = None
    reason: str = ""


class RaceView(msgspec.Struct, frozen=True, kw_only=True):
    """Several trainings at once, from the same initial parameters on the same data, epoch by epoch side by side.

    `pace` and `rate` are epochs a second of each lane; `elapsed` are seconds.
    """

    race: int
    state: RunState
    lanes: tuple[LaneView, ...]
    epochs: int
    epoch: int
    pace: float | None
    rate: float = 0.0
    elapsed: float = 0.0


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one split, in the units of y (mse in their square). `r2` is None for constant y or one row."""

    count: int
    mse: float
    mae: float
    rmse: float
    r2: float | None


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """One row predicted: its features, the true y and y_pred."""

    x: tuple[float, ...]
    y: float
    y_pred: float


class EvaluationView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 4: metrics by split (None where the split has no rows) of the model as it was after `epoch` epochs.

    In the middle of another one it was also trained on `batch` of that one's `batches`.
    For a model that is linear in its parameters `coefficients` are what it has learnt and `reference` holds the closed
    form; `convergence` says in one sentence how near it came.
    """

    run: int
    epoch: int
    metrics: dict[str, Metrics | None]
    predictions: dict[str, tuple[Prediction, ...]]
    coefficients: dict[str, float] = {}
    reference: Reference = Reference()
    convergence: str = ""
    batch: int = 0
    batches: int = 1


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A saved file's contents. `values` are its plain entries as text, in file order (dotted names for nested ones).

    `verified` is True where the file carries a SHA-256 of its content and it matched.
    """

    path: str
    kind: SaveKind
    size: int
    tensors: tuple[TensorView, ...]
    values: dict[str, str]
    verified: bool


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 5 as done: the file that was written, after reading it back; epochs and batches as in EvaluationView."""

    run: int
    epoch: int
    file: FileView
    batch: int = 0
    batches: int = 1


def holds(saved: SavedView | None, training: TrainingView) -> bool:
    """Are the weights that the run holds now those of the file that was saved?"""
    place = training.run, training.epoch if training.held is None else training.held, training.batch
    return saved is not None and (saved.run, saved.epoch, saved.batch) == place


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Are the loaded model's predictions those of `against` (`this model` or `the saved record`)?

    `rows` predictions are compared; `equal` means bit for bit; `samples` shows up to 8 as (features, expected, loaded).
    """

    against: str
    rows: int
    equal: bool
    max_difference: float
    samples: tuple[tuple[tuple[float, ...], float, float], ...]


class LoadedView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 6 as done: the tracked values of a fresh model before and after the file was loaded into it.

    `features` are what it predicts from, in their order, `target` what it predicts.
    """

    file: FileView
    before: dict[str, float]
    after: dict[str, float]
    proof: Proof | None
    features: tuple[str, ...] = ("x",)
    target: str = "y"
