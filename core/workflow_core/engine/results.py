"""Steps 4 to 6: what is done with a trained model, and with one that was loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from torch import nn

from workflow_core.engine.subject import Subject
from workflow_core.errors import WorkflowError
from workflow_core.protocol import EvaluationView, LoadedView, Predict, Predictions, Save, SavedView
from workflow_core.specs import WorkflowSpec
from workflow_core.steps import build, data, evaluate, linear, load, save
from workflow_core.steps.convergence import convergence


def evaluation(subject: Subject) -> EvaluationView:
    """The metrics on all splits, and for a model that is linear in its parameters how near it is to the closed form."""
    model, dataset, spec = subject.model, subject.dataset, subject.model_spec
    train_spec = subject.train_spec
    if subject.lr_changes:
        # a rate that was set by hand is the one in force
        train_spec = replace(train_spec, learning_rate=subject.lr_changes[-1][1])
    reference = linear.reference(spec, dataset, train_spec)
    return EvaluationView(
        run=subject.run,
        epoch=subject.epoch,
        metrics=evaluate.evaluate(model, dataset),
        predictions=evaluate.predictions(model, dataset),
        coefficients=linear.coefficients(model, spec, dataset.features, dataset.scaling),
        reference=reference,
        convergence=convergence(model, spec, dataset, train_spec, reference),
        batch=subject.batch,
        batches=subject.batches,
    )


def saved(subject: Subject, command: Save, path: Path) -> SavedView:
    """Write the model to `path` and read it back. Raises WorkflowError."""
    real = save.save(
        path,
        command.kind,
        subject.model,
        workflow=WorkflowSpec(data=subject.dataset.spec, model=subject.model_spec, train=subject.train_spec),
        epoch=subject.epoch,
        train_loss=subject.train_loss,
        val_loss=subject.val_loss,
        optimizer_state=subject.optimizer_state,
        dataset=subject.dataset,
        overwrite=command.overwrite,
        lr_changes=subject.lr_changes,
        batch=subject.batch,
        batches=subject.batches,
    )
    file = load.inspect(real)
    return SavedView(run=subject.run, epoch=subject.epoch, file=file, batch=subject.batch, batches=subject.batches)


def loaded(file: load.Loaded, reference: nn.Module | None, dataset: data.Dataset | None) -> LoadedView:
    """What was loaded, compared with `reference` over all of `dataset` where there are both."""
    return LoadedView(
        file=file.file,
        before=file.before,
        after=file.after,
        proof=load.prove(file, reference, dataset),
        features=file.features,
        target=file.target,
    )


def predict_with(subject: Subject, command: Predict) -> Predictions:
    """y_pred of the model as it is now. Raises WorkflowError for what are no features of its."""
    dataset = subject.dataset
    _check(command.x, dataset.features)
    y_pred = build.predict(subject.model, command.x, dataset.scaling)
    return _answer(command, y_pred, data.truth(dataset.spec, command.x))


def predict_loaded(file: load.Loaded, command: Predict) -> Predictions:
    """y_pred of the model that was loaded; the truth of data that are known from the file, not of those made here."""
    _check(command.x, file.features)
    y_pred = build.predict(file.model, command.x, file.scaling)
    return _answer(command, y_pred, data.truth(file.workflow.data, command.x) if file.workflow else None)


def _answer(command: Predict, y_pred: Sequence[float], truth: Sequence[float] | None) -> Predictions:
    return Predictions(
        source=command.source,
        points=tuple(zip(command.x, y_pred, strict=True)),
        truth=tuple(truth) if truth is not None else None,
    )


def _check(rows: Sequence[Sequence[float]], features: Sequence[str]) -> None:
    if not all(math.isfinite(value) for row in rows for value in row):
        raise WorkflowError("Not a number to predict for", "x holds NaN or infinity.", "Give finite numbers.")
    for row in rows:
        if len(row) != len(features):
            names = ", ".join(features[:10]) + (" ..." if len(features) > 10 else "")
            raise WorkflowError(
                "Not these features",
                f"{len(row)} number{'s' * (len(row) != 1)} cannot stand for {len(features)} "
                f"feature{'s' * (len(features) != 1)} ({names}).",
                "Give a number for each, in this order.",
            )
