"""Everything that may be said between the UI and the engine, and how a frame of it looks on the wire.

A frame is a big-endian uint32 length and that many bytes of MessagePack (JSON cannot carry the NaN and
infinity of a diverging run). The first frame in each direction is a `Hello`. The UI sends `Request`s; every
request gets one `Reply` with its id. The engine sends `Update`s with the parts of its state that changed,
the first of them complete, and `Epochs` while a training runs.

All views are plain values: tensors stay in the engine.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from workflow_core.errors import Problem
from workflow_core.history import HistoryData
from workflow_core.specs import DataSpec, ModelSpec, SaveKind, TrainSpec

PROTOCOL_VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
HEADER = struct.Struct(">I")

StepName = Literal["data", "build", "train", "evaluate", "save", "load"]
StepStatus = Literal["open", "done", "stale"]
EngineState = Literal["loading", "ready", "failed"]
RunState = Literal["ready", "running", "paused", "finished", "diverged", "failed"]
Source = Literal["trained", "loaded"]

Point = tuple[float, float]
"""An (x, y) pair in the user's own units."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who is speaking: the first frame in each direction."""

    version: int
    name: str
    pid: int = 0


# --- views: what the screens show ------------------------------------------------------------------


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """The engine itself. `devices` are the names a TrainSpec may ask for here; `problem` is set when failed."""

    state: EngineState = "loading"
    pid: int = 0
    torch_version: str = ""
    devices: tuple[str, ...] = ()
    threads: int = 0
    load_seconds: float = 0.0
    log: str = ""
    problem: Problem | None = None


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

    `points` holds at most 1,000 of its rows, the extremes of y among them.
    """

    name: str
    count: int
    share: float
    x_range: tuple[float, float] | None
    y_range: tuple[float, float] | None
    points: tuple[Point, ...]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row of the data table: its index in the unsplit data, X, y and the split it went to."""

    index: int
    x: float
    y: float
    split: str


class DataView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 1 as done. `truth` holds the parameters that made the data, `line` two ends of the true line.

    `extrapolation` says in one sentence that a split lies outside the training range, where one does.
    """

    spec: DataSpec
    rows: int
    X: TensorView
    y: TensorView
    splits: tuple[SplitView, ...]
    head: tuple[Row, ...]
    line: tuple[Point, ...]
    truth: dict[str, float]
    extrapolation: str = ""


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 2 as done: the fresh model. `line` is its untrained prediction over the range of the data.

    `untrained_loss` is the training-split loss (criterion of the training settings) before any step.
    """

    spec: ModelSpec
    class_name: str
    text: str
    parameters: tuple[TensorView, ...]
    count: int
    size: int
    line: tuple[Point, ...]
    untrained_loss: float | None


class TrainingView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 3: the run with its own settings. `epoch` counts completed epochs, 0 before the first.

    `initial` and `parameters` are the scalar parameters by name, before the first epoch and now; `line` is the
    prediction now. `pace` is epochs per second asked for (None is flat out), `rate` those measured over the last
    second, `elapsed` the seconds spent training. `first_bad` is the first epoch with a NaN or infinite figure.
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
    train_loss: float | None = None
    val_loss: float | None = None
    first_bad: int | None = None
    reason: str = ""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one split, in the units of y (mse in their square). `r2` is None for constant y or one row."""

    count: int
    mse: float
    mae: float
    rmse: float
    r2: float | None


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """One row predicted: X, the true y and y_pred."""

    x: float
    y: float
    y_pred: float


class EvaluationView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 4: metrics by split (None where the split has no rows) of the model as it was after `epoch` epochs."""

    run: int
    epoch: int
    metrics: dict[str, Metrics | None]
    predictions: dict[str, tuple[Prediction, ...]]


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
    """Step 5 as done: the file that was written, after reading it back."""

    run: int
    epoch: int
    file: FileView


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Are the loaded model's predictions those of `against` (`this model` or `the saved record`)?

    `rows` predictions are compared; `equal` means bit for bit; `samples` shows up to 8 as (x, expected, loaded).
    """

    against: str
    rows: int
    equal: bool
    max_difference: float
    samples: tuple[tuple[float, float, float], ...]


class LoadedView(msgspec.Struct, frozen=True, kw_only=True):
    """Step 6 as done: a fresh model's parameters before and after the file was loaded into it."""

    file: FileView
    before: dict[str, float]
    after: dict[str, float]
    proof: Proof | None


class Predictions(msgspec.Struct, frozen=True, kw_only=True, tag="predictions"):
    """Answers to `Predict`: (x, y_pred) pairs and, where the data has a true line, the true y."""

    source: Source
    points: tuple[Point, ...]
    truth: tuple[float, ...] | None


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """Answer to `Inspect`."""

    file: FileView


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag="ending"):
    """Answer to `Shutdown`: does the engine end now?"""

    ends: bool


# --- commands: UI to engine ------------------------------------------------------------------------


class MakeData(msgspec.Struct, frozen=True, kw_only=True, tag="make_data"):
    """Make and split the data; None takes the spec as it stands."""

    spec: DataSpec | None = None


class BuildModel(msgspec.Struct, frozen=True, kw_only=True, tag="build_model"):
    """Build a fresh model; makes the data first where there is none."""

    spec: ModelSpec | None = None


class SetTraining(msgspec.Struct, frozen=True, kw_only=True, tag="set_training"):
    """Settings of the next run; the run that is there keeps its own."""

    spec: TrainSpec


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Start a run, or go on with the paused one; data and model are made first where missing.

    Where the settings were changed or an earlier step made the run stale, a new run starts from the same initial
    parameters; a finished run whose settings only ask for more epochs goes on. `epochs` stops after so many more epochs
    (then paused), None runs to the end.
    """

    epochs: int | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    """Pause at the next epoch boundary."""


class SetPace(msgspec.Struct, frozen=True, kw_only=True, tag="set_pace"):
    """Epochs per second, from 1; None is flat out."""

    pace: float | None = None


class Reset(msgspec.Struct, frozen=True, kw_only=True, tag="reset"):
    """Back to epoch 0 with the same initial parameters, whatever the state of the run."""


class Evaluate(msgspec.Struct, frozen=True, kw_only=True, tag="evaluate"):
    """Metrics and predictions of the model as it is now."""


class Predict(msgspec.Struct, frozen=True, kw_only=True, tag="predict"):
    """Predict for any x with the trained or the loaded model."""

    x: tuple[float, ...]
    source: Source = "trained"


class Save(msgspec.Struct, frozen=True, kw_only=True, tag="save"):
    """Write the model to `path`; an existing file is replaced only with `overwrite`."""

    path: str
    kind: SaveKind = "state_dict"
    overwrite: bool = False


class Inspect(msgspec.Struct, frozen=True, kw_only=True, tag="inspect"):
    """Look into a file without loading it into a model."""

    path: str


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Load a file into a fresh model and compare its predictions."""

    path: str


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag="shutdown"):
    """End the engine; with `if_idle` only when no training runs and no other UI is attached.

    The answer is an `Ending`. What is under way is given about a second to be done; every request that is not done by
    then is answered with a problem.
    """

    if_idle: bool = False


Command = (
    MakeData
    | BuildModel
    | SetTraining
    | Run
    | Pause
    | SetPace
    | Reset
    | Evaluate
    | Predict
    | Save
    | Inspect
    | Load
    | Shutdown
)


class Request(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """A command with the id its reply will echo."""

    id: int
    command: Command


# --- events: engine to UI --------------------------------------------------------------------------


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="reply"):
    """The answer to request `id`: a problem, a value, or plainly done."""

    id: int
    problem: Problem | None = None
    value: Predictions | FileAnswer | Ending | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True, tag="update", omit_defaults=True):
    """The parts of the engine's state that changed; what is UNSET stays as it is, None means there is none now."""

    engine: EngineView | UnsetType = UNSET
    steps: Steps | UnsetType = UNSET
    data_spec: DataSpec | UnsetType = UNSET
    model_spec: ModelSpec | UnsetType = UNSET
    train_spec: TrainSpec | UnsetType = UNSET
    data: DataView | UnsetType | None = UNSET
    model: ModelView | UnsetType | None = UNSET
    training: TrainingView | UnsetType | None = UNSET
    history: HistoryData | UnsetType | None = UNSET
    evaluation: EvaluationView | UnsetType | None = UNSET
    saved: SavedView | UnsetType | None = UNSET
    loaded: LoadedView | UnsetType | None = UNSET


class Epochs(msgspec.Struct, frozen=True, kw_only=True, tag="epochs"):
    """Consecutive epochs from `start`, every one of them exact, one list a series, and the run as it stands after them.

    Series are named `train_loss`, `val_loss` (absent without a validation split) and the parameters' names.
    """

    start: int
    series: dict[str, list[float]]
    training: TrainingView


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice"):
    """Something went wrong, or must be known, that no request asked for."""

    problem: Problem


Message = Hello | Request
"""What the UI may send."""

Event = Hello | Reply | Update | Epochs | Notice
"""What the engine may send."""

_encoder = msgspec.msgpack.Encoder()
_messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


class ProtocolError(Exception):
    """A frame that is malformed, oversized or not of this protocol."""


class Unsendable(ProtocolError):
    """A text that cannot be written as UTF-8."""


def encode(item: Message | Event) -> bytes:
    """The whole frame for `item`, header included.

    Raises ProtocolError where it would be larger than MAX_FRAME, and Unsendable where a text in it is no Unicode (a
    file name of any bytes becomes a str with lone surrogates in Python).
    """
    try:
        body = _encoder.encode(item)
    except UnicodeEncodeError as error:
        raise Unsendable("a text in it holds characters that are no Unicode") from error
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(body):,} bytes is over the limit of {MAX_FRAME:,}")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """How many bytes follow a frame's 4-byte header. Raises ProtocolError where that is over MAX_FRAME."""
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME:
        raise ProtocolError(f"a frame of {length:,} bytes is over the limit of {MAX_FRAME:,}")
    return int(length)


def decode_message(body: bytes) -> Message:
    """What a UI sent. Raises ProtocolError."""
    try:
        return _messages.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


class _Numbered(msgspec.Struct, tag="request"):
    id: int


_numbered = msgspec.msgpack.Decoder(_Numbered)


def request_id(body: bytes) -> int | None:
    """The id of a request that `decode_message` refused, so that it can be answered; None where it holds none."""
    try:
        return _numbered.decode(body).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_event(body: bytes) -> Event:
    """What the engine sent. Raises ProtocolError."""
    try:
        return _events.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)) from error
