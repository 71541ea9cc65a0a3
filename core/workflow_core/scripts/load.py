"""The lines of step 6: the file into a fresh model, and the proof that it predicts the same."""

from __future__ import annotations

from workflow_core.scripts.build import construct
from workflow_core.specs import SaveKind, WorkflowSpec


def load(spec: WorkflowSpec, path: str, kind: SaveKind) -> str:
    """The lines of the step."""
    key = "" if kind == "state_dict" else '["model_state_dict"]'
    return f"""\
loaded = torch.load({path!r}, map_location="cpu", weights_only=True)
fresh_model = {construct(spec.model, spec.data.dtype)}
fresh_model.load_state_dict(loaded{key})
fresh_model.to(device).eval()

model.eval()
with torch.inference_mode():
    equal = torch.equal(fresh_model(X_train), model(X_train))
"""
