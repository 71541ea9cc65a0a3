"""The engine's session: one workflow, its races, and looking back; importing this module loads torch.

A session belongs to one thread. It publishes what changed as `Update`s and `Epochs`; whoever folds those knows
everything there is to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import nn

from workflow_core.engine import checkpoint
from workflow_core.engine.back import bring_race_back
from workflow_core.engine.checkpoint import Checkpoint, KeptRace, KeptRun
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.keeper import Keeper
from workflow_core.engine.lane_labels import labels
from workflow_core.engine.library import Library
from workflow_core.engine.material import Made
from workflow_core.engine.past import Branching, LookingBack
from workflow_core.engine.progress import RESULTS
from workflow_core.engine.race import LANES, Race, check_room
from workflow_core.engine.runner import Runner
from workflow_core.engine.slow import Slow
from workflow_core.engine.surfaces import AfterThat, map_surface
from workflow_core.engine.workflow import Workflow, check_count
from workflow_core.errors import Problem, WorkflowError
from workflow_core.history import HistoryData
from workflow_core.protocol import (
    Adopt,
    Answer,
    Branch,
    BuildModel,
    Command,
    EngineView,
    Epochs,
    Extend,
    LeaveRace,
    LookBack,
    MakeData,
    NextLine,
    Pause,
    ReadSpeed,
    ReadSurface,
    Reset,
    RestoreRun,
    Run,
    SetPace,
    StartRace,
    Stop,
    Update,
)
from workflow_core.specs import TrainSpec
from workflow_core.steps import data, linear, train
from workflow_core.steps.surface import Surfaces


def describe(view: EngineView) -> EngineView:
    """`view` with what is known once torch is loaded."""
    return replace(
        view,
        state="ready",
        torch_version=str(torch.__version__),
        devices=tuple(train.available_devices()),
        threads=torch.get_num_threads(),
    )


def warm_up() -> None:
    """Construct an optimizer: the first one imports another second's worth of torch."""
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


BEGINNING = (Run, NextLine, Reset, MakeData, BuildModel, Extend, Branch, StartRace, LeaveRace, RestoreRun)
"""Commands that begin something else than a race that is there."""


class Session(Workflow):
    """A workflow with what lies beside it: races, looking back, and what shows how a training goes."""

    def __init__(
        self, publish: Callable[[Update | Epochs], None], files: Path, library: Library, keeper: Keeper | None = None
    ) -> None:
        super().__init__(publish, files, library, keeper)
        self._race: Race | None = None
        self._race_made: Made | None = None
        self._surfaces = Surfaces()

    @property
    def running(self) -> bool:
        """Is a training or a race under way, so that `advance` is to be called?"""
        return super().running or (self._race is not None and self._race.running)

    @property
    def unsaved(self) -> bool:
        """Would epochs of training be gone if the engine ended now?"""
        race = self._race
        begun = race is not None and race.epoch > 0
        return super().unsaved or (begun and (self._keeper is None or not self._keeper.kept))

    def advance(self, inbox: Inbox, until: float = math.inf) -> None:
        """Train until something waits in `inbox`, all stands still, or `until` as time.monotonic() counts."""
        if self._race is not None and self._race.running:
            self._race.advance(inbox, until)
            if not self._race.running:
                self._keep()
        else:
            super().advance(inbox, until)

    def abandon(self) -> None:
        """Stop what runs after a fault."""
        if self._race is not None and self._race.running:
            self._race.fail("a fault of the engine's own")
            self._show(Update(race=self._race.view))
        else:
            super().abandon()

    @property
    def _occupied(self) -> bool:
        return self._runner is not None or self._race is not None

    @property
    def _there(self) -> tuple[int, int]:
        return super()._there[0], self._race.view.race if self._race is not None else 0

    def _checkpoint(self) -> Checkpoint:
        return checkpoint.of(self._train_spec, self._runner, self._race, self._saved)

    def close(self) -> None:
        """The engine ends: what runs is paused where it is, and kept."""
        if self._race is not None and self._race.running:
            self._race.pause()
            self._show(Update(race=self._race.view))
        super().close()

    def restore(self, found: Checkpoint) -> tuple[KeptRun | None, KeptRace | None, list[Problem]]:
        """Bring back what an earlier engine has kept: the run with its data, its model and its record, and the race.

        Says which of them is there again, and why the rest cannot be.
        """
        run, race, problems = found.kept.run, found.kept.race, list[Problem]()
        try:
            self._bring_run_back(found)
        except WorkflowError as error:
            run = None
            problems.append(error.problem)
        try:
            self._bring_race_back(found)
        except WorkflowError as error:
            race = None
            problems.append(error.problem)
        return run, race, problems

    def _bring_race_back(self, found: Checkpoint) -> None:
        kept = found.kept.race
        if kept is None:
            return
        back = bring_race_back(kept, found.lanes, self._library, self._publish_progress, self._publish, self._material)
        if back.material is not self._material:
            self._material = back.material
            if self._runner is not None:
                self._progress.stale("train", "the data or the model changed")
        self._progress.done("data")
        self._progress.done("build")
        self._race, self._race_made = back.race, back.material.made
        self._train_spec, self._pace = found.kept.settings, kept.view.pace
        back.race.keep_by(self._keep_if_due)
        self._show(replace(back.update, train_spec=self._train_spec, race=back.race.view))

    def _handle(self, command: Command) -> Answer | Slow:
        if self._race is not None and self._handle_in_race(self._race, command):
            return None
        match command:
            case StartRace(lanes=lanes):
                self._start_race(lanes)
            case LeaveRace():
                raise WorkflowError("No race", "there is no race that could be left.")
            case Adopt(run=run):
                self._adopt(run)
            case ReadSurface():
                return self._read_surface(command)
            case ReadSpeed():
                return self._read_speed()
            case LookBack(epoch=epoch):
                return self._look_back(epoch)
            case Branch(epoch=epoch):
                return Branching(self._begun_run("go on from"), epoch, self._begin_branch)
            case _:
                return super()._handle(command)
        return None

    def _outdate(self, what: str, update: Update) -> None:
        """Of other data, or another model, a race cannot have been."""
        raced = self._race is not None
        if raced:
            self._race = None
            update = replace(update, race=None)
        super()._outdate(what, update)
        if raced:
            self._let_go()

    # a race

    def _start_race(self, specs: tuple[TrainSpec, ...]) -> None:
        least, most = LANES
        if not least <= len(specs) <= most:
            raise WorkflowError("Not a race", f"{len(specs)} trainings are no race.", f"Ask for {least} to {most}.")
        if self._material.lacks_data(self._material.data_spec, False) or self._material.lacks_model(
            self._material.model_spec, True
        ):
            self._pause()
        self._build_model(self._material.model_spec, anew=True)
        dataset, model_spec = self._material.dataset, self._material.model_spec
        assert dataset is not None
        assert self._material.model is not None
        check_room(self._material.model, len(specs))
        trainers = self._line_up(dataset, specs)
        race, lanes = self._library.race_number(), list[tuple[Runner, str]]()
        for trainer, label in zip(trainers, labels(specs), strict=True):
            number = self._library.number()
            lane = Runner(trainer, dataset, model_spec, number, None, self._publish_progress)
            lane.record(self._library.record(number, dataset.spec, model_spec, race))
            lanes.append((lane, label))
        self._pause()
        self._race = Race(race, lanes, self._pace, self._publish)
        self._race_made = self._material.made
        self._race.keep_by(self._keep_if_due)
        self._race.begin()
        self._show(Update(race=self._race.view))
        self._keep()

    def _line_up(self, dataset: data.Dataset, specs: Sequence[TrainSpec]) -> list[train.Trainer]:
        """A trainer for each of `specs`, all with the same initial parameters; of the data a device has one copy."""
        placed: dict[torch.device, data.Dataset] = {}
        trainers = []
        for spec in specs:
            device = train.pick_device(spec.device, dataset.spec.dtype)
            if device not in placed:
                placed[device] = dataset.to(device)
            trainers.append(train.Trainer(self._material.fresh_model(spec).model, placed[device], spec))
        return trainers

    def _handle_in_race(self, race: Race, command: Command) -> bool:
        """Carry out a command that concerns the race; False where it is about something else.

        What begins something else ends a race that is over, and is refused while it is under way.
        """
        match command:
            case Run(epochs=epochs, steps=steps) if not race.over:
                check_count(epochs, "epochs")
                if steps is not None:
                    raise WorkflowError("Whole epochs only", "a race cannot be run by steps.", "Ask for epochs.")
                race.begin(epochs)
                self._keep()
            case Pause(at_epoch=True):
                if race.running:
                    race.begin(1)
            case Pause():
                race.pause()
                self._keep()
            case SetPace(pace=pace):
                self._set_pace(pace)
                race.set_pace(pace)
            case Stop(keep=True) | Run(go_on=True) if race.over:
                raise WorkflowError(
                    "The race is over",
                    "the race is over; its lanes are kept as runs.",
                    "Take a lane on, or begin something else.",
                )
            case LeaveRace() if race.over:
                self._end_race()
                return True
            case Stop(keep=keep):
                if not race.over:
                    race.stop("stopped by hand")
                if keep:
                    self._keep()
                else:
                    race.discard()
                    self._race = None
                    self._let_go()
            case _ if not isinstance(command, BEGINNING):
                return False
            case MakeData() | BuildModel() if race.over:
                return False  # which ends it where that changes anything
            case _ if race.over:
                self._end_race()
                return False
            case _:
                raise WorkflowError(
                    "A race is under way",
                    "a race is under way, and this would change what it is about.",
                    "Let it run to its end, or stop it.",
                )
        self._show(Update(race=self._race.view if self._race is not None else None))
        return True

    def _end_race(self) -> None:
        """Its lanes are kept as runs; there is no race any more."""
        self._race = None
        self._show(Update(race=None))
        self._let_go()

    def _adopt(self, run: int) -> None:
        race = self._race
        found = [
            (lane, history)
            for lane, history in (zip(race.lanes, race.histories, strict=True) if race is not None else ())
            if lane.view.run == run
        ]
        if race is None or not found:
            raise WorkflowError("Not in this race", f"run {run} is no lane of a race that is there.")
        lane, history = found[0]
        if not lane.view.epoch:
            raise WorkflowError("Nothing to go on with", f"run {run} has no epoch yet.", "Let the race run first.")
        race.pause()
        race.stop("the race was ended for another lane", but=lane)
        lane.publish_to(self._publish_progress)
        lane.set_pace(self._pace)
        if self._runner is not None:
            self._runner.leave()
        self._race, self._runner, self._runner_made = None, lane, self._race_made
        self._set_training(lane.view.spec)
        self._material.take(lane.dataset, lane.trainer.model)
        self._progress.reopen("train")
        if lane.view.state in ("finished", "diverged", "failed"):
            self._progress.done("train", lane.view.reason)
        self._progress.outdate(RESULTS, "a lane of the race was taken on")
        lane.keep_by(self._keep_if_due)
        self._show(Update(race=None, training=lane.view, history=history.to_data(), loop=None))
        self._keep()

    # looking

    def _read_surface(self, command: ReadSurface) -> Answer | Slow:
        """The map for the run that is there, or for the untrained model."""
        material, runner = self._material, self._runner
        if runner is None and command.epoch is not None:
            raise WorkflowError("No run", "there is no run to look back at.", "Start one first.")
        if runner is None:
            self._build_model(material.model_spec)
            model, dataset = material.model, material.dataset
            assert model is not None
            assert dataset is not None
            linear_model = linear.degree_of(material.model_spec) > 0
            rows = dataset.inputs("train")
            return map_surface(self._surfaces, command, model, rows, self._train_spec, linear=linear_model)

        def of(model: nn.Module) -> Slow:
            return map_surface(
                self._surfaces,
                command,
                model,
                (runner.trainer.batches.X, runner.trainer.batches.y),
                runner.view.spec,
                run=runner.view.run,
                linear=linear.degree_of(runner.model_spec) > 0,
                walked=runner.watch.walked,
                kept=runner.kept,
                of=runner.trainer.model,
            )

        if command.epoch is None:
            return of(runner.trainer.model)
        past = LookingBack(runner, command.epoch)
        return AfterThat(past, lambda: of(past.model))

    def _read_speed(self) -> Slow:
        runner = self._runner
        if runner is None:
            raise WorkflowError("No run", "there is no run whose speed could be told.", "Start one first.")
        return runner.speed.answer(runner.trainer, lambda: runner.view)

    def _look_back(self, epoch: int) -> Slow:
        if self._runner is None:
            raise WorkflowError("No run", "there is no run to look back at.", "Start one first.")
        return LookingBack(self._runner, epoch)

    def _begin_branch(
        self, other: Runner, trainer: train.Trainer, history: HistoryData, figures: dict[str, float]
    ) -> None:
        """Go on as a new run from another one, as it stood after some epoch."""
        if other is not self._runner or self._stale or (self._race is not None and not self._race.over):
            raise WorkflowError("Something else began", "what was to go on is no longer what is there.")
        if self._race is not None:
            self._end_race()
        self._pause()
        number = self._library.number()
        runner = Runner.branched(other, trainer, number, figures, self._publish_progress)
        runner.go_on(self._library.record(number, other.dataset.spec, other.model_spec), history)
        other.leave()
        self._runner = runner
        self._material.take(other.dataset, trainer.model)
        self._progress.reopen("train")
        if runner.view.state == "finished":
            self._progress.done("train", runner.view.reason)
        self._progress.outdate(RESULTS, "a new run was begun")
        runner.keep_by(self._keep_if_due)
        self._show(Update(training=runner.view, history=history, loop=None))
        self._set_training(trainer.spec)
        self._keep()
