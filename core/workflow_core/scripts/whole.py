"""The six steps as one program that needs nothing of workflow-tui."""

from __future__ import annotations

from msgspec.structs import replace

from workflow_core.scripts.build import build, by_path
from workflow_core.scripts.data import deal, features, read, rows, splits
from workflow_core.scripts.evaluate import evaluate, tells_coefficients
from workflow_core.scripts.load import load
from workflow_core.scripts.save import save
from workflow_core.scripts.tables import uses_re
from workflow_core.scripts.train import LrChanges, may_be_cuda, train, validates
from workflow_core.specs import SaveKind, WorkflowSpec

REPORTS = 10  # epochs that the script prints while it trains, besides the last
ONE_THREAD_ROWS = 50_000  # up to so many rows at a time the steps train on one thread
FEW = 8  # so many parameters the step follows one by one

ONE_THREAD = "\ntorch.set_num_threads(1)  # the fastest for so few rows at a time\n"
DATA_ON_ONE_THREAD = """
threads = torch.get_num_threads()
torch.set_num_threads(1)  # sums depend on the number of threads; the data are not to
"""


def imports(spec: WorkflowSpec) -> str:
    """The import lines that the lines of the six steps need, the standard library's first."""
    table, model, training = spec.data.kind == "table", spec.model, spec.train
    needed = {
        "copy": training.early_stop > 0 or training.optimizer_over == "another",
        "math": True,
        "os": (training.deterministic and may_be_cuda(training))
        or (model.kind == "custom" and model.file.startswith("~")),
        "re": uses_re(spec.data),
        "runpy": by_path(model),
        "sys": model.kind == "custom",
    }
    text = "".join(f"import {name}\n" for name, wanted in needed.items() if wanted)
    if table:
        text += "from pathlib import Path\n\nimport polars as pl"
    return f"{text}\nimport torch\nfrom torch import nn\n"


def script(
    spec: WorkflowSpec,
    *,
    path: str = "model.pt",
    kind: SaveKind = "state_dict",
    lr_changes: LrChanges = (),
    table_rows: int | None = None,
) -> str:
    """The whole workflow as one program that gives the same numbers as the steps, bit for bit.

    `lr_changes` are learning rates that were set by hand while a run was under way, each with the epoch that used it
    first, as `TrainingView.lr_changes` has them: with them it follows that run. `table_rows` is how many rows the table
    gives, where that is known: a script that does not know it ends with an error where none of them is for validation.

    It needs only torch, for a table polars as well, and for a model of the user's own their file. It prints its
    progress and every final figure in full, saves the model to `path`, loads it into a fresh model and checks that both
    predict the same; a training that diverges ends it, as it ends the step. On another machine, device or version of
    torch the last digits may differ.
    """
    spec = _without_empty_split(spec, table_rows)
    few = (_at_a_time(spec) or ONE_THREAD_ROWS + 1) <= ONE_THREAD_ROWS
    parts = [
        '"""The PyTorch workflow, from data to a loaded model, in one script. Written by workflow-tui."""\n',
        imports(spec) + (ONE_THREAD if few else DATA_ON_ONE_THREAD),
        f"# 1. Data\n{read(spec.data)}\n{deal(spec.data)}{_threads(spec)}print({_counts(spec)})\n",
        "# 2. Build\n" + build(spec) + _show(spec, "initial parameters"),
        "# 3. Train\n" + train(spec, _report(spec), lr_changes) + "\n" + _show(spec, "trained parameters"),
        "# 4. Evaluate\n" + evaluate(spec) + _results(spec),
        "# 5. Save\n" + save(spec, path, kind),
        "# 6. Load\n" + load(spec, path, kind) + 'print("saved and loaded, predictions equal:", equal)\nassert equal\n',
    ]
    return "\n".join(parts)


def _without_empty_split(spec: WorkflowSpec, table_rows: int | None) -> WorkflowSpec:
    """The same splits, where that of the validation has a share of so few rows that it gets none, without a share."""
    split = spec.data.split
    if spec.data.kind != "table" or table_rows is None or split.counts(table_rows)[1]:
        return spec
    _, validation, test = split.shares()
    return replace(spec, data=replace(spec.data, split=replace(split, validation=0.0, test=float(validation + test))))


def _counts(spec: WorkflowSpec) -> str:
    """The rows of the three splits, as what a print of them is given."""
    text = "len(X[{}])" if spec.data.standardize else "len(X_{})"
    has = splits(spec.data)
    return ", ".join(['"rows:"', *(text.format(name) if name in has else "0" for name in ("train", "val", "test"))])


def _at_a_time(spec: WorkflowSpec) -> int | None:
    """How many rows are computed with at a time while training; None where only the table can tell."""
    return spec.train.batch_size or rows(spec.data)


def _threads(spec: WorkflowSpec) -> str:
    count = _at_a_time(spec)
    if count is None:
        return f"torch.set_num_threads(1 if len(X) <= {ONE_THREAD_ROWS:_} else threads)  # one is faster for few rows\n"
    return "" if count <= ONE_THREAD_ROWS else "torch.set_num_threads(threads)\n"


def _show(spec: WorkflowSpec, title: str) -> str:
    if spec.model.kind in ("mlp", "custom"):
        norms = "{name: p.norm().item() for name, p in model.named_parameters()}"
        return f'print("{title}, their norms:", {norms})\n'
    value = "p.item()" if spec.model.kind == "parameter" else "p.tolist()"
    return f'print("{title}:", {{name: {value} for name, p in model.named_parameters()}})\n'


def _report(spec: WorkflowSpec) -> str:
    """The end of an epoch: stop where figures are no longer finite, and print some of them."""
    epochs = spec.train.epochs
    losses, text = "train_loss", "train loss {train_loss:.4g}"
    if validates(spec):
        losses, text = "train_loss + val_loss", f"{text}  validation loss {{val_loss:.4g}}"
    # of a large model the step follows the norms, which overflow before the numbers themselves
    norm = ".norm()" if _large(spec) else ""
    return f"""
    finite = all(p{norm}.isfinite().all() for p in model.parameters())
    if not (finite and math.isfinite({losses})):
        raise SystemExit(f"epoch {{epoch}}: training diverged; a smaller learning rate may help")
    if epoch % {-(-epochs // REPORTS)} == 0 or epoch == {epochs - 1}:
        print(f"epoch {{epoch:>5}}  {text}")
"""


def _large(spec: WorkflowSpec) -> bool:
    """Has the model more parameters than the step follows one by one? The user's own is taken to be small."""
    model, count = spec.model, features(spec.data)
    if model.kind in ("parameter", "custom"):
        return False
    if model.kind == "mlp" and model.hidden:
        return True
    degree = model.degree if model.kind == "polynomial" else 1
    return count is None or degree * count + 1 > FEW


def _results(spec: WorkflowSpec) -> str:
    text = "for name, figures in results.items():\n    print(name, figures)\n"
    if tells_coefficients(spec):
        text += 'print("in the units of the data: intercept", intercept, "slopes", slopes.tolist())\n'
    return text
