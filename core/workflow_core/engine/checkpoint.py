"""A run as it goes on: everything that the rest of its training depends on, as one file of plain values and tensors."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from workflow_core import __version__
from workflow_core.archive import open_archive, seal
from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps.data import Dataset
from workflow_core.views import TrainingView

if TYPE_CHECKING:
    from workflow_core.engine.runner import Runner

FORMAT = 1


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a run beside the state of its trainer.

    `data` and `model` are what it is trained on, `settings` those of the next run, `rows` a digest of the data
    themselves, `version` that of the program.
    """

    format: int = FORMAT
    version: str = __version__
    data: DataSpec
    model: ModelSpec
    settings: TrainSpec
    view: TrainingView
    rows: str


class Checkpoint(msgspec.Struct, frozen=True):
    """A run and the `state` of its trainer (see `Trainer.state`)."""

    kept: Kept
    state: dict[str, Any]

    def packed(self) -> bytes:
        """The file, sealed: torch.load reads it with its safe defaults."""
        buffer = io.BytesIO()
        about = msgspec.msgpack.encode(self.kept)
        torch.save({"run": torch.frombuffer(bytearray(about), dtype=torch.uint8), "state": self.state}, buffer)
        return seal(buffer.getvalue())


def of(runner: Runner, settings: TrainSpec) -> Checkpoint:
    """What is to be kept of a run as it stands; `settings` are those of the next one."""
    kept = Kept(
        data=runner.dataset.spec,
        model=runner.model_spec,
        settings=settings,
        view=runner.view,
        rows=digest(runner.dataset),
    )
    return Checkpoint(kept, runner.trainer.state())


@functools.lru_cache(maxsize=1)
def digest(dataset: Dataset) -> str:
    """What tells these rows, their order and their splits from any others: a SHA-256 in hexadecimal digits."""
    home = dataset.home or dataset
    found = hashlib.sha256(repr((home.features, home.target)).encode())
    for tensor in (home.X, home.y, *home.indices.values()):
        found.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        whole = tensor.contiguous()
        found.update(ctypes.string_at(whole.data_ptr(), whole.nbytes))
    return found.hexdigest()


def crash(view: TrainingView, recorded: int) -> Problem:
    """What became of a run whose engine did not end in order, of which so many epochs are on record."""
    was = "was training" if view.state == "running" else f"was {view.state}"
    kept = f"{view.epoch:,} epoch{'s' * (view.epoch != 1)}"
    lost = max(recorded - view.epoch, 0)
    again = f"; {lost:,} epoch{'s' * (lost != 1)} after that are trained again" if lost else ""
    return Problem(
        title="The engine was ended from outside",
        message=f"it was killed, or the machine went down, while run {view.run} {was}. "
        f"The run is back as it was after {kept}{again}.",
        advice="space goes on with it." if view.state in ("running", "paused") else "",
    )


def read(path: Path) -> Checkpoint | None:
    """The run that is kept in the file `path`; None where there is none. Raises WorkflowError for one that is not."""
    try:
        data = path.read_bytes()
        open_archive(data)
        contents = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        kept = msgspec.msgpack.decode(bytes(contents["run"].tolist()), type=Kept)
        state = contents["state"]
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever torch makes of a file that is none of its own
        raise WorkflowError(
            "The last run cannot be brought back",
            f"what was kept of it in {path} cannot be read ({type(error).__name__}).",
            "Its record is in the table of runs; restore its settings there, and train it again.",
        ) from error
    if kept.format != FORMAT:
        raise WorkflowError(
            "The last run cannot be brought back",
            f"workflow-tui {kept.version} has kept it, in a form that this one ({__version__}) does not know.",
            "Its record is in the table of runs.",
        )
    return Checkpoint(kept, state)
