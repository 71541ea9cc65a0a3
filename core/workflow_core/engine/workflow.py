"""The state of one workflow and what each command does to it; importing this module loads torch.

A session belongs to one thread. It publishes what changed as `Update`s and `Epochs`; whoever folds those knows
everything there is to show.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from workflow_core.engine import checkpoint, results
from workflow_core.engine.back import bring_back
from workflow_core.engine.checkpoint import Checkpoint
from workflow_core.engine.faults import mended
from workflow_core.engine.files import absolute
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.keeper import Keeper
from workflow_core.engine.library import Library
from workflow_core.engine.material import Made, Material
from workflow_core.engine.progress import RESULTS, Progress
from workflow_core.engine.runner import Runner
from workflow_core.engine.slow import Slow
from workflow_core.engine.subject import Subject
from workflow_core.errors import WorkflowError
from workflow_core.history import NOTHING
from workflow_core.protocol import (
    Answer,
    BuildModel,
    Command,
    Epochs,
    Evaluate,
    Extend,
    FileAnswer,
    Inspect,
    InspectTable,
    Load,
    MakeData,
    NextLine,
    Pause,
    Predict,
    Reset,
    RestoreRun,
    Run,
    Save,
    SavedView,
    SetLearningRate,
    SetPace,
    SetTraining,
    Stop,
    TrainingView,
    Update,
)
from workflow_core.specs import MAX_EPOCHS, DataSpec, ModelSpec, TrainSpec, goes_on
from workflow_core.steps import load, tables, train
from workflow_core.views import holds

log = logging.getLogger(__name__)

MAX_LEARNING_RATE = 1e6
Spec = TypeVar("Spec", DataSpec, ModelSpec)
REFERRED = ("loss", "delta", "optimizer", "momentum", "nesterov", "weight_decay")
"""The settings of a training that what is known before it depends on."""


class Workflow:
    """The six steps of one workflow. What a command cannot have raises WorkflowError, and nothing has changed then.

    It is `unsettled` where something has changed that nothing keeps by itself.

    Relative names of files mean `files`; every run goes to `library`.
    """

    def __init__(
        self, publish: Callable[[Update | Epochs], None], files: Path, library: Library, keeper: Keeper | None = None
    ) -> None:
        self._publish = publish
        self._files = files
        self._library = library
        self._keeper = keeper
        self._progress = Progress()
        self._version = 0
        self._material = Material()
        self._train_spec = TrainSpec()
        self._pace: float | None = None
        self._number = 0
        self._runner: Runner | None = None
        self._runner_made: Made | None = None
        self._saved: SavedView | None = None
        self._loaded: load.Loaded | None = None
        self.unsettled = False

    @property
    def running(self) -> bool:
        """Is a training under way, so that `advance` is to be called?"""
        return self._runner is not None and self._runner.running

    @property
    def unsaved(self) -> bool:
        """Would epochs of training be gone if the engine ended now?"""
        runner = self._runner  # which the thread that trains may take away while another one asks
        if runner is None or not runner.begun or holds(self._saved, runner.view):
            return False
        return self._keeper is None or not self._keeper.kept

    def advance(self, inbox: Inbox, until: float = math.inf) -> None:
        """Train until something waits in `inbox`, the run stands still, or `until` as time.monotonic() counts."""
        runner = self._runner
        assert runner is not None
        with self._trained_further(runner):
            runner.advance(inbox, until)
        self._show(Update(training=runner.view) if not runner.running else Update())
        if not runner.running:
            self._keep()

    @contextlib.contextmanager
    def _trained_further(self, runner: Runner) -> Iterator[None]:
        """What follows for the steps from what the run does meanwhile."""
        place = runner.place
        yield
        if runner.place != place:
            self._progress.outdate(RESULTS, "the model was trained further")
        if runner.view.state in ("finished", "diverged"):
            self._progress.done("train", runner.view.reason)

    # what outlives the engine

    def close(self) -> None:
        """The engine ends: what runs is paused where it is, and kept."""
        self._pause()
        self._keep()

    def settle(self) -> None:
        """Keep what has changed since it was kept."""
        self.unsettled = False
        self._keep()

    @property
    def _occupied(self) -> bool:
        """Is there anything to keep?"""
        return self._runner is not None

    @property
    def _there(self) -> tuple[int, int]:
        """The numbers of the run and the race that are there, 0 for none."""
        return (self._runner.view.run if self._runner is not None else 0), 0

    def _checkpoint(self) -> Checkpoint:
        """Everything that is there."""
        return checkpoint.of(self._train_spec, self._runner, saved=self._saved)

    def _keep(self, *, only_when_due: bool = False) -> None:
        """Keep what is there, for an engine to come."""
        if self._keeper is not None and self._occupied and (self._keeper.due or not only_when_due):
            self.unsettled = False
            self._library.there(*self._there)
            self._keeper.put(self._checkpoint)

    def _let_go(self) -> None:
        """What was there, and was kept, is not to come back: keep what is left."""
        if self._occupied:
            self._keep()
        elif self._keeper is not None:
            self._library.there(0, 0)
            self._keeper.drop()

    def _keep_if_due(self) -> None:
        self._keep(only_when_due=True)

    def _bring_run_back(self, found: Checkpoint) -> None:
        """The run that an earlier engine has kept is there again, with its data, its model and its record.

        Raises WorkflowError where that cannot be; nothing has changed then.
        """
        if found.kept.run is None or found.state is None:
            return
        back = bring_back(found.kept.run, found.state, self._library, self._publish_progress)
        runner = self._runner = back.runner
        self._material, self._runner_made = back.material, back.material.made
        self._pace = runner.view.pace
        runner.keep_by(self._keep_if_due)
        self._progress.done("data")
        self._progress.done("build")
        if runner.view.state in ("finished", "diverged", "failed"):
            self._progress.done("train", runner.view.reason)
        self._train_spec = found.kept.settings
        update = replace(back.update, train_spec=self._train_spec)
        saved = found.kept.run.saved
        if saved is not None and Path(saved.file.path).exists():
            self._saved = saved
            self._progress.done("save")
            update = replace(update, saved=saved)
        self._show(update)

    def abandon(self) -> None:
        """Stop the run after a fault."""
        if self._runner is not None:
            self._runner.fail("a fault of the engine's own")
            self._show(Update(training=self._runner.view))

    def handle(self, command: Command) -> Answer | Slow:
        """Carry out one command, or begin to. Raises WorkflowError for what the user can mend."""
        with mended(type(command).__name__):
            return self._handle(command)

    def _handle(self, command: Command) -> Answer | Slow:
        match command:
            case MakeData(spec=spec):
                self._make_data(self._placed(spec) if spec else self._material.data_spec, anew=True)
            case BuildModel(spec=spec):
                self._build_model(self._placed(spec) if spec else self._material.model_spec, anew=True)
            case SetTraining(spec=spec):
                self._set_training(spec)
            case SetLearningRate(learning_rate=learning_rate):
                self._set_learning_rate(learning_rate)
            case Run(epochs=epochs, steps=steps, go_on=go_on):
                self._run(epochs, steps, go_on)
            case NextLine():
                self._next_line()
            case Pause(at_epoch=True):
                self._pause_at_epoch()
            case Pause():
                self._pause()
            case Stop(keep=keep):
                self._stop(keep)
            case Extend(epochs=epochs):
                self._extend(epochs)
            case SetPace(pace=pace):
                self._set_pace(pace)
            case Reset():
                self._reset()
            case RestoreRun(run=run):
                self._restore(run)
            case InspectTable(path=path, header=header):
                return tables.inspect(absolute(path, self._files), header)
            case Inspect(path=path):
                return FileAnswer(file=load.inspect(absolute(path, self._files)))
            case Evaluate():
                self._evaluate()
            case Predict():
                return self._predict(command)
            case Save():
                self._save(command)
            case Load(path=path):
                self._load(absolute(path, self._files))
            case _:
                raise AssertionError(f"{command} is not for the workflow")
        return None

    # steps 1 and 2

    def _placed(self, spec: Spec) -> Spec:
        """`spec` with the whole path of the file that it names: whoever reads it later may be somewhere else."""
        if spec.kind not in ("table", "custom"):
            return spec
        return replace(spec, file=str(absolute(spec.file, self._files)))

    def _make_data(self, spec: DataSpec, anew: bool = False) -> None:
        """Make the data where they are not those of `spec`; with `anew` also where their file has changed since."""
        if not self._material.lacks_data(spec, anew):
            return
        self._refuse_while_running("data")
        update = self._material.make_data(spec, self._train_spec)
        self._progress.done("data")
        if update.model is None:
            self._progress.reopen("build")
        self._outdate("the data changed", update)

    def _build_model(self, spec: ModelSpec, anew: bool = False) -> None:
        """Build the model where it is not that of `spec`; with `anew` also where its file has changed since."""
        self._make_data(self._material.data_spec)
        if not self._material.lacks_model(spec, anew):
            return
        self._refuse_while_running("model")
        update = self._material.build_model(spec, self._train_spec)
        self._progress.done("build")
        self._outdate("the model changed", update)

    def _refuse_while_running(self, what: str) -> None:
        if self.running:
            raise WorkflowError(
                "Training is running", f"the {what} cannot change while the model is trained.", "Pause or reset first."
            )

    def _outdate(self, what: str, update: Update) -> None:
        """What was made from the data or the model before is stale; a run that has not begun is simply gone."""
        if self._runner is not None:
            if self._runner.begun:
                self._progress.stale("train", what)
            else:
                self._runner = None
                update = replace(update, training=None, history=None)
            update = replace(update, loop=None)
        self._progress.outdate(RESULTS, what)
        self._reunite()
        self._show(update)

    def _reunite(self) -> None:
        """A run whose data and model are again what it was trained on is no longer stale."""
        runner = self._runner
        if runner is None or not self._stale or self._material.made != self._runner_made:
            return
        self._material.take(runner.dataset, runner.trainer.model)
        self._progress.reopen("train")
        if runner.view.state in ("finished", "diverged", "failed"):
            self._progress.done("train")

    # step 3

    def _set_training(self, spec: TrainSpec) -> None:
        update = Update(train_spec=spec)
        referred = any(getattr(spec, name) != getattr(self._train_spec, name) for name in REFERRED)
        if referred and (view := self._material.view_for(spec)) is not None:
            update = replace(update, model=view)
        self._train_spec, self.unsettled = spec, True
        self._show(update)

    def _set_learning_rate(self, learning_rate: float) -> None:
        if self._runner is None or self._stale:
            raise WorkflowError("No run", "there is no run whose learning rate could change.", "Start one first.")
        if self._runner.view.state not in ("ready", "running", "paused"):
            raise WorkflowError(
                "This run has ended",
                "its learning rate cannot change any more.",
                "Set the learning rate of the next run in the settings.",
            )
        if not (math.isfinite(learning_rate) and 0 < learning_rate <= MAX_LEARNING_RATE):
            raise WorkflowError(
                "Not a learning rate",
                f"{learning_rate:g} cannot be one.",
                f"Ask for a number above 0, up to {MAX_LEARNING_RATE:g}.",
            )
        self._runner.set_learning_rate(learning_rate)
        self._show(Update(training=self._runner.view))
        self._keep()

    def _run(self, epochs: int | None, steps: int | None, go_on: bool) -> None:
        check_count(epochs, "epochs")
        check_count(steps, "steps")
        if go_on:
            view = self._begun_run("go on with").view
            if view.state not in ("ready", "running", "paused"):
                raise _over(view)
        elif not self.running:
            self._prepare_run()
        assert self._runner is not None
        self._runner.begin(epochs, steps)
        self._show(Update(training=self._runner.view, loop=None))
        self._keep()

    def _next_line(self) -> None:
        if not self.running:
            self._prepare_run()
        runner = self._runner
        assert runner is not None
        with self._trained_further(runner):
            runner.next_line()
        self._show(Update(training=runner.view, loop=runner.loop))
        self.unsettled = True
        self._keep_if_due()

    def _prepare_run(self) -> None:
        """See to it that there is a run that can go on: the one there is, or a new one."""
        self._build_model(self._material.model_spec)
        runner = self._runner
        if runner is None or self._stale or runner.view.state == "failed":
            self._new_run()
            return
        view = runner.view
        if self._train_spec == view.spec and view.state in ("diverged", "finished"):
            raise _over(view)
        more = goes_on(view.spec, view.epoch, self._train_spec) and view.state != "diverged"
        if not more or (self._train_spec != view.spec and not runner.extensible):
            self._new_run()
        elif self._train_spec != view.spec:
            runner.extend(self._train_spec)
            self._progress.reopen("train")

    def _new_run(self) -> None:
        """Epoch 0, with the initial parameters and the settings as they are now.

        The run that was there stays untouched until the new one stands complete. Raises WorkflowError.
        """
        dataset = self._material.dataset
        assert dataset is not None
        fresh = self._material.fresh_model(self._train_spec)
        trainer = train.Trainer(fresh.model, dataset, self._train_spec)
        old, spec = self._runner, self._material.model_spec
        if old is not None and old.view.state == "ready":
            self._number = old.view.run
        # the one of a run that never came to be is not lost
        self._number = number = self._number or self._library.number()
        runner = Runner(trainer, dataset, spec, number, self._pace, self._publish_progress)
        runner.record(self._library.record(number, dataset.spec, spec))
        runner.keep_by(self._keep_if_due)
        if old is not None:
            old.leave()
        update = self._material.take_fresh(fresh)
        self._number, self._runner, self._runner_made = 0, runner, self._material.made
        self._progress.reopen("train")
        self._progress.outdate(RESULTS, "a new run was begun")
        self._show(replace(update, training=runner.view, history=NOTHING, loop=None))
        self._keep()

    def _publish_progress(self, event: Epochs | Update) -> None:
        self._publish(event)
        self._progress.outdate(RESULTS, "the model was trained further")
        self._show(Update())

    def _pause(self) -> None:
        if self._runner is not None and self._runner.running:
            self._runner.pause()
            self._show(Update(training=self._runner.view))
            self._keep()

    def _pause_at_epoch(self) -> None:
        if self._runner is not None and self._runner.running:
            self._runner.begin(1)  # the one under way

    def _stop(self, keep: bool) -> None:
        runner = self._begun_run("stop")
        if not keep:
            self._discard()
            return
        if runner.view.state not in ("ready", "running", "paused"):
            raise _over(runner.view)
        runner.finish("stopped by hand")
        if not self._stale:
            self._progress.done("train", runner.view.reason)
        self._show(Update(training=runner.view))
        self._keep()

    def _discard(self) -> None:
        """The run and its record are gone; what is there is the untrained model."""
        runner, fresh = self._runner, None
        if not self._stale:
            fresh = self._material.fresh_model(self._train_spec)
        assert runner is not None
        runner.discard()
        update = self._material.take_fresh(fresh) if fresh is not None else Update()
        self._runner = self._runner_made = None
        self._let_go()
        self._progress.reopen("train")
        self._progress.outdate(RESULTS, "the run was discarded")
        self._show(replace(update, training=None, history=None, loop=None))

    def _extend(self, epochs: int) -> None:
        runner = self._begun_run("extend")
        view = runner.view
        if view.state in ("diverged", "failed"):
            raise _over(view)
        if not runner.extensible:
            why = "a cosine schedule ends with its last epoch" if not runner.trainer.ended else view.reason
            raise WorkflowError("This run takes no more epochs", f"{why}.", "Set more epochs, and reset.")
        total = (view.epoch if view.state == "finished" else view.spec.epochs) + epochs
        if epochs < 1 or total > MAX_EPOCHS:
            raise WorkflowError(
                "Not a number of epochs", f"{epochs:,} more cannot be run.", f"{MAX_EPOCHS:,} in all are the most."
            )
        longer = replace(view.spec, epochs=total)
        if self._train_spec == view.spec:
            self._train_spec = longer
        runner.extend(longer)
        self._progress.reopen("train")
        runner.begin(None)
        self._show(Update(training=runner.view, train_spec=self._train_spec))
        self._keep()

    def _begun_run(self, what: str) -> Runner:
        """The run that is there. Raises WorkflowError where there is none that has begun, or it is stale."""
        runner = self._runner
        if runner is None or not (runner.begun or runner.running or runner.view.state == "failed"):
            raise WorkflowError("No run", f"there is no run to {what}.", "Start one first.")
        if self._stale and what != "stop":
            raise WorkflowError(
                "The training is out of date", f"{self._progress.view().reasons['train']}.", "Run it anew."
            )
        return runner

    def _set_pace(self, pace: float | None) -> None:
        if pace is not None and not (math.isfinite(pace) and pace >= 1):
            raise WorkflowError("Not a pace", f"{pace:g} epochs a second is not a pace.", "Ask for 1 or more.")
        self._pace, self.unsettled = pace, True
        if self._runner is not None:
            self._runner.set_pace(pace)
            self._show(Update(training=self._runner.view))

    def _reset(self) -> None:
        if self._runner is not None:
            self._build_model(self._material.model_spec)
            self._progress.outdate(RESULTS, "the training was reset")
            self._new_run()

    def _restore(self, run: int) -> None:
        """Set everything as it was for a run that is kept, and make its data and its model."""
        self._refuse_while_running("settings")
        spec = self._library.find(run).spec
        material = Material()
        update = material.make_data(spec.data, spec.train)
        made = material.build_model(spec.model, spec.train)
        if self._material.model is None or material.made != self._material.made:
            self._material = material
            self._progress.done("data")
            self._progress.done("build")
            update = replace(update, model_spec=made.model_spec, model=made.model)
            self._outdate(f"the settings of run {run} were restored", update)
        self._set_training(spec.train)

    # steps 4 to 6

    @property
    def _stale(self) -> bool:
        return self._progress["train"] == "stale"

    @property
    def _trained(self) -> bool:
        """Has the model as it is now been trained?"""
        return self._runner is not None and not self._stale and self._runner.begun

    def _subject(self) -> Subject:
        """The model as it is now, made where missing. Raises WorkflowError where its training is stale."""
        if self._stale:
            raise WorkflowError(
                "The training is out of date",
                f"{self._progress.view().reasons['train']}.",
                "Run it again, or reset it to use the untrained model.",
            )
        self._build_model(self._material.model_spec)
        material = self._material
        assert material.model is not None
        assert material.dataset is not None
        if self._runner is not None and self._trained:
            return self._runner.subject
        return Subject(material.model, material.model_spec, material.dataset, self._train_spec)

    def _evaluate(self) -> None:
        view = results.evaluation(self._subject())
        self._progress.done("evaluate")
        self._show(Update(evaluation=view))

    def _predict(self, command: Predict) -> Answer:
        if command.source == "trained":
            return results.predict_with(self._subject(), command)
        if self._loaded is None:
            raise WorkflowError("Nothing is loaded", "no file has been loaded yet.", "Load one in step 6 first.")
        return results.predict_loaded(self._loaded, command)

    def _save(self, command: Save) -> None:
        # also of a stale run: its weights are worth what they were, and the file tells what they were trained on
        subject = self._runner.subject if self._runner is not None and self._stale else self._subject()
        view = results.saved(subject, command, absolute(command.path, self._files))
        self._saved = view
        self._progress.done("save")
        self._show(Update(saved=view))
        self._keep()

    def _load(self, path: Path) -> None:
        material = self._material
        file = load.load(path, material.model_spec, material.dataset)
        # against an untrained model every good file would look wrong
        view = results.loaded(file, material.model if self._trained else None, material.dataset)
        self._loaded = file
        self._progress.done("load")
        self._show(Update(loaded=view))

    def _show(self, update: Update) -> None:
        """Publish what changed, and the steps where that changed them."""
        if self._progress.version != self._version:
            self._version = self._progress.version
            update = replace(update, steps=self._progress.view())
        if any(value is not msgspec.UNSET for value in msgspec.structs.astuple(update)):
            self._publish(update)


def check_count(count: int | None, what: str) -> None:
    """Raises WorkflowError where so many `what` cannot be run."""
    if count is not None and count < 1:
        raise WorkflowError(f"Not a number of {what}", f"{count} {what} cannot be run.", "Ask for 1 or more.")


def _over(view: TrainingView) -> WorkflowError:
    """Why a run that has ended does not go on, and what does."""
    if view.state == "diverged":
        mend = "Reset to train with the learning rate of the settings." if view.lr_changes else view.advice
        return WorkflowError("This run has diverged", f"{view.reason}; further epochs would not mend it.", mend)
    if view.state == "failed":
        return WorkflowError("This run has failed", f"{view.reason}.", "Run anew, or reset.")
    if view.epoch < view.spec.epochs:
        more = "Extend it" if view.held is None else "Set more patience, or other settings, and run anew"
        return WorkflowError("This run is finished", f"{view.reason}.", f"{more}; or reset.")
    return WorkflowError(
        "This run is finished",
        f"all {view.spec.epochs:,} epochs are done.",
        "Set more epochs to go on, or reset to train again from the start.",
    )
