"""Everything that may be said between the UI and the engine, and how a frame of it looks on the wire.

A frame is a big-endian uint32 length and that many bytes of MessagePack (JSON cannot carry the NaN and
infinity of a diverging run). The first frame in each direction is a `Hello`. The UI sends `Request`s; every
request gets one `Reply` with its id. The engine sends `Update`s with the parts of its state that changed,
the first of them complete, and `Epochs` while a training runs.

What the engine shows of itself are the views of views.py.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from workflow_core.errors import Problem
from workflow_core.history import Column, HistoryData
from workflow_core.specs import DataSpec, ModelSpec, SaveKind, TrainSpec
from workflow_core.views import (
    ColumnScale,
    DataView,
    EngineState,
    EngineView,
    EvaluationView,
    FileView,
    LaneView,
    LineView,
    LoadedView,
    LoopView,
    MadeView,
    Metrics,
    ModelView,
    PastView,
    Point,
    Prediction,
    Proof,
    RaceView,
    Reference,
    Row,
    RunState,
    RunView,
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
    "Adopt",
    "Answer",
    "Branch",
    "BuildModel",
    "Column",
    "ColumnScale",
    "Command",
    "DataView",
    "DeleteRuns",
    "EditRun",
    "Ending",
    "EngineState",
    "EngineView",
    "Epochs",
    "Evaluate",
    "EvaluationView",
    "Event",
    "ExportRun",
    "Extend",
    "FileAnswer",
    "FileView",
    "Hello",
    "Inspect",
    "InspectTable",
    "LaneView",
    "LeaveRace",
    "LineView",
    "Load",
    "LoadedView",
    "LookBack",
    "LoopView",
    "MadeView",
    "MakeData",
    "Message",
    "Metrics",
    "ModelView",
    "NextLine",
    "Notice",
    "PastAnswer",
    "PastView",
    "Pause",
    "Point",
    "Predict",
    "Prediction",
    "Predictions",
    "Proof",
    "ProtocolError",
    "RaceView",
    "ReadSeries",
    "ReadSpeed",
    "ReadSurface",
    "Reference",
    "Reply",
    "Request",
    "Reset",
    "RestoreRun",
    "Row",
    "Run",
    "RunState",
    "RunView",
    "Save",
    "SavedView",
    "SeriesAnswer",
    "SetLearningRate",
    "SetPace",
    "SetTraining",
    "Shutdown",
    "Source",
    "SpeedAnswer",
    "SplitView",
    "StartRace",
    "StepName",
    "StepStatus",
    "Steps",
    "Stop",
    "SurfaceAnswer",
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

PROTOCOL_VERSION = 4
MAX_FRAME = 16 * 1024 * 1024
HEADER = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who is speaking: the first frame in each direction.

    A UI that is `quiet` has no screen to show a Notice on: what happened is told to the next one as well.
    """

    version: int
    name: str
    pid: int = 0
    quiet: bool = False


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


class PastAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="past"):
    """Answer to `LookBack`."""

    past: PastView


class SeriesAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="series"):
    """Answer to `ReadSeries`: each series as columns that cover `start` to `stop` (exclusive) as far as it goes.

    `epochs` are those that the run has by now.
    """

    run: int
    start: int
    stop: int
    epochs: int
    series: dict[str, list[Column]]


class SurfaceAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="surface"):
    """Answer to `ReadSurface`: the training loss over two parameters, all others fixed.

    `loss[row][column]` belongs to the point of a grid whose corners are the ends of the ranges, the first row at the
    low end of `y_range`; it is the criterion's over all training rows, NaN and infinity as torch gives them. There are
    as many points as were asked for, or as many fewer as it takes to answer within about ten seconds of computing: each
    is of all rows. `minimum` is where the loss is least in this plane, of the `closed form`; or of what was tried, the
    `best point of the grid` or, by a search from there, the `best point found`; NaN where no loss is finite. `path`
    holds (epoch, x, y) of the states that are kept, for parameters that are not tracked.
    """

    run: int
    x: str
    y: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    loss: tuple[tuple[float, ...], ...]
    now: Point
    now_loss: float
    minimum: Point
    minimum_loss: float
    minimum_is: Literal["closed form", "best point of the grid", "best point found"]
    path: tuple[tuple[int, float, float], ...] = ()


class SpeedAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="speed"):
    """Answer to `ReadSpeed`, of the run that is there.

    `seconds` and `rates` are epochs a second over the seconds spent training. `epoch_ms` are milliseconds of the last
    epochs without the waits of a pace; `line_ms` how they divide on the lines of the loop, where the lines were timed,
    and `validation`. `rows` are training rows a second, `memory` bytes of the engine process, `device_memory` bytes
    that torch holds on the device (None on a CPU).
    """

    run: int
    seconds: tuple[float, ...]
    rates: tuple[float, ...]
    epoch_ms: float | None
    line_ms: dict[str, float]
    rows: float
    threads: int
    memory: int
    device_memory: int | None = None


Answer = (
    Predictions | FileAnswer | TableAnswer | PastAnswer | SeriesAnswer | SurfaceAnswer | SpeedAnswer | Ending | None
)
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
    """Change the learning rate of the run that is there, from the next epoch that begins; refused once it has ended."""

    learning_rate: float


class InspectTable(msgspec.Struct, frozen=True, kw_only=True, tag="inspect_table"):
    """Look into a table without making data of it."""

    path: str
    header: bool = True


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Start a run, or go on with the paused one; data and model are made first where missing.

    Where the settings were changed or an earlier step made the run stale, a new run starts from the same initial
    parameters; a finished run whose settings only ask for more epochs goes on. `epochs` stops after so many more epochs
    (then paused; that under way counts as one), `steps` after so many steps of the optimizer, one a batch; None of both
    runs to the end. The rest of a pass that was made one line at a time runs first. While a race is under way, it is
    the race that runs. With `go_on` nothing new is begun: the run or the race that is there goes on by its own
    settings, and where none can it is refused.
    """

    epochs: int | None = None
    steps: int | None = None
    go_on: bool = False


class NextLine(msgspec.Struct, frozen=True, kw_only=True, tag="next_line"):
    """Run the next line of the loop and show what it made; what runs is paused first, a run is made where missing."""


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    """Pause at the next batch boundary, with `at_epoch` at the end of the epoch under way; a race too.

    Where nothing runs it does nothing.
    """

    at_epoch: bool = False


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """End the run: with `keep` it is finished as it stands, else it and its record are discarded.

    While there is a race it is the race that ends; without `keep` all its lanes are discarded, also when it is over.
    """

    keep: bool = True


class Extend(msgspec.Struct, frozen=True, kw_only=True, tag="extend"):
    """So many more epochs for the run that is there, and run them."""

    epochs: int


class Branch(msgspec.Struct, frozen=True, kw_only=True, tag="branch"):
    """A new run that goes on from the run that is there as it stood after epoch `epoch` (from 0), by its settings."""

    epoch: int


class SetPace(msgspec.Struct, frozen=True, kw_only=True, tag="set_pace"):
    """Epochs per second, from 1; None is flat out."""

    pace: float | None = None


class Reset(msgspec.Struct, frozen=True, kw_only=True, tag="reset"):
    """Back to epoch 0 with the same initial parameters, whatever the state of the run."""


class StartRace(msgspec.Struct, frozen=True, kw_only=True, tag="start_race"):
    """Train a model from the same initial parameters by each of these settings, all at once; 2 to 6 of them."""

    lanes: tuple[TrainSpec, ...]


class LeaveRace(msgspec.Struct, frozen=True, kw_only=True, tag="leave_race"):
    """Back from a race that is over, whose lanes are kept as runs, to the run that was there before, as it stands."""


class Adopt(msgspec.Struct, frozen=True, kw_only=True, tag="adopt"):
    """Make a lane of the race that is there the run that the other steps are about; the race is over then."""

    run: int


class LookBack(msgspec.Struct, frozen=True, kw_only=True, tag="look_back"):
    """The run that is there, as it stood after epoch `epoch` (from 0; -1 is before the first), running or not."""

    epoch: int


class ReadSeries(msgspec.Struct, frozen=True, kw_only=True, tag="read_series"):
    """Series of a run that is kept, of the epochs `start` to `stop` (exclusive), in at most `columns` columns.

    `names` empty is all of them. As many columns as epochs, up to 4,096, are the exact values.
    """

    run: int
    start: int
    stop: int
    columns: int
    names: tuple[str, ...] = ()


class ReadSurface(msgspec.Struct, frozen=True, kw_only=True, tag="read_surface"):
    """The training loss over the scalars `x` and `y` of the model, such as `weight` or `0.weight[3,1]`.

    All others stay as they are now, or with `epoch` as they were after that epoch (from 0). Ranges that are None are
    chosen so that the path walked so far and the minimum are within; of a run that went astray, not what it walked
    where its loss was above 100 times the first.
    """

    x: str
    y: str
    columns: int
    rows: int
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    epoch: int | None = None


class ReadSpeed(msgspec.Struct, frozen=True, kw_only=True, tag="read_speed"):
    """How fast the run that is there trains, and what it takes."""


class EditRun(msgspec.Struct, frozen=True, kw_only=True, tag="edit_run"):
    """Name a run, or pin it; None leaves as it is."""

    run: int
    name: str | None = None
    pinned: bool | None = None


class DeleteRuns(msgspec.Struct, frozen=True, kw_only=True, tag="delete_runs"):
    """Forget these runs and all that was recorded of them; the run that is there, or a race's, cannot be."""

    runs: tuple[int, ...]


class RestoreRun(msgspec.Struct, frozen=True, kw_only=True, tag="restore_run"):
    """Set data, model and training as they were for this run; the data and the model are made."""

    run: int


class ExportRun(msgspec.Struct, frozen=True, kw_only=True, tag="export_run"):
    """Write every epoch of a run as CSV, or with settings and result as JSON; a file is replaced with `overwrite`."""

    run: int
    path: str
    kind: Literal["csv", "json"]
    overwrite: bool = False


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
    """End the engine; with `if_idle` only when no training runs and no other UI is attached, with `if_kept` only when
    nothing is lost by that: what is there is on disk, or nothing is.

    The answer is an `Ending`. What is under way is given about a second to be done, the batch of a training up to 25;
    every request that is not done by then is answered with a problem.
    """

    if_idle: bool = False
    if_kept: bool = False


Command = (
    MakeData
    | BuildModel
    | SetTraining
    | SetLearningRate
    | InspectTable
    | Run
    | NextLine
    | Pause
    | Stop
    | Extend
    | Branch
    | SetPace
    | Reset
    | StartRace
    | LeaveRace
    | Adopt
    | LookBack
    | ReadSeries
    | ReadSurface
    | ReadSpeed
    | EditRun
    | DeleteRuns
    | RestoreRun
    | ExportRun
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
    """The parts of the engine's state that changed; what is UNSET stays as it is, None means there is none now.

    `runs` are the pinned ones that are kept and the newest others, newest first; the one that is there is among them
    once it has an epoch.
    """

    engine: EngineView | UnsetType = UNSET
    steps: Steps | UnsetType = UNSET
    data_spec: DataSpec | UnsetType = UNSET
    model_spec: ModelSpec | UnsetType = UNSET
    train_spec: TrainSpec | UnsetType = UNSET
    data: DataView | UnsetType | None = UNSET
    model: ModelView | UnsetType | None = UNSET
    training: TrainingView | UnsetType | None = UNSET
    history: HistoryData | UnsetType | None = UNSET
    loop: LoopView | UnsetType | None = UNSET
    race: RaceView | UnsetType | None = UNSET
    runs: tuple[RunView, ...] | UnsetType = UNSET
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
    """Something went wrong, or must be known, that no request asked for; the `last` one says why the engine ends."""

    problem: Problem
    last: bool = False


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
