"""What the steps make of a table its script makes too, bit for bit, whatever it holds; what they refuse it refuses."""

from __future__ import annotations

import csv
import io
import math
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from workflow_core.errors import WorkflowError
from workflow_core.scripts import imports, lines, script
from workflow_core.specs import DTYPES, MISSING, DataSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import train

ALONE = SplitSpec(train=1.0, validation=0.0, test=0.0)
SPLITS = (ALONE, SplitSpec(train=0.5, validation=0.5, test=0.0), SplitSpec(order="shuffled", seed=3))
OF_A_TABLE = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

Found = dict[str, Any]


def by_the_steps(spec: DataSpec) -> Found | str:
    """What the model is to see, bit for bit; or why there is nothing for it."""
    try:
        dataset = data.make(spec)
    except WorkflowError as error:
        return str(error)
    found: Found = {"features": list(dataset.features), "target": dataset.target}
    for name in ("train", "validation", "test"):
        found[name] = [bits(part) for part in dataset.inputs(name)]
    return found


def by_the_script(spec: DataSpec) -> Found | str:
    workflow = WorkflowSpec(data=spec)
    ran: dict[str, Any] = {}
    try:
        exec(compile(imports(workflow) + lines("data", workflow), "script.py", "exec"), ran)
    except (Exception, pl.exceptions.PanicException) as error:
        return f"{type(error).__name__}: {error}"
    found: Found = {"features": ran["features"], "target": ran["target"]}
    for name, rows in (("train", "train"), ("validation", "val"), ("test", "test")):
        if spec.standardize:
            parts = ran["standardize"](ran["X"][ran[rows]], ran["y"][ran[rows]])
        else:
            parts = [ran["X"][ran[rows]], ran["y"][ran[rows]]]
            assert f"X_{rows}" not in ran or torch.equal(ran[f"X_{rows}"], parts[0])
        found[name] = [bits(part) for part in parts]
    return found


def bits(part: torch.Tensor) -> tuple[str, list[int], list[int]]:
    return str(part.dtype), list(part.shape), part.detach().contiguous().view(torch.uint8).flatten().tolist()


def check(spec: DataSpec) -> bool:
    """Both give the same: data (True), or an error."""
    wanted, found = by_the_steps(spec), by_the_script(spec)
    if isinstance(wanted, str):
        assert isinstance(found, str), f"refused by the steps ({wanted}), taken by the script: {found}"
        return False
    if spec.split.validation and not wanted["validation"][0][2]:
        assert isinstance(found, str)
        assert "too few rows for these shares" in found
        return False
    assert found == wanted
    return True


# whatever people have in their tables

NAMES = st.sampled_from(
    ["a", "b", "y", "body mass index", " padded ", "", "*", "^.*$", "^a$", "column_2", "it's", '"', "\\", "a\nb", "x;y"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
HOSTILE = st.sampled_from(["'); raise SystemExit #", '"""', "{name!r}", "\\'", "__import__('os')", "a, b"])
FLOATS = st.floats(-1e6, 1e6).map(repr) | st.integers(-50, 50).map(str)
CELLS: dict[str, st.SearchStrategy[str]] = {
    "numbers": FLOATS,
    "padded": FLOATS.map(lambda text: f" {text}\t"),
    "odd numbers": st.sampled_from(["1e5", "+3", ".5", "1.", "-0", "1E-3", "007", "5e-324"]),
    "gaps": FLOATS | st.sampled_from(["", "NA", "nan", " N/A ", "None", "-NaN", "#N/A", "NULL"]),
    "infinite": FLOATS | st.sampled_from(["inf", "-Infinity", "1e39", "1e400", "3.5e38"]),
    "formatted": st.sampled_from(["1,234", "5%", "$3.50", "1 000", "1.234.567,8", "€ 5", "-1,5"]),
    "partly formatted": FLOATS | st.sampled_from(["1,234", "5%"]),
    "dates": st.sampled_from(["2020-01-31", "1.2.2020", "12:30", "2020-01-31T12:00:00Z"]),
    "dates and formatted": st.sampled_from(["2020-01-31", "1,234"]),
    "booleans": st.sampled_from(["true", "False", "yes"]),
    "text": st.sampled_from(
        ["red", "green", "1a", "½", "１", "1_000", "0x10", "it's", 'say "no"', "a,b;c", "two\nlines"]
    ),
    "mixed": FLOATS | st.just("oops"),
    "one kind of anything": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
    "empty": st.sampled_from(["", " ", "NA"]),
}
LIKELY = st.sampled_from(["numbers"] * 3 * len(CELLS) + list(CELLS))
PLAIN = ["a", "b", "c", "y"]


def one_in(count: int) -> st.SearchStrategy[bool]:
    return st.integers(1, count).map(lambda drawn: drawn == count)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Names and columns."""
    kinds = draw(st.lists(LIKELY, min_size=1 + (not draw(one_in(20))), max_size=4))
    count = draw(st.integers(0, 3)) if draw(one_in(8)) else draw(st.integers(4, 12))
    columns = [draw(st.lists(CELLS[kind], min_size=count, max_size=count)) for kind in kinds]
    if not draw(one_in(3)):
        return PLAIN[-len(kinds) :], columns
    unlike = st.lists(NAMES | HOSTILE, min_size=len(kinds), max_size=len(kinds), unique=not draw(one_in(4)))
    return draw(unlike), columns


@st.composite
def texts(draw: st.DrawFn, names: list[str], columns: list[list[str]]) -> bytes:
    """The table as one of the many kinds of text that people call CSV."""
    out = io.StringIO()
    quoted: Any = csv.QUOTE_ALL if draw(one_in(4)) else csv.QUOTE_MINIMAL
    separator, end = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    rows = [list(names), *map(list, zip(*columns, strict=True))]
    if draw(one_in(30)):
        draw(st.sampled_from(rows)).append("1")  # a cell too many
    if draw(one_in(15)):
        draw(st.sampled_from(rows)).pop()
    if draw(one_in(4)):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from([[], [""] * len(names), [" "]])))
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoted).writerows(rows)
    encoding = draw(st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "cp1252"]))
    return out.getvalue().encode(encoding, "replace")


@st.composite
def specs(draw: st.DrawFn, names: list[str], file: Path) -> DataSpec:
    """Settings for a table with these columns."""
    header = not draw(one_in(8))
    known = (
        [*dict.fromkeys(name.strip() for name in names)] if header else [f"column_{n + 1}" for n in range(len(names))]
    )
    target = draw(st.just("") | st.sampled_from([*known, "column_1"]))
    others = [name for name in known if name != target]
    features = draw(st.just([]) | st.lists(st.sampled_from(others), max_size=3, unique=True)) if others else []
    return DataSpec(
        kind="table",
        file=str(file),
        target=target,
        features=tuple(features),
        header=header,
        missing=draw(st.sampled_from(MISSING)),
        dtype=draw(st.sampled_from(DTYPES)),
        standardize=draw(st.booleans()),
        split=draw(st.sampled_from(SPLITS)),
    )


@OF_A_TABLE
@given(st.data())
def test_steps_and_script_read_any_text_alike(tmp_path: Path, drawn: st.DataObject) -> None:
    names, columns = drawn.draw(tables())
    (tmp_path / "t.csv").write_bytes(drawn.draw(texts(names, columns)))
    check(drawn.draw(specs(names, tmp_path / "t.csv")))


SIGNS = '1,2;3\t4|5"6\n7\r8 9.0-aN%'


@OF_A_TABLE
@given(text=st.text(SIGNS, max_size=40), spec=specs(["1", "2"], Path()), heavy=st.integers(0, 3))
@example(text='"a"\t"b"\n"1"\t"2"\n"3"\t"4"\n', spec=DataSpec(kind="table", file="t.csv", split=ALONE), heavy=0)
def test_steps_and_script_read_any_signs_alike(tmp_path: Path, text: str, spec: DataSpec, heavy: int) -> None:
    (tmp_path / "t.csv").write_bytes((text + "\n1,2" * heavy).encode())
    check(replace(spec, file=str(tmp_path / "t.csv")))


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    pl.Float64: st.floats(-1e6, 1e6) | st.sampled_from([math.nan, 0.1]),
    pl.Float32: st.floats(-1e6, 1e6, width=32),
    pl.Int64: st.integers(-(2**60), 2**60),
    pl.UInt8: st.integers(0, 255),
    pl.Boolean: st.booleans(),
    pl.Decimal(10, 2): st.decimals(-1000, 1000, places=2),
    pl.Date: st.dates(),
    pl.Datetime("us"): st.datetimes(),
    pl.Duration("us"): st.timedeltas(timedelta(-5), timedelta(5)),
    pl.Time: st.times(),
    pl.Categorical(): st.sampled_from(["1", "2"]),
    pl.Binary: st.binary(max_size=2),
    pl.List(pl.Int64): st.lists(st.integers(0, 9), max_size=2),
    pl.Struct({"a": pl.Int64}): st.fixed_dictionaries({"a": st.integers(0, 9)}),
    pl.Null: st.none(),
}
NUMERIC = [kind for kind in KINDS if kind in (pl.Float64, pl.Float32, pl.Int64, pl.UInt8, pl.Boolean)]


@st.composite
def parquets(draw: st.DrawFn, file: Path) -> list[str]:
    """Writes a Parquet file; the names of its columns."""
    count = draw(st.integers(0, 3)) if draw(one_in(8)) else draw(st.integers(4, 12))
    width = draw(st.integers(1 + (not draw(one_in(20))), 4))
    names = draw(st.lists(NAMES | HOSTILE, min_size=width, max_size=width, unique=True))
    columns = {}
    for plain in PLAIN[:width]:
        kind = pl.String if draw(one_in(4)) else draw(st.sampled_from(NUMERIC * 3 + list(KINDS)))
        cell = CELLS[draw(LIKELY)] if kind == pl.String else KINDS[kind]
        if draw(one_in(4)):
            cell = st.none() | cell
        columns[plain] = pl.Series(draw(st.lists(cell, min_size=count, max_size=count)), dtype=kind)
    table = pl.DataFrame(columns)
    table.columns = names if draw(one_in(2)) else table.columns  # such a name would be taken for a pattern before
    table.write_parquet(file)
    return table.columns


@OF_A_TABLE
@given(st.data())
def test_steps_and_script_read_any_parquet_alike(tmp_path: Path, drawn: st.DataObject) -> None:
    names = drawn.draw(parquets(tmp_path / "t.parquet"))
    check(drawn.draw(specs(names, tmp_path / "t.parquet")))


# the cases that people have, each by itself

ROWS = 20
NUMBERS = [str(n * n % 7) for n in range(ROWS)]
COLUMNS: dict[str, tuple[list[str], str]] = {
    "left out: text": (["red", "green"] * 10, ""),
    "left out: dates": (["2020-01-31", "12:30"] * 10, ""),
    "left out: truth values": (["true", "false"] * 10, ""),
    "left out: empty": ([""] * ROWS, ""),
    "refused: formatted": (["1,234"] * ROWS, "'x' holds '1,234' in line 2"),
    "refused: percents": (["5%"] * ROWS, "'x' holds '5%' in line 2"),
    "refused: a word among numbers": (["oops", *NUMBERS[1:]], "'x' holds 'oops' in line 2"),
    "refused: gaps": (["NA", *NUMBERS[1:]], "missing values: 'x' in line 2"),
    "refused: infinity": (["inf", *NUMBERS[1:]], "'x' holds inf in line 2"),
    "refused: too large": (["1e39", *NUMBERS[1:]], r"'x' holds 1e\+39 in line 2"),
}


@pytest.mark.parametrize("missing", ["refuse", "drop"])
@pytest.mark.parametrize("chosen", [False, True])
@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_is_left_out_or_refused_by_both(case: str, chosen: bool, missing: Any, tmp_path: Path) -> None:
    cells, message = COLUMNS[case]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "x", "y"], *zip(NUMBERS, cells, NUMBERS[::-1], strict=True)])
    features = ("a", "x") if chosen else ()
    spec = DataSpec(kind="table", file=str(tmp_path / "t.csv"), features=features, missing=missing)
    given = check(spec)
    if case.startswith("left out"):
        assert given != chosen
    elif case == "refused: gaps" and missing == "drop":
        assert given
    else:
        with pytest.raises(WorkflowError, match=message):
            data.make(spec)
        assert not given


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"height, in cm, at birth";y\n1;2\n3;5\n', "height, in cm, at birth"),
        ("height, in cm (at birth);y\n1;2\n3;5\n", "height, in cm (at birth)"),
        ('"a"\t"y"\r\n"1"\t"2"\r\n"3"\t"5"\r\n', "a"),
        ("\ufeffa,y\r1,2\r3,5", "a"),
        ("\r\n\n  a  |y\n1|2\n|\n\n3|5", "a"),
        ('"a\nb",y\n1,2\n3,5\n', "a\nb"),
        (",y\n1,2\n3,5\n", "column_1"),
        ('"it\'s ""so"" \\",y\n1,2\n3,5\n', 'it\'s "so" \\'),
        ("größe,y\n1,2\n3,5\n".encode("cp1252"), "größe"),
        ("größe,y\n1,2\n3,5\n".encode("utf-16"), "größe"),
    ],
)
@pytest.mark.parametrize("chosen", [False, True])
def test_separators_encodings_and_names_are_found_out_alike(
    text: str | bytes, name: str, chosen: bool, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = DataSpec(
        kind="table", file=str(tmp_path / "t.csv"), features=(name,) if chosen else (), target="y", split=ALONE
    )
    assert check(spec)
    assert data.make(spec).features == (name,)


def test_numbers_to_choose_from_and_dates_in_parquet_are_told_apart(tmp_path: Path) -> None:
    table = pl.DataFrame({"^y$": NUMBERS, "*": range(ROWS), "day": [date(2020, 1, 1)] * ROWS, "y": range(ROWS)})
    table.write_parquet(tmp_path / "t.parquet")
    spec = DataSpec(kind="table", file=str(tmp_path / "t.parquet"))
    assert check(spec)
    assert data.make(spec).features == ("^y$", "*")
    assert check(replace(spec, features=("*",), target="^y$"))
    assert not check(replace(spec, features=("*", "day")))


@pytest.mark.parametrize("rows", [2, 3, 4, 40])
def test_a_table_of_few_rows_is_trained_on_without_validation(rows: int, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{n},{2 * n + 1}\n" for n in range(rows)))
    spec = WorkflowSpec(
        data=DataSpec(kind="table", file=str(tmp_path / "t.csv"), standardize=True),
        model=ModelSpec(kind="linear"),
        train=TrainSpec(epochs=30, early_stop=4, momentum=0.9, device="cpu", scheduler="plateau", scheduler_epochs=2),
    )
    dataset = data.make(spec.data)
    model = build.build(spec.model, 1)
    last = list(train(model, dataset, spec.train))[-1]
    assert (last.val_loss is None) == (rows < 4)
    ran: dict[str, Any] = {}
    exec(script(spec, path=str(tmp_path / "model.pt"), table_rows=rows), ran)
    assert [bits(part) for part in ran["model"].parameters()] == [bits(part) for part in model.parameters()]
    if rows < 4:
        with pytest.raises(AssertionError, match="too few rows"):
            exec(script(spec, path=str(tmp_path / "model.pt")), {})
