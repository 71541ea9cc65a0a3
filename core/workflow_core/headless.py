"""The same workflow without a UI: `workflow-tui train` and `workflow-tui predict`.

Run as `python -m workflow_core.headless train|predict ...`. PyTorch is loaded only once the arguments are known to be
good, so that help and every refusal answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.options import Options, PredictOptions, TrainOptions, parse
from workflow_core.report import JsonReport, OutputError, PlainReport, Result, prediction_line, say
from workflow_core.sanitize import sanitize
from workflow_core.stopping import Stopping

if TYPE_CHECKING:
    from workflow_core.steps.data import Dataset
    from workflow_core.steps.train import EpochRecord, Trainer

PIPE_CLOSED = 141
"""The exit status of a program that a closed pipe ends, as shells report it (128 + SIGPIPE)."""


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
            return _output_failure(error)
        return stop.code if isinstance(stop.code, int) else 0
    except WorkflowError as error:
        _complain(error.problem.line())
        return 1
    except KeyboardInterrupt:
        return 130
    except OutputError as stop:
        return _output_failure(stop.error)
    except OSError as error:
        name = f"{sanitize(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        _complain(f"The system refused what is needed here: {name}{_reason_of(error)}.")
        return 1
    except (RuntimeError, MemoryError) as error:
        _complain(_torch_failure(error))
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
    _load_torch()
    return _predict(options) if isinstance(options, PredictOptions) else _train(options)


def _load_torch() -> None:
    """Import torch. Raises WorkflowError where it is not there, or broken."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise WorkflowError(
            "No PyTorch", f"PyTorch cannot be loaded: {_first_line(error)}.", "Install it again, for example by pip."
        ) from error


def _predict(options: PredictOptions) -> int:
    from workflow_core.steps import build, load

    model = load.load(options.file).model
    for x, y_pred in zip(options.x, build.predict(model, options.x), strict=True):
        say(prediction_line(x, y_pred, json=options.json))
    return 0


def _train(options: TrainOptions) -> int:
    import torch

    from workflow_core import devices
    from workflow_core.steps import build, data, evaluate
    from workflow_core.steps.train import Trainer

    spec = options.spec
    dataset = data.make(spec.data)
    devices.set_threads(len(dataset.X))
    model = build.build(spec.model)
    initial = build.scalars(model)
    trainer = Trainer(model, dataset, spec.train)

    report = JsonReport(options.every) if options.json else PlainReport(options.every)
    rows = {name: len(part) for name, part in dataset.indices.items()}
    report.started(spec, str(trainer.device), str(torch.__version__), rows, initial)
    with Stopping() as stopping:
        start = time.perf_counter()
        last = _epochs(trainer, report, stopping)
        elapsed = time.perf_counter() - start
        report.last(last)
        reason = _reason(last, stopping)
        path, failure = _save(options, trainer, last, dataset) if last.finite else (None, None)
    report.finished(Result(last, elapsed, evaluate.evaluate(model, dataset), spec.data, path, reason))
    if failure is not None:
        raise failure
    if not last.finite:
        unsaved = " Nothing was saved." if options.save else ""
        _complain(f"The training diverged at epoch {last.epoch}.{unsaved} Try a smaller learning rate (--lr).")
        return 1
    return stopping.exit_status


def _epochs(trainer: Trainer, report: PlainReport, stopping: Stopping) -> EpochRecord:
    from workflow_core.steps.train import records

    for record in records(trainer):
        report.epoch(record)
        # on an accelerator the model is ahead of the record: go on until they meet again
        if stopping.asked and record.epoch + 1 == trainer.done:
            break
    return record


def _reason(last: EpochRecord, stopping: Stopping) -> str:
    if not last.finite:
        return f"diverged at epoch {last.epoch}"
    return "interrupted" if stopping.asked else "epochs"


def _save(
    options: TrainOptions, trainer: Trainer, last: EpochRecord, dataset: Dataset
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
            epoch=last.epoch + 1,
            train_loss=last.train_loss,
            val_loss=last.val_loss,
            optimizer_state=trainer.optimizer.state_dict(),
            dataset=dataset,
            overwrite=options.overwrite,
        )
    except WorkflowError as error:
        return None, error
    return str(path), None


def _output_failure(error: OSError) -> int:
    """Say what is wrong with standard output, but nothing to a reader that has seen enough; the exit status."""
    _silence_stdout()
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    _complain(f"The output cannot be written: {_reason_of(error)}.")
    return 1


def _torch_failure(error: RuntimeError | MemoryError) -> str:
    """What torch could not do, in one sentence: its own messages go on for lines, and advise its developers."""
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "There is not enough memory for this. Choose fewer rows (a larger --step), or another --device."
    return f"PyTorch failed: {_first_line(error)}."


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return sanitize(lines[0], 300).rstrip(". ")


def _reason_of(error: OSError) -> str:
    return (error.strerror or "the system refused").lower()


def _complain(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"workflow-tui: {message}", file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    """Let what is still buffered go nowhere: Python would complain about it on its way out."""
    with contextlib.suppress(OSError, ValueError, AttributeError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
