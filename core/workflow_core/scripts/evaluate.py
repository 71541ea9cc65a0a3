"""The lines of step 4: the metrics of every split and what a linear model has learnt, both in the data's own units."""

from __future__ import annotations

from workflow_core.scripts.data import splits
from workflow_core.specs import SPLITS, DataSpec, WorkflowSpec

METRICS = """\
def metrics(X, y):
    model.eval()
    with torch.inference_mode():
        y_pred = model(X.to(device)).cpu(){widened}
    y = y.cpu().double()
    error = y_pred{double} - y
    mse = error.square().mean().item()
    centered = y - y.mean()
    unit = centered.abs().max()  # the squares of very large and very small numbers leave float64
    rest = (error / unit).square().sum() / (centered / unit).square().sum()
    return {{
        "mse": mse,
        "mae": error.abs().mean().item(),
        "rmse": math.sqrt(mse),
        "r2": 1 - rest.item() if y.min() < y.max() else None,
    }}
"""

LINE = """
shift, factor = -X_mean / X_std, 1 / X_std  # the model sees shift + factor * x
weights = model.{weight}.detach().cpu().double().flatten()
slopes = weights * factor * y_std
constants = weights * shift
"""
POLYNOMIAL = """
shift, factor = -X_mean / X_std, 1 / X_std  # the model sees the powers of shift + factor * x
weights = model.linear.weight.detach().cpu().double().reshape({degree}, -1)
terms = torch.zeros({terms}, len(shift), dtype=torch.float64)
for power in range(1, {terms}):
    for lower in range(power + 1):
        ways = math.comb(power, lower)
        terms[lower] += weights[power - 1] * ways * shift ** (power - lower) * factor**lower
slopes, constants = terms[1:] * y_std, terms[0]
"""
INTERCEPT = """\
intercept = math.fsum([y_mean, y_std * model.{bias}.item(), *(y_std * constants)])
"""


def evaluate(spec: WorkflowSpec) -> str:
    """The lines of the step."""
    data = spec.data
    widened = ".double() * y_std + y_mean" if data.standardize else ""
    text = METRICS.format(widened=widened, double="" if data.standardize else ".double()")
    counted = (f'    "{name}": {_call(data, short)},\n' for name, short in _named(data))
    return f"{text}\nresults = {{\n{''.join(counted)}}}\n" + _coefficients(spec)


def tells_coefficients(spec: WorkflowSpec) -> bool:
    """Do the lines work out `intercept` and `slopes`? Without standardising they are the model's own parameters."""
    return spec.data.standardize and spec.model.kind in ("parameter", "linear", "polynomial")


def _named(data: DataSpec) -> list[tuple[str, str]]:
    pairs = zip(SPLITS, ("train", "val", "test"), strict=True)
    return [(name, short) for name, short in pairs if short in splits(data)]


def _call(data: DataSpec, name: str) -> str:
    if not data.standardize:
        return f"metrics(X_{name}, y_{name})"
    return f"metrics(standardize(X[{name}], y[{name}])[0], y[{name}])"


def _coefficients(spec: WorkflowSpec) -> str:
    """What a model that is linear in its parameters says in the data's own units."""
    if not tells_coefficients(spec):
        return ""
    layer = "" if spec.model.kind == "parameter" else "linear."
    if spec.model.kind == "polynomial" and spec.model.degree > 1:
        text = POLYNOMIAL.format(degree=spec.model.degree, terms=spec.model.degree + 1)
    else:
        text = LINE.format(weight=f"{layer}weight")
    return text + INTERCEPT.format(bias=f"{layer}bias")
