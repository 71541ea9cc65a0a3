"""What torch raises when a machine gives out, as a person can read it: its own texts are for the log alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch

from workflow_core.errors import WorkflowError
from workflow_core.steps.custom import explained

FAULTS = (RuntimeError, MemoryError)
"""What torch raises for a device that fails or is full; torch.OutOfMemoryError is a RuntimeError."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def mended(what: str) -> Iterator[None]:
    """Raises a WorkflowError for what goes wrong within it and a person can mend; `what` is for the log."""
    try:
        with explained():
            yield
    except FAULTS as error:
        log.exception("%s failed", what)
        raise problem_of(error) from error


def explain(error: BaseException) -> str:
    """One clause that says what kind of failure `error` is, without a word of its own text."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error)[:1000]:
        return "the device has too little free memory for it"
    if isinstance(error, RuntimeError):
        return "PyTorch could not carry out an operation"
    return f"an unexpected {type(error).__name__}"


def problem_of(error: BaseException) -> WorkflowError:
    """The error to raise instead of one of FAULTS."""
    advice = "Choose another device or less data; the engine's log has the whole story."
    return WorkflowError("PyTorch failed", f"this could not be done: {explain(error)}.", advice)
