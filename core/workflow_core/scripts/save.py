"""The lines of step 5: the weights alone, or a checkpoint with all that training and predicting need to go on."""

from __future__ import annotations

from workflow_core.scripts.data import columns
from workflow_core.scripts.train import validates
from workflow_core.specs import SaveKind, WorkflowSpec

SCALING = """\
    "scaling": {{
        "features": {features},
        "target": {target},
        "X_mean": X_mean.tolist(),
        "X_std": X_std.tolist(),
        "y_mean": y_mean.item(),
        "y_std": y_std.item(),
    }},
"""


def save(spec: WorkflowSpec, path: str, kind: SaveKind) -> str:
    """The lines of the step."""
    if kind == "state_dict":
        return f"torch.save(model.state_dict(), {path!r})\n"
    val_loss = "val_loss" if validates(spec) else "None"
    scaling = SCALING.format(**columns(spec.data)) if spec.data.standardize else ""
    return f"""\
checkpoint = {{
    "torch_version": str(torch.__version__),
    "epoch": epoch + 1,
    "train_loss": train_loss,
    "val_loss": {val_loss},
{scaling}    "model_state_dict": model.state_dict(),
    "optimizer_state_dict": optimizer.state_dict(),
}}
torch.save(checkpoint, {path!r})
"""
