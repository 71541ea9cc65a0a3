"""Any file ends in data or in one clear error: which column, which line, and what to do."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workflow_core.errors import WorkflowError
from workflow_core.specs import MISSING, DataSpec, SplitSpec
from workflow_core.steps import data, delimited, tables
from workflow_core.steps.data import Dataset

ALL_ROWS = SplitSpec(train=1, validation=0, test=0)
Make = Callable[..., Dataset]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Data made of a table with this content."""

    def make(content: str | bytes, **settings: Any) -> Dataset:
        (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return data.make(DataSpec(kind="table", file="t.csv", **({"split": ALL_ROWS} | settings)), tmp_path)

    return make


def refused(make: Make, content: str | bytes, **settings: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        make(content, **settings)
    return caught.value


def rows(dataset: Dataset) -> list[list[float]]:
    return torch.cat([dataset.X, dataset.y], 1).tolist()


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a;b\r\n1;2\r\n3;4",
        "a\tb\n1\t2\n3\t4\n",
        "a|b\n1|2\n3|4\n",
        "a,b\r1,2\r3,4\r",
        " a , b \n 1 , 2 \n\t3, +4e0\n",
        '"a","b"\n"1","2"\n"3","4"\n',
        "\ufeffa,b\n1,2\n3,4\n",
        "\n\r\na,b\n1,2\n\n,\n3,4\n\n",
        "a,b\n1,2\n3,4\n".encode("utf-16"),
    ],
)
def test_separators_line_ends_and_encodings_are_found_out(make: Make, content: str | bytes) -> None:
    dataset = make(content)
    assert (dataset.features, dataset.target) == (("a",), "b")
    assert rows(dataset) == [[1, 2], [3, 4]]


def test_without_a_header_the_columns_are_numbered(make: Make) -> None:
    dataset = make("1,2,5\n3,4,6\n", header=False)
    assert (dataset.features, dataset.target) == (("column_1", "column_2"), "column_3")
    assert rows(dataset) == [[1, 2, 5], [3, 4, 6]]
    assert "holds numbers" in make("1,2\n3,4\n").notes[0]
    error = refused(make, "a,b\n1,2\n3,4\n", header=False)
    assert "line 1" in error.problem.message
    assert "has a header" in error.problem.advice


def test_features_and_target_are_chosen_by_name_in_the_order_asked_for(make: Make) -> None:
    dataset = make("a,b,c\n1,2,3\n4,5,6\n", features=("c", "a"), target="b")
    assert (dataset.features, dataset.target) == (("c", "a"), "b")
    assert rows(dataset) == [[3, 1, 2], [6, 4, 5]]
    assert make("a,b,c\n1,2,3\n4,5,6\n", features=("c",)).target == "b"
    assert make("a,b,c\n1,2,3\n4,5,6\n", target="a").features == ("b", "c")


def test_a_column_that_is_not_there_is_named_with_what_is(make: Make) -> None:
    error = refused(make, "age,bmi,y\n1,2,3\n", features=("bmy",))
    assert error.problem.message.endswith("has no column 'bmy'.")
    assert error.problem.advice == "Did you mean 'bmi'? It has age, bmi, y."
    assert refused(make, "a,b\n1,2\n", features=("a", "b")).problem.title == "No target"


def test_columns_of_text_and_dates_are_left_out_where_nobody_asked_for_them(make: Make) -> None:
    content = "name,day,x,y\nann,2024-01-05,1,2\nbob,5/1/2024,3,4\n"
    dataset = make(content)
    assert dataset.features == ("x",)
    assert dataset.notes == ("Left out: name (text in line 2), day (date in line 2).",)
    error = refused(make, content, features=("name",))
    assert error.problem.message == "'name' holds 'ann' in line 2, which is text."
    assert "leave the column out" in error.problem.advice
    assert "days since" in refused(make, content, features=("day",)).problem.advice
    assert "choose another target" in refused(make, content, target="name").problem.advice


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\nx,3\n4,5\n", "'a' holds 'x' in line 3, which is text."),
        ("a;b\n1,5;2\n3,5;4\n", "'a' holds '1,5' in line 2, which is not a plain number."),
        ('a,b\n"1,234",2\n', "'a' holds '1,234' in line 2, which is not a plain number."),
        ("a;b\n1.234.567,8;2\n", "'a' holds '1.234.567,8' in line 2, which is not a plain number."),
        ("a,b\n1 234,2\n", "'a' holds '1 234' in line 2, which is not a plain number."),
        ("a,b\n5%,2\n", "'a' holds '5%' in line 2, which is not a plain number."),
        ("a,b\n1_0,2\n3,4\n", "'a' holds '1_0' in line 2, which is text."),
        ("a,b\n1,inf\n", "'b' holds inf in line 2, which is no finite number."),
        ("a,b\n1,2\n-1e39,2\n", "'a' holds -1e+39 in line 3, which is too large for float32."),
        ('"two\nlines",b\n"1\n",2\n\nx,3\n', "'two lines' holds 'x' in line 6, which is text."),
    ],
)
def test_what_is_no_number_is_named_by_column_and_line(make: Make, content: str, message: str) -> None:
    assert refused(make, content).problem.message == message


def test_float64_holds_what_float32_cannot(make: Make) -> None:
    assert rows(make("a,b\n1e39,0.1\n", dtype="float64")) == [[1e39, 0.1]]
    problem = refused(make, "a,b\n1e400,2\n", dtype="float64").problem
    assert problem.title == "Values too large"
    assert "leave the cell empty" in problem.advice


GAPS = "a,b,y\n1,,10\n3,5,\n,7,30\n5,9,40\n"


def test_missing_values_are_refused_by_column_and_line(make: Make) -> None:
    error = refused(make, GAPS)
    assert "'a' in line 4, 'b' in line 2, 'y' in line 3" in error.problem.message
    assert "Drop" in error.problem.advice
    assert "impute" in error.problem.advice
    assert "line 2 and in 2 more rows" in refused(make, "a,b\nNA,1\n#N/A,2\nnull,3\n4,4\n").problem.message


def test_rows_with_missing_values_are_dropped_and_said(make: Make) -> None:
    dataset = make(GAPS, missing="drop")
    assert rows(dataset) == [[5, 9, 40]]
    assert dataset.notes[0] == "3 of 4 rows were dropped, because a value is missing there."
    assert refused(make, "a,b\n,1\n2,\n", missing="drop").problem.title == "No rows left"


def test_the_mean_of_the_training_rows_is_imputed_and_a_missing_target_drops_its_row(make: Make) -> None:
    split = SplitSpec(train=0.7, validation=0.3, test=0)
    dataset = make(GAPS, missing="impute", split=split)
    assert rows(dataset) == [[1, 7, 10], [1, 7, 30], [5, 9, 40]]
    assert dataset.notes[:3] == (
        "1 of 4 rows was dropped, because the target 'y' is missing there.",
        "1 missing value of a imputed: 1, the mean of its training rows.",
        "1 missing value of b imputed: 7, the mean of its training rows.",
    )
    error = refused(make, "a,b\n,1\n2,3\n", missing="impute", split=SplitSpec(train=0.5, validation=0.5, test=0))
    assert error.problem.title == "Nothing to impute"


def test_empty_columns_are_left_out_or_refused(make: Make) -> None:
    assert make("a,b,y\n1,,2\n3,nan,4\n").notes == ("Left out: b (empty).",)
    for missing in MISSING:
        assert refused(make, "a,b,y\n1,,2\n", features=("b",), missing=missing).problem.title == "An empty column"


def test_too_few_rows_for_the_split_are_refused(make: Make) -> None:
    error = refused(make, "a,b\n1,2\n", split=SplitSpec())
    assert error.problem.title == "No rows to train on"
    assert error.problem.message == "There is 1 row, of which a split of 70/15/15 leaves none for training."
    assert error.problem.advice == "Choose a larger training share."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\r\n  \n", "it is empty"),
        (b"a,b\n", "header but no rows"),
        (b"a\n1\n2\n", "one column only, 'a'"),
        (b"a b\n1 2\n", "one column only"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "a quote in line 3 is never closed"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, the first line 2"),
        (b"\0\1\2", "bytes that no text has"),
        (b"a,b\n1,\x002\n", "bytes that no text has"),
        (b"\x89PNG\r\n\x1a\n\0", "bytes that no text has"),
        (b"a\x1b[31m,b\n1,2\n", "bytes that no text has"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        (b"\x1f\x8b\x08", "it is compressed"),
        (b"PAR1 and nothing else", "its Parquet data are damaged"),
        (b"x" * 1_000_000 + b",y\n1,2\n", "the name of a column has 1,000,002 characters"),
        (b"," * 1_000_000 + b"\n", "more than 10,000 columns"),
    ],
)
def test_what_is_no_table_is_said(make: Make, content: bytes, said: str) -> None:
    error = refused(make, content)
    assert error.problem.title == "Cannot read the table"
    assert said in error.problem.message
    assert error.problem.advice


def test_folders_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "not a file"),
        (Path("/dev/zero"), "not a file"),
        (tmp_path / "none.csv", "there is no such file"),
        (tmp_path / "none" / "t.csv", "there is no such file"),
        (tmp_path / ("x" * 300), "the name is too long"),
    ):
        with pytest.raises(WorkflowError, match=said):
            tables.inspect(path)


def test_the_file_is_looked_for_beside_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "t.csv").write_text("a,b\n1,2\n")
    spec = DataSpec(kind="table", file="t.csv", split=ALL_ROWS)
    assert rows(data.make(spec, tmp_path / "inner")) == [[1, 2]]
    monkeypatch.chdir(tmp_path / "inner")
    assert rows(data.make(spec)) == [[1, 2]]
    absolute = DataSpec(kind="table", file=str(tmp_path / "inner" / "t.csv"), split=ALL_ROWS)
    assert rows(data.make(absolute, tmp_path)) == [[1, 2]]


def test_text_that_is_not_utf_8_is_read_and_said(make: Make) -> None:
    dataset = make("größe,b\n1,2\n".encode("latin-1"))
    assert dataset.features == ("größe",)
    assert "not UTF-8" in dataset.notes[0]


def test_hostile_names_reach_no_terminal(make: Make) -> None:
    name = "[/]\u202e\u009b31m"
    dataset = make(f"{name},b\n1,2\n")
    assert dataset.features == (name,)
    for content in (f"{name},b\nx,2\n", "a,b\n1,\u009b2J\n"):
        text = str(refused(make, content, target="b", features=(content.partition(",")[0],)))
        assert not set(text) & {"\x1b", "\u009b", "\u202e"}
    notes = make(f"{name},b\n,4\n1,5\n2,5\n", missing="impute").notes
    assert any("[/]" in note for note in notes)
    assert not set("".join(notes)) & {"\x1b", "\u009b", "\u202e"}


def test_inspecting_tells_what_every_column_holds(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_text(
        "n\ttext\tday\tmixed\tdressed\tnone\n1\ta\t2024-01-01\t1\t1,5\t\n\tb\t2024-01-02\t?\t2,5\tNA\n3\tc\t\t2\t5\t\n"
    )
    answer = tables.inspect(file)
    assert answer.rows == 3
    assert [(each.name, each.kind, each.missing) for each in answer.columns] == [
        ("n", "number", 1),
        ("text", "text", 0),
        ("day", "date", 1),
        ("mixed", "mixed", 0),
        ("dressed", "formatted number", 0),
        ("none", "empty", 3),
    ]
    assert [each.name for each in tables.inspect(file, header=False).columns][:2] == ["column_1", "column_2"]


def parquet(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


FRAME = pl.DataFrame(
    {
        "i": [1, 2, 3],
        "flag": [True, False, True],
        "digits": ["1", "2.5", " 3"],
        "text": ["a", "b", "c"],
        "list": [[1], [2], [3]],
        "y": [0.5, None, float("nan")],
    }
)


def test_parquet_is_read_by_its_content_and_types(make: Make, tmp_path: Path) -> None:
    dataset = make(parquet(FRAME), missing="drop")
    assert dataset.features == ("i", "flag", "digits")
    assert rows(dataset) == [[1, 1, 1, 0.5]]
    assert [(each.name, each.kind, each.missing) for each in tables.inspect(tmp_path / "t.csv").columns] == [
        ("i", "number", 0),
        ("flag", "number", 0),
        ("digits", "number", 0),
        ("text", "text", 0),
        ("list", "list(int64)", 0),
        ("y", "number", 2),
    ]
    assert "'y' in row 2 and in 1 more row" in refused(make, parquet(FRAME)).problem.message
    error = refused(make, parquet(FRAME), features=("list",), missing="drop")
    assert error.problem.message == "'list' holds list(int64) values, from row 1 on, and a model needs numbers."


def test_parquet_of_many_columns_is_read_in_a_few_goes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({f"c{index}": [float(index), index + 0.5, index + 1.0] for index in range(50)})
    whole = rows(make(parquet(frame)))
    monkeypatch.setattr(tables, "CHUNK", 30)
    assert rows(make(parquet(frame))) == whole
    assert whole[1] == [index + 0.5 for index in range(50)]


def test_what_this_machine_cannot_hold_is_refused_before_it_is_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_memory", lambda: 3_000_000)
    frame = pl.DataFrame({"x": pl.repeat(1.0, 50_000, eager=True), "y": pl.repeat(1.0, 50_000, eager=True)})
    assert refused(make, parquet(frame)).problem.title == "Too large for this machine"
    assert "larger than" in refused(make, b"1,2\n" * 300_000, header=False).problem.message


def test_too_many_rows_and_features_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    monkeypatch.setattr(delimited, "MAX_ROWS", 3)
    assert len(make("a,b\n1,2\n3,4\n5,6\n").X) == 3
    assert "more than 3 rows" in refused(make, "a,b\n" + "1,2\n" * 4).problem.message
    wide = ",".join(f"c{index}" for index in range(1002)) + "\n" + ",".join(["1"] * 1002) + "\n"
    assert refused(make, wide).problem.title == "Too many features"
    assert make(wide, features=("c5",)).features == ("c5",)


def test_a_damaged_parquet_file_is_one_error_and_prints_nothing(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    whole = parquet(pl.DataFrame({"x": [index / 7 for index in range(100)], "y": list(range(100))}))
    for place in range(0, len(whole), 23):
        broken = bytearray(whole)
        broken[place] ^= 0x55
        with contextlib.suppress(WorkflowError):
            make(bytes(broken), missing="drop")
    with pytest.raises(WorkflowError):
        make(whole[: len(whole) // 2])
    assert capfd.readouterr().err == ""


CELLS = (
    "1",
    "-2.5",
    "x",
    "",
    '"',
    '""',
    "1,5",
    "NA",
    "inf",
    "\r",
    "\n",
    ",",
    ";",
    "\t",
    "|",
    " ",
    "\0",
    "é",
    "🦆",
    "2024-01-01",
)


@settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(CELLS), max_size=60).map(lambda cells: "".join(cells).encode()),
        st.lists(st.lists(st.sampled_from(CELLS[:9]), min_size=1, max_size=4), max_size=12).map(
            lambda lines: "\n".join(";".join(cells) for cells in lines).encode()
        ),
    ),
    header=st.booleans(),
    missing=st.sampled_from(MISSING),
)
@example(content=b"\xff\xfe\n", header=True, missing="refuse")
@example(content=b'"\n', header=False, missing="drop")
def test_any_bytes_end_in_data_or_in_one_clear_error(
    tmp_path: Path, content: bytes, header: bool, missing: Any
) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    spec = DataSpec(kind="table", file=str(file), header=header, missing=missing, split=ALL_ROWS)
    error, dataset = None, None
    try:
        dataset = data.make(spec)
    except WorkflowError as caught:
        error = caught.problem
    if dataset is None:
        assert error
        assert error.title
        assert error.message
        assert error.advice
    else:
        assert torch.isfinite(dataset.X).all()
        assert torch.isfinite(dataset.y).all()
        assert data.view(dataset).rows == len(dataset.y) > 0
        assert tables.inspect(file, header).rows >= len(dataset.y)


@settings(max_examples=50, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1, max_size=20
    ),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_number_is_read_to_the_last_bit(
    tmp_path: Path, values: list[list[float]], separator: str, end: str
) -> None:
    file = tmp_path / "t.csv"
    lines = [separator.join("abc"), *(separator.join(map(repr, row)) for row in values)]
    file.write_bytes(end.join(lines).encode())
    dataset = data.make(DataSpec(kind="table", file=str(file), dtype="float64", split=ALL_ROWS))
    assert rows(dataset) == values


def test_a_hundred_thousand_rows_are_read_in_under_a_second(tmp_path: Path) -> None:
    numbers = torch.randn(10, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "t.csv"
    pl.DataFrame({f"c{index}": column.tolist() for index, column in enumerate(numbers)}).write_csv(file)
    spec = DataSpec(kind="table", file=str(file), standardize=True)
    times = []
    for _ in range(3):
        start = time.process_time()
        dataset = data.make(spec)
        times.append(time.process_time() - start)
    assert dataset.X.shape == (100_000, 9)
    assert dataset.X[777, 3].item() == numbers[3, 777].float().item()
    assert min(times) < 1
