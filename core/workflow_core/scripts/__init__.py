"""Writes the plain PyTorch lines that do what a spec says, so that what a learner reads here is what runs here.

Nothing in it needs torch. Every value of a user's is written with `repr`, so that no text can break out of its string.
"""

from __future__ import annotations

from workflow_core.protocol import StepName
from workflow_core.specs import SPLITS, DataSpec, Loss, Optimizer, SaveKind, WorkflowSpec

CRITERIA: dict[Loss, str] = {"mse": "MSELoss", "l1": "L1Loss", "huber": "HuberLoss", "smooth_l1": "SmoothL1Loss"}
OPTIMIZERS: dict[Optimizer, str] = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
}
REPORTS = 10  # epochs that the script prints while it trains, besides the last

ONE_THREAD_ROWS = 50_000  # up to so many rows the steps use one thread
ONE_THREAD = """
torch.set_num_threads(1)  # the fastest for so few rows
"""

MODEL_CLASS = """\
class LinearRegressionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x):
        return self.weight * x + self.bias
"""

BEST_DEVICE = """\
device = (
    "cuda" if torch.cuda.is_available()
    else "mps" if torch.backends.mps.is_available()
    else "cpu"
)
"""

METRICS = """\
def metrics(X, y):
    model.eval()
    with torch.inference_mode():
        y_pred = model(X.to(device)).cpu()
    y = y.cpu().double()
    error = y_pred.double() - y
    mse = error.square().mean().item()
    spread = (y - y.mean()).square().sum().item()
    return {
        "mse": mse,
        "mae": error.abs().mean().item(),
        "rmse": math.sqrt(mse),
        "r2": 1 - error.square().sum().item() / spread if y.min() < y.max() else None,
    }
"""


def lines(step: StepName, spec: WorkflowSpec, *, path: str = "model.pt", kind: SaveKind = "state_dict") -> str:
    """The lines of PyTorch that `step` runs with these settings; they go on from those of the steps before it.

    `path` and `kind` matter to save and load alone. The text ends with a newline; it needs `import math`,
    `import torch` and `from torch import nn`. Printing is left to `script`.
    """
    match step:
        case "data":
            return _data(spec.data)
        case "build":
            return _build(spec)
        case "train":
            return _train(spec)
        case "evaluate":
            return _evaluate(spec.data)
        case "save":
            return _save(spec, path, kind)
        case "load":
            return _load(path, kind)


def script(spec: WorkflowSpec, *, path: str = "model.pt", kind: SaveKind = "state_dict") -> str:
    """The whole workflow as one program that needs only torch and gives the same numbers as the steps, bit for bit.

    It prints its progress and every final figure in full, saves the model to `path`, loads it into a fresh model and
    checks that both predict the same; a training that diverges ends it, as it ends the step. On another machine,
    device or version of torch the last digits may differ.
    """
    parts = [
        '"""The PyTorch workflow, from data to a loaded model, in one script. Written by workflow-tui."""\n',
        "import math\n\nimport torch\nfrom torch import nn\n"
        + (ONE_THREAD if spec.data.rows <= ONE_THREAD_ROWS else ""),
        "# 1. Data\n" + _data(spec.data) + 'print("rows:", len(X_train), len(X_val), len(X_test))\n',
        "# 2. Build\n" + _build(spec) + _show("initial parameters"),
        "# 3. Train\n" + _train(spec) + _report(spec) + "\n" + _show("trained parameters"),
        "# 4. Evaluate\n" + _evaluate(spec.data) + "for name, figures in results.items():\n    print(name, figures)\n",
        "# 5. Save\n" + _save(spec, path, kind),
        "# 6. Load\n" + _load(path, kind) + 'print("saved and loaded, predictions equal:", equal)\nassert equal\n',
    ]
    return "\n".join(parts)


def _show(title: str) -> str:
    return f'print("{title}:", {{name: p.item() for name, p in model.named_parameters()}})\n'


def _report(spec: WorkflowSpec) -> str:
    """The end of the loop's body: stop where figures are no longer finite, and print some epochs."""
    epochs = spec.train.epochs
    losses, text = "loss", "train loss {loss.item():.4g}"
    if _validates(spec.data):
        losses, text = "loss, val_loss", text + "  validation loss {val_loss.item():.4g}"
    return f"""
    if not all(figure.isfinite().all() for figure in ({losses}, *model.parameters())):
        raise SystemExit(f"epoch {{epoch}}: training diverged; a smaller learning rate may help")
    if epoch % {-(-epochs // REPORTS)} == 0 or epoch == {epochs - 1}:
        print(f"epoch {{epoch:>5}}  {text}")
"""


def _validates(spec: DataSpec) -> bool:
    return spec.split.counts(spec.rows)[1] > 0


def _number(value: float) -> str:
    # a whole number typed for a float would make torch.arange give integers
    return repr(float(value))


def _data(spec: DataSpec) -> str:
    train, validation, _ = spec.split.counts(spec.rows)
    first, second = train, train + validation
    text = [
        f"weight, bias = {_number(spec.weight)}, {_number(spec.bias)}",
        f"X = torch.arange({_number(spec.start)}, {_number(spec.stop)}, {_number(spec.step)}).unsqueeze(1)",
        "y = weight * X + bias",
    ]
    if spec.noise:
        text += [
            f"torch.manual_seed({spec.seed})",
            f"y = y + {_number(spec.noise)} * torch.randn(len(X), 1)",
        ]
    if spec.split.order == "shuffled":
        text += [
            "",
            f"torch.manual_seed({spec.split.seed})",
            "order = torch.randperm(len(X))",
            "X, y = X[order], y[order]",
        ]
    text += [
        "",
        f"X_train, y_train = X[:{first}], y[:{first}]",
        f"X_val, y_val = X[{first}:{second}], y[{first}:{second}]",
        f"X_test, y_test = X[{second}:], y[{second}:]",
    ]
    return "\n".join(text) + "\n"


def _build(spec: WorkflowSpec) -> str:
    init = spec.model.init
    text = MODEL_CLASS + f"\ntorch.manual_seed({init.seed})\nmodel = LinearRegressionModel()\n"
    if init.values:
        text += "with torch.no_grad():\n"
        text += "".join(f"    model.{name}.fill_({_number(value)})\n" for name, value in init.values.items())
    return text


def _train(spec: WorkflowSpec) -> str:
    train = spec.train
    validation = _validates(spec.data)
    text = BEST_DEVICE if train.device == "auto" else f"device = {train.device!r}\n"
    text += "model.to(device)\nX_train, y_train = X_train.to(device), y_train.to(device)\n"
    if validation:
        text += "X_val, y_val = X_val.to(device), y_val.to(device)\n"
    text += f"""
criterion = nn.{CRITERIA[train.loss]}()
optimizer = torch.optim.{OPTIMIZERS[train.optimizer]}(model.parameters(), lr={_number(train.learning_rate)})

for epoch in range({train.epochs}):
    model.train()
    y_pred = model(X_train)
    loss = criterion(y_pred, y_train)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    if validation:
        text += """
    model.eval()
    with torch.inference_mode():
        val_loss = criterion(model(X_val), y_val)
"""
    return text


def _evaluate(spec: DataSpec) -> str:
    counts = spec.split.counts(spec.rows)
    rows = "".join(
        f'    "{name}": metrics(X_{short}, y_{short}),\n'
        for name, short, count in zip(SPLITS, ("train", "val", "test"), counts, strict=True)
        if count
    )
    return f"{METRICS}\nresults = {{\n{rows}}}\n"


def _save(spec: WorkflowSpec, path: str, kind: SaveKind) -> str:
    if kind == "state_dict":
        return f"torch.save(model.state_dict(), {path!r})\n"
    val_loss = "val_loss.item()" if _validates(spec.data) else "None"
    return f"""\
checkpoint = {{
    "torch_version": str(torch.__version__),
    "epoch": {spec.train.epochs},
    "train_loss": loss.item(),
    "val_loss": {val_loss},
    "model_state_dict": model.state_dict(),
    "optimizer_state_dict": optimizer.state_dict(),
}}
torch.save(checkpoint, {path!r})
"""


def _load(path: str, kind: SaveKind) -> str:
    key = "" if kind == "state_dict" else '["model_state_dict"]'
    return f"""\
loaded = torch.load({path!r}, map_location="cpu", weights_only=True)
fresh_model = LinearRegressionModel()
fresh_model.load_state_dict(loaded{key})
fresh_model.to(device).eval()

with torch.inference_mode():
    equal = torch.equal(fresh_model(X.to(device)), model(X.to(device)))
"""
