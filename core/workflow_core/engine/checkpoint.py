"""Runs and races as they go on: all that the rest of their training depends on, in one file of plain values."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from workflow_core import __version__, devices
from workflow_core.archive import open_archive, seal
from workflow_core.engine.news import GOES_ON
from workflow_core.errors import Problem, WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import userfile
from workflow_core.steps.data import Dataset
from workflow_core.steps.diagnosis import Figures
from workflow_core.views import RaceView, RunView, SavedView, TrainingView, holds

if TYPE_CHECKING:
    from workflow_core.engine.race import Race
    from workflow_core.engine.runner import Runner

FORMAT = 2


class TrainedOn(msgspec.Struct, frozen=True, kw_only=True):
    """What something is trained on; `rows` is a digest of the data themselves.

    `files` are those of a model of the user's own and of their modules that it imported, with a digest of each.
    """

    data: DataSpec
    model: ModelSpec
    rows: str
    files: dict[str, str] = {}


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a run beside the state of its trainer; `saved` is the file that holds its weights.

    `figures` are what a diagnosis looks at.
    """

    on: TrainedOn
    view: TrainingView
    figures: Figures | None = None
    saved: SavedView | None = None


class KeptRace(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a race beside the states of its trainers; `lanes` and `figures` are in the order of those of
    `view`."""

    on: TrainedOn
    view: RaceView
    lanes: tuple[TrainingView, ...]
    figures: tuple[Figures, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside states: of the run that is there, and of the race.

    `settings` are those of the next run, `version` is that of the program.
    """

    format: int = FORMAT
    version: str = __version__
    settings: TrainSpec
    run: KeptRun | None = None
    race: KeptRace | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """A run and a race, each where there is one: the `state` of its trainer (see `Trainer.state`), and those of its
    `lanes`."""

    kept: Kept
    state: dict[str, Any] | None = None
    lanes: tuple[dict[str, Any], ...] = ()

    def packed(self) -> bytes:
        """The file, sealed: torch.load reads it with its safe defaults."""
        buffer = io.BytesIO()
        about = torch.frombuffer(bytearray(msgspec.msgpack.encode(self.kept)), dtype=torch.uint8)
        torch.save({"about": about, "state": self.state, "lanes": list(self.lanes)}, buffer)
        return seal(buffer.getvalue())


def of(
    settings: TrainSpec, runner: Runner | None, race: Race | None = None, saved: SavedView | None = None
) -> Checkpoint:
    """What is to be kept of a run and a race as they stand; `settings` are those of the next run, `saved` is the file
    that was written last."""
    run = None
    if runner is not None:
        run = KeptRun(
            on=_trained_on(runner),
            view=runner.view,
            figures=runner.watch.figures,
            saved=saved if holds(saved, runner.view) else None,
        )
    return Checkpoint(
        Kept(
            settings=settings,
            run=run,
            race=(
                KeptRace(
                    on=_trained_on(race.lanes[0]),
                    view=race.view,
                    lanes=tuple(lane.view for lane in race.lanes),
                    figures=tuple(lane.watch.figures for lane in race.lanes),
                )
                if race is not None
                else None
            ),
        ),
        runner.trainer.state() if runner is not None else None,
        tuple(lane.trainer.state() for lane in race.lanes) if race is not None else (),
    )


def _trained_on(runner: Runner) -> TrainedOn:
    return TrainedOn(data=runner.dataset.spec, model=runner.model_spec, rows=digest(runner.dataset), files=runner.files)


@functools.lru_cache(maxsize=2)
def digest(dataset: Dataset) -> str:
    """What tells these rows, their order and their splits from any others: a SHA-256 in hexadecimal digits."""
    home = dataset.home or dataset
    found = hashlib.sha256(repr((home.features, home.target)).encode())
    for tensor in (home.X, home.y, *home.indices.values()):
        found.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        whole = tensor.contiguous()
        found.update(ctypes.string_at(whole.data_ptr(), whole.nbytes))
    return found.hexdigest()


def crash(
    run: KeptRun | None, race: KeptRace | None, killed: Sequence[RunView], recorded: Callable[[int], int]
) -> list[Problem]:
    """What became of what an engine had that did not end in order, where it had anything.

    `run` and `race` are there again, `killed` are the runs that it was training, `recorded` gives the epochs of a run
    that are on record. Where there is a race that is not over it is about that, for that was trained last.
    """
    there = [] if run is None else [run.view.run]
    there += [] if race is None else [lane.run for lane in race.lanes]
    training = {view.run for view in killed}
    state: str
    if race is not None and (race.view.state != "finished" or run is None):
        what, state, epoch = f"race {race.view.race}", race.view.state, race.view.epoch
        lost = max(max(recorded(lane.run) - lane.epoch, 0) for lane in race.lanes)
        went_on = any(lane.run in training for lane in race.lanes)
    elif run is not None:
        what, state, epoch = f"run {run.view.run}", run.view.state, run.view.epoch
        lost, went_on = max(recorded(run.view.run) - epoch, 0), run.view.run in training
    else:
        what, state, epoch, lost, went_on = "", "", 0, 0, False
    if gone := [view for view in killed if view.run not in there]:
        back = f"; what was kept before is back, {what} after {_epochs(epoch)}" if what else ""
        began = f"race {gone[0].race}" if gone[0].race else f"run {gone[0].run}"
        done = _epochs(max(view.epochs for view in gone))
        return _told(
            f"while {began} was training",
            f"Nothing of that was kept yet to go on with: {done} are on record{back}",
            "The table of runs restores its settings, to train it again.",
        )
    if not what:
        return []
    if went_on:  # after what is kept was written
        state = "running"
    elif lost and state == "ready":
        state = "paused"
    when = {"running": f"while {what} was training", "paused": f"while {what} was paused"}.get(
        state, f"while {what} had not begun" if state == "ready" else f"after {what} had {state}"
    )
    again = f"; {_epochs(lost)} on record after that are trained again" if lost else ""
    return _told(
        when,
        f"The {what.split()[0]} is back as it was after {_epochs(epoch)}{again}",
        GOES_ON if state in ("running", "paused") else "",
    )


def changes(found: Checkpoint, run: KeptRun | None, race: KeptRace | None) -> list[Problem]:
    """What is another than it was of that which the rest of a training depends on and no checkpoint can hold.

    `run` and `race` are there again. Nothing is said of what an earlier version of this program has not noted.
    """
    kept: list[tuple[str, TrainedOn, bool]] = []
    if (was := found.kept.run) is not None:
        kept.append((f"run {was.view.run}", was.on, run is not None))
    if (raced := found.kept.race) is not None:
        kept.append((f"race {raced.view.race}", raced.on, race is not None))
    problems = []
    for what, on, back in kept:
        problems += [
            _changed(what, Path(file), back)
            for file, then in on.files.items()
            if userfile.digest(Path(file)) != then != userfile.UNREADABLE
        ]
    states = [found.state] if run is not None and found.state is not None else []
    states += found.lanes if race is not None else ()
    for other in dict.fromkeys(filter(None, map(_others, states))):
        problems.append(
            Problem(
                title="The last bits may differ",
                message=f"{other}. The training goes on from where it was; the last bits of its figures may be others "
                "than those of one that was never interrupted.",
            )
        )
    return problems


def _changed(what: str, file: Path, back: bool) -> Problem:
    goes_on = f", and {what} goes on with the code as it is now" if back else ""
    return Problem(
        title="The code of the model has changed",
        message=f"{sanitize(str(file))} has changed since {what} was trained with it{goes_on}.",
        advice=f"{'To go on with it as it was, put' if back else 'Put'} it back first; leave, and come back.",
    )


def _others(state: dict[str, Any]) -> str:
    """The torch and the number of threads that a training had, where it has others now."""
    version, now = str(state["torch_version"]), str(torch.__version__)
    if version != now:
        return f"It was trained with PyTorch {sanitize(version)}, and this is {now}"
    threads = state["threads"]
    if "rows" not in state or threads is None or threads == (count := devices.threads_for(state["rows"])):
        return ""
    return f"It was trained with {threads} CPU thread{'s' * (threads != 1)}, and here it is {count}"


def _told(when: str, what: str, advice: str) -> list[Problem]:
    return [
        Problem(
            title="The engine was ended from outside",
            message=f"it was killed, or the machine went down, {when}. {what}.",
            advice=advice,
        )
    ]


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'s' * (count != 1)}"


def read(path: Path) -> Checkpoint | None:
    """What is kept in the file `path`; None where there is none. Raises WorkflowError for a file that is not whole."""
    try:
        data = path.read_bytes()
        open_archive(data)
        contents = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        about = contents["about"] if "about" in contents else contents["run"]  # as it was called in format 1
        kept = msgspec.msgpack.decode(bytes(about.tolist()), type=Kept)
        found = Checkpoint(kept, contents.get("state"), tuple(contents.get("lanes", ())))
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
    return found
