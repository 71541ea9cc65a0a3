"""Writes the plain PyTorch lines that do what a spec says, so that what a learner reads here is what runs here.

Nothing in it needs torch. Every value of a user's is written with `repr`, so that no text can break out of its string;
comments hold none.
"""

from __future__ import annotations

from workflow_core.protocol import StepName
from workflow_core.scripts.build import MODEL_CLASS, build, model_class
from workflow_core.scripts.data import deal, read
from workflow_core.scripts.evaluate import evaluate
from workflow_core.scripts.load import load
from workflow_core.scripts.save import save
from workflow_core.scripts.train import loop, train
from workflow_core.scripts.whole import imports, script
from workflow_core.specs import SaveKind, WorkflowSpec

__all__ = ["MODEL_CLASS", "imports", "lines", "loop", "model_class", "script"]


def lines(step: StepName, spec: WorkflowSpec, *, path: str = "model.pt", kind: SaveKind = "state_dict") -> str:
    """The lines of PyTorch that `step` runs with these settings; they go on from those of the steps before it.

    `path` and `kind` matter to save and load alone. The text ends with a newline and is valid for any spec; what it
    imports is what `imports` says. Printing is left to `script`.
    """
    match step:
        case "data":
            return read(spec.data) + "\n" + deal(spec.data)
        case "build":
            return build(spec)
        case "train":
            return train(spec)
        case "evaluate":
            return evaluate(spec)
        case "save":
            return save(spec, path, kind)
        case "load":
            return load(spec, path, kind)
