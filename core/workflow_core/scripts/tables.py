"""The lines that read the user's own table with polars and make X and y of the columns chosen.

They give the steps' numbers for the tables that the steps take, where these are UTF-8 and called what they are: the
steps tell Parquet by its content, the lines by the name. What the steps refuse ends the lines with an error.
"""

from __future__ import annotations

from pathlib import PurePath

from workflow_core.scripts.text import listed
from workflow_core.specs import DataSpec

TEXT = """\
text = {path}.read_text(encoding="utf-8-sig").strip("\\n")
unquoted = "".join(text.split('"')[::2])
separator = max(",;\\t|", key=unquoted.partition("\\n")[0].count)
table = pl.read_csv(text.encode(), separator=separator, {header}infer_schema=False){rename}
table = table.select(pl.all().str.strip_chars()).filter(pl.any_horizontal(pl.all() != ""))
numbers = table.cast(pl.Float64, strict=False).fill_nan(None)
"""
PARQUET = """\
table = pl.read_parquet({path}.read_bytes())
"""

NUMBERS_IN_TEXT = """\
missing = table.select(pl.all().is_null() | pl.all().str.to_lowercase().is_in(MISSING))
features = [
    name
    for name in table.columns
    if name != target and numbers[name].null_count() == missing[name].sum() < len(table)
]
for name in table.columns:
    held, cells = numbers[name].count(), len(table) - missing[name].sum()
    assert name in [*features, target] or held == 0 or 2 * held < cells, f"numbers and text: {name}"
"""
NUMBERS_IN_PARQUET = """\
numeric = pl.selectors.numeric() | pl.selectors.boolean() | pl.selectors.by_name(target)
numbers = table.select(numeric).cast(pl.Float64).fill_nan(None)
features = [
    name for name in numbers.columns if name != target and numbers[name].null_count() < len(numbers)
]
"""

MISSING = (
    *("", "na", "n/a", "nan", "null", "none", "<na>", "#na", "#n/a", "#n/a n/a"),
    *("+nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
"""What a cell without a value holds, in small letters: what `steps.tables` takes as missing."""


def is_parquet(spec: DataSpec) -> bool:
    """Is the table a Parquet file by its name?"""
    return PurePath(spec.file).suffix.lower() in (".parquet", ".pq")


def table(spec: DataSpec) -> str:
    """The lines up to X and y, in the spec's dtype, or in float64 where that is what is computed with first."""
    text = _read(spec) + _target(spec)
    if spec.features:
        text = listed("features", "[", map(repr, spec.features), "]") + text
    elif is_parquet(spec):
        text += NUMBERS_IN_PARQUET
    else:
        text += listed("MISSING", "[", map(repr, MISSING), "]") + NUMBERS_IN_TEXT
    if is_parquet(spec) and spec.features:
        text += "numbers = table.select(*features, target).cast(pl.Float64).fill_nan(None)\n"
    else:
        text += "numbers = numbers.select(*features, target)\n"
    if spec.missing == "drop":
        text += "numbers = numbers.drop_nulls()\n"
    elif spec.missing == "impute":
        text += "numbers = numbers.drop_nulls(target).fill_null(math.nan)  # a target is never imputed\n"
    wide = spec.dtype == "float64" or spec.standardize or spec.missing == "impute"
    dtype = ", dtype=torch.float64" if wide else ""
    return f"{text}values = torch.tensor(numbers.rows(){dtype})\nX, y = values[:, :-1], values[:, -1:]\n"


def _read(spec: DataSpec) -> str:
    path = f"Path({spec.file!r})" + (".expanduser()" if spec.file.startswith("~") else "")
    if is_parquet(spec):
        return PARQUET.format(path=path)
    header, rename = ("", ".rename(str.strip)") if spec.header else ("has_header=False, ", "")
    return TEXT.format(path=path, header=header, rename=rename)


def _target(spec: DataSpec) -> str:
    if spec.target:
        return f"target = {spec.target!r}\n"
    if spec.features:
        return "target = [name for name in table.columns if name not in features][-1]\n"
    return "target = table.columns[-1]\n"
