"""The same workflow without a UI: `workflow-tui train` and `workflow-tui predict`.

Run as `python -m workflow_core.headless train|predict ...`. PyTorch is loaded only once the arguments are known to be
good, so that help and every refusal answer at once.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from workflow_core import atomic, remote_commands
from workflow_core.errors import WorkflowError
from workflow_core.options import Options, PredictOptions, TrainOptions, parse
from workflow_core.report import JsonReport, PlainReport, Result, prediction_line
from workflow_core.sanitize import sanitize
from workflow_core.saying import OutputError, complain, only_ours, output_failure, reason_of, say
from workflow_core.specs import Dtype, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.stopping import Stopping

if TYPE_CHECKING:
    from workflow_core.steps.data import Dataset
    from workflow_core.steps.train import EpochRecord, Trainer


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say and return the exit status.

    0 is done, 1 a failure (a diverged training too), 2 bad usage; 128 + N tells that signal N ended a training, whose
    figures up to then were reported and saved.
    """
    try:
        return _run(parse(argv))
    except SystemExit as stop:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            return output_failure(error)
        return stop.code if isinstance(stop.code, int) else 0
    except WorkflowError as error:
        complain(error.problem.line())
        return 1
    except KeyboardInterrupt:
        return 130
    except OutputError as stop:
        return output_failure(stop.error)
    except OSError as error:
        name = f"{sanitize(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        complain(f"The system refused what is needed here: {name}{reason_of(error)}.")
        return 1
    except (RuntimeError, MemoryError) as error:
        complain(_torch_failure(error))
        return 1


def _run(options: Options) -> int:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    # the project does without NumPy, and torch says so each time
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    if isinstance(options, TrainOptions) and options.print_spec:
        say(options.spec.to_toml().rstrip("\n"))
        return 0
    try:
        os.getcwd()
    except OSError as error:
        # torch's libraries look for it too, and print a fatal error of their own
        raise WorkflowError(
            "No current folder", "The current folder has been removed; go to one that exists and start again."
        ) from error
    if isinstance(options, TrainOptions) and options.save is not None:
        atomic.check(options.save, overwrite=options.overwrite)
    if options.spec is not None:
        _check_files(options.spec)
    if isinstance(options, TrainOptions) and options.detach:
        return remote_commands.detach(options)
    _load_torch()
    with only_ours():
        return _predict(options) if isinstance(options, PredictOptions) else _train(options)


def _load_torch() -> None:
    """Import torch. Raises WorkflowError where it is not there, or broken."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise WorkflowError(
            "No PyTorch", f"PyTorch cannot be loaded: {_first_line(error)}.", "Install it again, for example by pip."
        ) from error


def _check_files(spec: WorkflowSpec) -> None:
    """Raises WorkflowError where a file that the settings name is not there: to say so needs no torch."""
    used = [spec.data.file] if spec.data.kind == "table" else []
    used += [spec.model.file] if spec.model.kind == "custom" else []
    for file in used:
        if os.path.isdir(file):
            raise WorkflowError("No such file", f"{sanitize(file)} cannot be read: it is a folder.", "Name a file.")
        if not os.path.exists(file):
            raise WorkflowError("No such file", f"{sanitize(file)} cannot be read: there is no such file.")


def _predict(options: PredictOptions) -> int:
    import torch

    from workflow_core.steps import build, data, load
    from workflow_core.steps.tensors import dtype_of

    spec = options.spec
    model_spec = spec.model if spec else None
    if options.model is not None:
        file, class_name = options.model
        model_spec = replace(model_spec or ModelSpec(), kind="custom", file=file, class_name=class_name)
        model_spec = replace(model_spec, arguments={**model_spec.arguments, **options.arguments})
    try:
        loaded = load.load(options.file, model_spec, data.make(spec.data) if spec else None)
    except WorkflowError as error:
        if spec is not None or error.problem.title != "Another model":
            raise
        advice = (
            "Give the settings that it was trained with (--spec FILE.toml); a checkpoint (--kind checkpoint) has them."
        )
        raise WorkflowError("Another model", error.problem.message, advice) from error
    _check_rows(options.x, loaded.features)
    y_preds = build.predict(loaded.model, options.x, loaded.scaling)
    dtype: Dtype = "float64" if dtype_of(loaded.model) == torch.float64 else "float32"
    for x, y_pred in zip(options.x, y_preds, strict=True):
        say(prediction_line(x, y_pred, dtype, json=options.json))
    return 0


def _check_rows(rows: Sequence[Sequence[float]], features: Sequence[str]) -> None:
    for row in rows:
        if len(row) != len(features):
            text = ",".join(f"{number:g}" for number in row[:8]) + (",..." if len(row) > 8 else "")
            names = ", ".join(sanitize(name, 40) for name in features[:20]) + (", ..." if len(features) > 20 else "")
            raise WorkflowError(
                "Another number of features",
                f"{text} is {_count(len(row), 'number')}; the model predicts from {_count(len(features), 'feature')}: "
                f"{names}.",
                "Give all of them in this order, with commas between." if len(features) > 1 else "Give one number.",
            )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _train(options: TrainOptions) -> int:
    from workflow_core import devices, outcome
    from workflow_core.steps import build, custom, data
    from workflow_core.steps.train import Trainer

    spec = options.spec
    dataset = data.make(spec.data)
    # what is computed at a time are batches: on two threads those of 256 rows took 50 times as long beside other work
    devices.set_threads(spec.train.batch_size or len(dataset.X))
    model = build.build(spec.model, len(dataset.features), spec.data.dtype)
    trainer = Trainer(model, dataset, spec.train)

    report = JsonReport(options.every) if options.json else PlainReport(options.every)
    report.started(outcome.start(spec, dataset, trainer))
    # a model of the user's own may raise anything in the middle of a training
    with custom.explained(), Stopping() as stopping:
        start = time.perf_counter()
        last, held = _epochs(trainer, report, stopping)
        elapsed = time.perf_counter() - start
        if last is not None:
            report.last(last)
        reason = _reason(trainer)
        path, failure = (None, None) if trainer.first_bad is not None else _save(options, trainer, held, dataset)
    result = outcome.result(spec, dataset, trainer, last, elapsed, reason, path)
    report.finished(result)
    if failure is not None:
        raise failure
    if trainer.first_bad is not None:
        complain(_advice(options, result))
        return 1
    return stopping.exit_status


def _reason(trainer: Trainer) -> str:
    if trainer.first_bad is not None:
        return f"diverged at epoch {trainer.first_bad}"
    return trainer.ended or ("interrupted" if trainer.done < trainer.spec.epochs else "epochs")


def _advice(options: TrainOptions, result: Result) -> str:
    """What to say to a run that blew up."""
    train, stable = options.spec.train, result.stable_learning_rate
    unsaved = " Nothing was saved." if options.save else ""
    if (first := _bad_from_the_start(train, result)) is not None:
        what = "NaN" if math.isnan(first) else "infinite"
        scaled = "" if options.spec.data.standardize else "standardise the data (--standardize), or "
        return (
            f"The training {result.reason}.{unsaved} Its loss was {what} before the first step already, which no "
            f"learning rate mends: {scaled}look at the initial values (--init) and at what the model computes."
        )
    if stable is not None and stable < train.learning_rate:
        rate = f"Try a learning rate (--lr) below {stable:.4g}, the largest that is stable here"
    else:
        rate = "Try a smaller learning rate (--lr)"
    scaled = "" if options.spec.data.standardize else ", or standardise the data (--standardize)"
    return f"The training {result.reason}.{unsaved} {rate}{scaled}."


def _bad_from_the_start(train: TrainSpec, result: Result) -> float | None:
    """The first loss where it is no number: that of all rows at once is from before any step. Else None."""
    rows, last = result.metrics["train"], result.last
    whole = not train.batch_size or (rows is not None and train.batch_size >= rows.count)
    return last.train_loss if whole and last and last.epoch == 0 and not math.isfinite(last.train_loss) else None


def _epochs(trainer: Trainer, report: PlainReport, stopping: Stopping) -> tuple[EpochRecord | None, EpochRecord | None]:
    """Train, and return the last epoch, and that whose figures belong to the weights that the model holds at the end.

    There is none where a signal came in the first epoch, or in the middle of one.
    """
    from workflow_core.steps.train import EARLY_STOP, records

    best: EpochRecord | None = None
    last: EpochRecord | None = None
    for record in records(trainer, lambda: stopping.asked is not None):
        before, last = last, record
        report.epoch(record)
        if trainer.best is not None and trainer.best[0] == record.epoch:
            # a training loss is that of the weights from before its epoch
            best = record if trainer.validates else before
    if trainer.batch:
        return last, None
    return last, best if trainer.ended == EARLY_STOP else last


def _save(
    options: TrainOptions, trainer: Trainer, held: EpochRecord | None, dataset: Dataset
) -> tuple[str | None, WorkflowError | None]:
    """The file that was written, or why it was not: the figures must be reported all the same."""
    from workflow_core.steps.save import save

    if options.save is None:
        return None, None
    try:
        path = save(
            options.save,
            options.kind,
            trainer.model,
            workflow=options.spec,
            epoch=trainer.held_epochs,
            train_loss=held.train_loss if held else None,
            val_loss=held.val_loss if held else None,
            optimizer_state=trainer.optimizer_state(),
            batch=trainer.batch,
            batches=trainer.batches.count,
            dataset=dataset,
            overwrite=options.overwrite,
        )
    except WorkflowError as error:
        return None, error
    except (RuntimeError, MemoryError) as error:
        return None, WorkflowError("Not saved", _torch_failure(error))
    return str(path), None


def _torch_failure(error: RuntimeError | MemoryError) -> str:
    """What torch could not do, in one sentence: its own messages go on for lines, and advise its developers."""
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "There is not enough memory for this. Choose fewer rows (a larger --step), or another --device."
    return f"PyTorch failed: {_first_line(error)}."


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return sanitize(lines[0], 300).rstrip(". ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
