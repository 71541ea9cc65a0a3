"""The lines that read the user's own table with polars and make X and y of the columns chosen.

They give the steps' numbers for the tables that the steps take, where these are called what they are: the steps tell
Parquet by its content, the lines by the name. What the steps refuse ends the lines with an error, but for what is only
too much or has too long a name.
"""

from __future__ import annotations

from pathlib import PurePath

from workflow_core.cells import DATES, FORMATTED, LENGTH, MISSING, SIGNS
from workflow_core.scripts.text import filled, listed
from workflow_core.specs import DataSpec

TEXT = """\
data = {path}.read_bytes()
if data.startswith((b"\\xff\\xfe", b"\\xfe\\xff")):
    data = data.decode("utf-16").encode()
data = data.removeprefix(b"\\xef\\xbb\\xbf")
assert b"\\0" not in data and not re.search(rb"[\\x01-\\x08\\x0e-\\x1f]", data[:65_536]), "not a text"
try:
    text = data.decode()
except UnicodeDecodeError:
    text = data.decode("cp1252", "replace")
text = (text if "\\n" in text else text.replace("\\r", "\\n")).lstrip("\\r\\n")

rows = re.sub('"[^"]*"', "", text[:65_536]).splitlines()
rows = [row for row in rows if row.strip(" ")][:100]  # without what is quoted: to find the separator
separator = max("\\t;|,", key=lambda sign: sum(row.count(sign) == rows[0].count(sign) > 0 for row in rows))
table = pl.read_csv(text.encode(), separator=separator, has_header=False, infer_schema=False)
{names}table = table.select(pl.all().str.strip_chars()).filter(pl.any_horizontal(pl.all() != ""))
"""
NAMES = """\
table.columns = [(name or "").strip() or f"column_{n}" for n, name in enumerate(table.row(0), 1)]
table = table[1:]
"""
PARQUET = """\
table = pl.read_parquet({path}.read_bytes())
"""
PLAIN = """\
plain = pl.selectors.numeric() | pl.selectors.boolean() | pl.selectors.by_dtype(pl.Null, pl.String)
table = table.select(plain).with_columns(pl.selectors.string().str.strip_chars())
"""

WORDS = """\
numbers = table.select(pl.all().cast(pl.Float64, strict=False).fill_nan(None))

def column(table, name):
    return table[name].alias("column")  # polars would take a name like ^a$ for a pattern

def words(name):  # the cells that are neither numbers nor missing
    cells = column(table, name).filter(column(numbers, name).is_null()).cast(pl.String).drop_nulls()
    return cells.filter(~cells.str.to_lowercase().is_in(MISSING))

"""
PATTERNS = "".join(
    f"{name} = [\n{filled(f'r{chr(34)}{each}{chr(34)}' for each in patterns)}\n]\n"
    for name, patterns in (("DATES", DATES), ("FORMATTED", FORMATTED))
)
WANTED = f"""\
{PATTERNS}
def is_formatted(cell):
    cell = cell[:{LENGTH}]
    number = any(re.fullmatch(pattern, cell.strip({SIGNS!r})) for pattern in FORMATTED)
    return number and not any(re.fullmatch(pattern, cell) for pattern in DATES)

def is_feature(name):  # a column of texts is none; one with some, or of numbers like 1,234, is to be mended
    if len(words(name)) > column(numbers, name).count():
        return all(map(is_formatted, words(name).head({LENGTH})))
    return column(numbers, name).count() > 0

features = [name for name in table.columns if name != target and is_feature(name)]
assert features, "no columns of numbers"
"""
CHECKED = """\
for name in [*features, target]:
    values = column(numbers, name)
    assert words(name).is_empty() and values.count() > 0, f"not numbers throughout: {{name!r}}"
    assert values.abs().max() <= torch.finfo(torch.{dtype}).max, f"too large: {{name!r}}"
numbers = numbers[[*features, target]]
"""


def is_parquet(spec: DataSpec) -> bool:
    """Is the table a Parquet file by its name?"""
    return PurePath(spec.file).suffix.lower() in (".parquet", ".pq")


def uses_re(spec: DataSpec) -> bool:
    """Do the lines need the module `re`?"""
    return spec.kind == "table" and not (is_parquet(spec) and spec.features)


def table(spec: DataSpec) -> str:
    """The lines up to X and y, in the spec's dtype, or in float64 where that is what is computed with first."""
    text = listed("features", "[", map(repr, spec.features), "]") if spec.features else ""
    text += _read(spec) + _target(spec)
    text += PLAIN if is_parquet(spec) else ""
    text += listed("MISSING", "[", map(repr, ("", *MISSING)), "]") + WORDS
    text += "" if spec.features else WANTED
    text += CHECKED.format(dtype=spec.dtype)
    if spec.missing == "drop":
        text += "numbers = numbers.drop_nulls()\n"
    elif spec.missing == "impute":
        text += "numbers = numbers.filter(column(numbers, target).is_not_null()).select(pl.all().fill_null(math.nan))\n"
    wide = spec.dtype == "float64" or spec.standardize or spec.missing == "impute"
    dtype = ", dtype=torch.float64" if wide else ""
    return f"{text}values = torch.tensor(numbers.rows(){dtype})\nX, y = values[:, :-1], values[:, -1:]\n"


def _read(spec: DataSpec) -> str:
    path = f"Path({spec.file!r})" + (".expanduser()" if spec.file.startswith("~") else "")
    if is_parquet(spec):
        return PARQUET.format(path=path)
    return TEXT.format(path=path, names=NAMES if spec.header else "")


def _target(spec: DataSpec) -> str:
    if spec.target:
        return f"target = {spec.target!r}\n"
    if spec.features:
        return "target = [name for name in table.columns if name not in features][-1]\n"
    return "target = table.columns[-1]\n"
