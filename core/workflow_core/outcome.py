"""What a headless training has to report, gathered from data, model and trainer."""

from __future__ import annotations

import torch
from torch import nn

from workflow_core.report import Fit, Numbers, Result, Start
from workflow_core.sanitize import sanitize
from workflow_core.specs import WorkflowSpec
from workflow_core.steps import evaluate, formulas, linear
from workflow_core.steps.convergence import convergence
from workflow_core.steps.data import Dataset
from workflow_core.steps.tracked import Tracked
from workflow_core.steps.train import EpochRecord, Trainer

MAX_NUMBERS = 10_000
"""So many numbers a model may have for a report that lists them all."""
SHOWN_NAMES = 4


def start(spec: WorkflowSpec, dataset: Dataset, trainer: Trainer) -> Start:
    """What is known before the first epoch."""
    model = trainer.model
    return Start(
        spec=spec,
        device=str(trainer.device),
        torch=str(torch.__version__),
        rows={name: len(rows) for name, rows in dataset.indices.items()},
        source=_source(dataset),
        notes=dataset.notes,
        scaled=dataset.scaling is not None,
        model=type(model).__name__,
        count=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        tracked=Tracked(model).read(),
        parameters=parameters(model),
    )


def result(
    spec: WorkflowSpec,
    dataset: Dataset,
    trainer: Trainer,
    last: EpochRecord | None,
    elapsed: float,
    reason: str,
    path: str | None,
) -> Result:
    """How the training ended after `last`: metrics and coefficients are those of the model as it is now.

    `last` is None where not even the first epoch was completed.
    """
    model = trainer.model
    reference = linear.reference(spec.model, dataset, spec.train)
    learnt = linear.coefficients(model, spec.model, dataset.features, dataset.scaling)
    fit = None
    if learnt:
        said = convergence(model, spec.model, dataset, spec.train, reference)
        fit = Fit(formulas.coefficients(dataset.spec), learnt, reference.closed_form, said)
    return Result(
        last=last,
        elapsed=elapsed,
        reason=reason,
        best=trainer.best,
        parameters=parameters(model),
        metrics=evaluate.evaluate(model, dataset),
        fit=fit,
        stable_learning_rate=reference.stable_lr,
        path=path,
        batch=trainer.batch,
        batches=trainer.batches.count,
    )


def parameters(model: nn.Module) -> dict[str, Numbers] | None:
    """All parameters by name as the model holds them: a number, or nested lists; None where they are too many."""
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    if sum(tensor.numel() for tensor in tensors.values()) > MAX_NUMBERS:
        return None
    return {name: tensor.item() if tensor.numel() == 1 else tensor.tolist() for name, tensor in tensors.items()}


def _source(dataset: Dataset) -> str:
    """Where the data come from, in one line."""
    spec = dataset.spec
    if spec.made:
        return formulas.text(spec) + (f" (seed {spec.seed})" if spec.noise else "")
    names = [sanitize(name, 40) for name in dataset.features[:SHOWN_NAMES]]
    more = len(dataset.features) - len(names)
    features = ", ".join(names) + (f" and {more:,} more" if more else "")
    file = f"sample {spec.sample}" if spec.kind == "sample" else sanitize(spec.file.rpartition("/")[2], 80)
    return f"{sanitize(dataset.target, 40)} from {features} ({file})"
