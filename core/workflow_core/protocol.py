"""Everything that may be said between the UI and the engine, and how a frame of it looks on the wire.

A frame is a big-endian uint32 length and that many bytes of MessagePack (JSON cannot carry the NaN and
infinity of a diverging run). The first frame in each direction is a `Hello`. The UI sends `Request`s; every
request gets one `Reply` with its id. The engine sends `Update`s with the parts of its state that changed,
the first of them complete, and `Epochs` while a training runs.

What the engine shows of itself are the views of views.py.
"""

from __future__ import annotations

import struct

import msgspec
from msgspec import UNSET, UnsetType

from workflow_core.errors import Problem
from workflow_core.history import HistoryData
from workflow_core.specs import DataSpec, ModelSpec, SaveKind, TrainSpec
from workflow_core.views import (
    ColumnScale,
    DataView,
    EngineState,
    EngineView,
    EvaluationView,
    FileView,
    LoadedView,
    Metrics,
    ModelView,
    Point,
    Prediction,
    Proof,
    Reference,
    Row,
    RunState,
    SavedView,
    Source,
    SplitView,
    StepName,
    Steps,
    StepStatus,
    TableColumn,
    TensorView,
    TrainingView,
)

__all__ = [
    "HEADER",
    "MAX_FRAME",
    "PROTOCOL_VERSION",
    "Answer",
    "BuildModel",
    "ColumnScale",
    "Command",
    "DataView",
    "Ending",
    "EngineState",
    "EngineView",
    "Epochs",
    "Evaluate",
    "EvaluationView",
    "Event",
    "FileAnswer",
    "FileView",
    "Hello",
    "Inspect",
    "InspectTable",
    "Load",
    "LoadedView",
    "MakeData",
    "Message",
    "Metrics",
    "ModelView",
    "Notice",
    "Pause",
    "Point",
    "Predict",
    "Prediction",
    "Predictions",
    "Proof",
    "ProtocolError",
    "Reference",
    "Reply",
    "Request",
    "Reset",
    "Row",
    "Run",
    "RunState",
    "Save",
    "SavedView",
    "SetLearningRate",
    "SetPace",
    "SetTraining",
    "Shutdown",
    "Source",
    "SplitView",
    "StepName",
    "StepStatus",
    "Steps",
    "TableAnswer",
    "TableColumn",
    "TensorView",
    "TrainingView",
    "Unsendable",
    "Update",
    "body_length",
    "decode_event",
    "decode_message",
    "encode",
    "request_id",
]

PROTOCOL_VERSION = 2
MAX_FRAME = 16 * 1024 * 1024
HEADER = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who is speaking: the first frame in each direction."""

    version: int
    name: str
    pid: int = 0


class Predictions(msgspec.Struct, frozen=True, kw_only=True, tag="predictions"):
    """Answers to `Predict`: (features, y_pred) pairs and, where the data come from a formula, the true y."""

    source: Source
    points: tuple[tuple[tuple[float, ...], float], ...]
    truth: tuple[float, ...] | None


class TableAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="table"):
    """Answer to `InspectTable`: the columns in their order, and how many rows there are."""

    rows: int
    columns: tuple[TableColumn, ...]


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """Answer to `Inspect`."""

    file: FileView


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag="ending"):
    """Answer to `Shutdown`: does the engine end now?"""

    ends: bool


Answer = Predictions | FileAnswer | TableAnswer | Ending | None
"""What the reply to a command may carry."""

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


class SetLearningRate(msgspec.Struct, frozen=True, kw_only=True, tag="set_learning_rate"):
    """Change the learning rate of the run that is there, running or not, from its next step on."""

    learning_rate: float


class InspectTable(msgspec.Struct, frozen=True, kw_only=True, tag="inspect_table"):
    """Look into a table without making data of it."""

    path: str
    header: bool = True


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
    """Predict with the trained or the loaded model; every x holds all features in their order."""

    x: tuple[tuple[float, ...], ...]
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
    | SetLearningRate
    | InspectTable
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
    value: Answer = None


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

    Series are named `train_loss`, `val_loss` (absent without a validation split), `learning_rate`, `grad_norm` and as
    the tracked values are (see TrainingView).
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
