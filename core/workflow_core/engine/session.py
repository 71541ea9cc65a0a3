"""The state of one workflow and what each command does to it; importing this module loads torch.

A session belongs to one thread. It publishes what changed as `Update`s and `Epochs`; whoever folds those knows
everything there is to show.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from workflow_core import devices
from workflow_core.engine.faults import FAULTS, problem_of
from workflow_core.engine.inbox import Answer, Inbox
from workflow_core.engine.progress import RESULTS, Progress
from workflow_core.engine.runner import Runner
from workflow_core.errors import WorkflowError
from workflow_core.history import HistoryData
from workflow_core.protocol import (
    BuildModel,
    Command,
    EngineView,
    Epochs,
    Evaluate,
    EvaluationView,
    FileAnswer,
    Inspect,
    Load,
    LoadedView,
    MakeData,
    Pause,
    Predict,
    Predictions,
    Reset,
    Run,
    Save,
    SavedView,
    SetPace,
    SetTraining,
    Source,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data, evaluate, load, save, train

log = logging.getLogger(__name__)

NO_EPOCHS = HistoryData(epochs=0, width=1, series={})


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


class Session:
    """The six steps of one workflow. `handle` raises WorkflowError and has changed nothing then."""

    def __init__(self, publish: Callable[[Update | Epochs], None], files: Path) -> None:
        self._publish = publish
        self._files = files
        self._progress = Progress()
        self._version = 0
        self._data_spec = DataSpec()
        self._model_spec = ModelSpec()
        self._train_spec = TrainSpec()
        self._pace: float | None = None
        self._dataset: data.Dataset | None = None
        self._model: torch.nn.Module | None = None
        self._runs = 0
        self._runner: Runner | None = None
        self._runner_model = ModelSpec()
        self._loaded: load.Loaded | None = None

    @property
    def running(self) -> bool:
        """Is a training under way, so that `advance` is to be called?"""
        return self._runner is not None and self._runner.running

    @property
    def unsaved(self) -> bool:
        """Would epochs of training be gone if the engine ended now?"""
        return self._trained > 0 and self._progress["save"] != "done"

    def advance(self, inbox: Inbox) -> None:
        """Train until something waits in `inbox` or the run stands still."""
        runner = self._runner
        assert runner is not None
        runner.advance(inbox)
        if runner.view.state in ("finished", "diverged"):
            self._progress.done("train", runner.view.reason)
        self._show(Update(training=runner.view) if not runner.running else Update())

    def abandon(self) -> None:
        """Stop the run after a fault."""
        if self._runner is not None:
            self._runner.fail("a fault of the engine's own")
            self._show(Update(training=self._runner.view))

    def handle(self, command: Command) -> Answer:
        """Carry out one command. Raises WorkflowError for what the user can mend."""
        try:
            return self._handle(command)
        except FAULTS as error:
            log.exception("%s failed", type(command).__name__)
            raise problem_of(error) from error

    def _handle(self, command: Command) -> Answer:
        match command:
            case MakeData(spec=spec):
                self._make_data(spec or self._data_spec)
            case BuildModel(spec=spec):
                self._build_model(spec or self._model_spec)
            case SetTraining(spec=spec):
                self._set_training(spec)
            case Run(epochs=epochs):
                self._run(epochs)
            case Pause():
                self._pause()
            case SetPace(pace=pace):
                self._set_pace(pace)
            case Reset():
                self._reset()
            case Evaluate():
                self._evaluate()
            case Predict(x=x, source=source):
                return self._predict(x, source)
            case Save():
                self._save(command)
            case Inspect(path=path):
                return FileAnswer(file=load.inspect(self._path(path)))
            case Load(path=path):
                self._load(self._path(path))
            case _:
                raise AssertionError(f"{command} is not for the session")
        return None

    # steps 1 and 2

    def _make_data(self, spec: DataSpec) -> None:
        if self._dataset is not None and spec == self._data_spec:
            return
        self._refuse_while_running("data")
        dataset = data.make(spec)
        # the same number as without a UI: on larger data it changes the last bits of every sum
        devices.set_threads(len(dataset.X))
        view = data.view(dataset)
        model = build.build(self._model_spec) if self._model is not None else None
        update = Update(data_spec=spec, data=view)
        if model is not None:
            update = replace(update, model=build.view(model, self._model_spec, dataset, self._train_spec))
        self._data_spec, self._dataset = spec, dataset
        self._progress.done("data")
        if model is not None:
            self._model = model
        self._outdate("the data changed", update)

    def _build_model(self, spec: ModelSpec) -> None:
        if self._model is not None and spec == self._model_spec:
            return
        self._refuse_while_running("model")
        self._make_data(self._data_spec)
        assert self._dataset is not None
        model = build.build(spec)
        view = build.view(model, spec, self._dataset, self._train_spec)
        self._model_spec, self._model = spec, model
        self._progress.done("build")
        self._outdate("the model changed", Update(model_spec=spec, model=view))

    def _refuse_while_running(self, what: str) -> None:
        if self.running:
            raise WorkflowError(
                "Training is running", f"the {what} cannot change while the model is trained.", "Pause or reset first."
            )

    def _outdate(self, what: str, update: Update) -> None:
        """What was made from the data or the model before is stale; a run that has not begun is simply gone."""
        if self._runner is not None:
            if self._runner.view.epoch:
                self._progress.stale("train", what)
            else:
                self._runner = None
                update = replace(update, training=None, history=None)
        self._progress.outdate(RESULTS, what)
        self._reunite()
        self._show(update)

    def _reunite(self) -> None:
        """A run whose data and model are again what it was trained on is no longer stale."""
        runner = self._runner
        if runner is None or not self._stale:
            return
        if runner.dataset.spec == self._data_spec and self._runner_model == self._model_spec:
            self._dataset, self._model = runner.dataset, runner.trainer.model
            self._progress.reopen("train")
            if runner.view.state in ("finished", "diverged", "failed"):
                self._progress.done("train")

    # step 3

    def _set_training(self, spec: TrainSpec) -> None:
        update = Update(train_spec=spec)
        if self._dataset is not None and self._model is not None and spec.loss != self._train_spec.loss:
            fresh = build.build(self._model_spec)
            update = replace(update, model=build.view(fresh, self._model_spec, self._dataset, spec))
        self._train_spec = spec
        self._show(update)

    def _run(self, epochs: int | None) -> None:
        if epochs is not None and epochs < 1:
            raise WorkflowError("Not a number of epochs", f"{epochs} epochs cannot be run.", "Ask for 1 or more.")
        if not self.running:
            self._prepare_run()
        assert self._runner is not None
        self._runner.begin(epochs)
        self._show(Update(training=self._runner.view))

    def _prepare_run(self) -> None:
        """See to it that there is a run that can go on: the one there is, or a new one."""
        self._build_model(self._model_spec)
        runner = self._runner
        if runner is None or self._stale or runner.view.state == "failed":
            self._new_run()
            return
        view = runner.view
        wanted = replace(self._train_spec, epochs=view.spec.epochs)
        if view.state == "diverged" and self._train_spec == view.spec:
            raise WorkflowError(
                "This run has diverged",
                f"{view.reason}; further epochs would not mend it.",
                "Set a smaller learning rate and run again.",
            )
        if self._train_spec == view.spec and view.state == "finished":
            raise WorkflowError(
                "This run is finished",
                f"all {view.spec.epochs:,} epochs are done.",
                "Set more epochs to go on, or reset to train again from the start.",
            )
        more = wanted == view.spec and self._train_spec.epochs > view.epoch and view.state != "diverged"
        if not more:
            self._new_run()
        elif self._train_spec != view.spec:
            runner.extend(self._train_spec)
            self._progress.reopen("train")

    def _new_run(self) -> None:
        """Epoch 0, with the initial parameters and the settings as they are now.

        The run that was there stays untouched until the new one stands complete. Raises WorkflowError.
        """
        assert self._dataset is not None
        model = build.build(self._model_spec)  # by its seed the same initial parameters every time
        trainer = train.Trainer(model, self._dataset, self._train_spec)
        parameters = build.scalars(model)
        begun = self._runner is None or self._runner.view.state != "ready"
        view = TrainingView(
            run=self._runs + begun,
            spec=self._train_spec,
            device=str(trainer.device),
            state="ready",
            epoch=0,
            pace=self._pace,
            rate=0.0,
            elapsed=0.0,
            initial=parameters,
            parameters=parameters,
            line=build.line(model, self._dataset),
        )
        self._model, self._runs = model, view.run
        self._runner = Runner(trainer, self._dataset, view, self._publish_epochs)
        self._runner_model = self._model_spec
        self._progress.reopen("train")
        self._progress.outdate(RESULTS, "a new run was begun")
        self._show(Update(training=view, history=NO_EPOCHS))

    def _publish_epochs(self, epochs: Epochs) -> None:
        self._publish(epochs)
        self._progress.outdate(RESULTS, "the model was trained further")
        self._show(Update())

    def _pause(self) -> None:
        if self._runner is not None and self._runner.running:
            self._runner.pause()
            self._show(Update(training=self._runner.view))

    def _set_pace(self, pace: float | None) -> None:
        if pace is not None and not (math.isfinite(pace) and pace >= 1):
            raise WorkflowError("Not a pace", f"{pace:g} epochs a second is not a pace.", "Ask for 1 or more.")
        self._pace = pace
        if self._runner is not None:
            self._runner.set_pace(pace)
            self._show(Update(training=self._runner.view))

    def _reset(self) -> None:
        if self._runner is not None:
            self._progress.outdate(RESULTS, "the training was reset")
            self._new_run()

    # steps 4 to 6

    @property
    def _stale(self) -> bool:
        return self._progress["train"] == "stale"

    @property
    def _trained(self) -> int:
        """Epochs of training in the model as it is now."""
        return self._runner.view.epoch if self._runner is not None and not self._stale else 0

    def _current(self) -> tuple[torch.nn.Module, data.Dataset]:
        """The model as it is now and its data, made where missing. Raises WorkflowError where the run is stale."""
        if self._stale:
            raise WorkflowError(
                "The training is out of date",
                f"{self._progress.view().reasons['train']}.",
                "Run it again, or reset it to use the untrained model.",
            )
        self._build_model(self._model_spec)
        assert self._model is not None
        assert self._dataset is not None
        return self._model, self._dataset

    def _evaluate(self) -> None:
        model, dataset = self._current()
        view = EvaluationView(
            run=self._runs if self._trained else 0,
            epoch=self._trained,
            metrics=evaluate.evaluate(model, dataset),
            predictions=evaluate.predictions(model, dataset),
        )
        self._progress.done("evaluate")
        self._show(Update(evaluation=view))

    def _predict(self, x: tuple[float, ...], source: Source) -> Predictions:
        if not all(map(math.isfinite, x)):
            raise WorkflowError("Not a number to predict for", "x holds NaN or infinity.", "Give finite numbers.")
        if source == "trained":
            model, dataset = self._current()
            line: tuple[float, float] | None = (dataset.spec.weight, dataset.spec.bias)
        elif self._loaded is not None:
            # of a file that does not tell its data there is no truth: the data here may be quite another
            model, line = self._loaded.model, self._loaded.truth
        else:
            raise WorkflowError("Nothing is loaded", "no file has been loaded yet.", "Load one in step 6 first.")
        truth = tuple(line[0] * value + line[1] for value in x) if line is not None else None
        points = tuple(zip(x, build.predict(model, list(x)), strict=True))
        return Predictions(source=source, points=points, truth=truth)

    def _save(self, command: Save) -> None:
        runner = self._runner if self._trained or self._stale else None
        if runner is not None:
            # also of a stale run: its weights are worth what they were, and the file tells what they were trained on
            model, dataset, model_spec, spec = (
                runner.trainer.model,
                runner.dataset,
                self._runner_model,
                runner.view.spec,
            )
        else:
            model, dataset = self._current()
            model_spec, spec = self._model_spec, self._train_spec
        epoch = runner.view.epoch if runner is not None else 0
        path = save.save(
            self._path(command.path),
            command.kind,
            model,
            workflow=WorkflowSpec(data=dataset.spec, model=model_spec, train=spec),
            epoch=epoch,
            train_loss=runner.view.train_loss if runner is not None else None,
            val_loss=runner.view.val_loss if runner is not None else None,
            optimizer_state=runner.trainer.optimizer.state_dict() if runner is not None else None,
            dataset=dataset,
            overwrite=command.overwrite,
        )
        view = SavedView(run=runner.view.run if runner is not None else 0, epoch=epoch, file=load.inspect(path))
        self._progress.done("save")
        self._show(Update(saved=view))

    def _load(self, path: Path) -> None:
        loaded = load.load(path)
        # against an untrained model every good file would look wrong
        reference = self._model if self._trained else None
        proof = load.prove(loaded, reference, self._dataset)
        self._loaded = loaded
        self._progress.done("load")
        self._show(Update(loaded=LoadedView(file=loaded.file, before=loaded.before, after=loaded.after, proof=proof)))

    def _path(self, text: str) -> Path:
        """An absolute path; a relative one means the workspace's own folder, whoever asks from wherever."""
        if not text or "\0" in text:
            raise WorkflowError(
                "Not a file name", "the name of the file is empty or holds a NUL.", "Give another name."
            )
        try:
            return self._files / Path(text).expanduser()
        except RuntimeError as error:
            raise WorkflowError("Not a file name", f"{text}: {error}.") from error

    def _show(self, update: Update) -> None:
        """Publish what changed, and the steps where that changed them."""
        if self._progress.version != self._version:
            self._version = self._progress.version
            update = replace(update, steps=self._progress.view())
        if any(value is not msgspec.UNSET for value in msgspec.structs.astuple(update)):
            self._publish(update)
