"""An exported run reads back figure by figure, however it was recorded and in however many steps it is written."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.test_store import begun, view_of

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.store import Store
from workflow_core.store import export as export_module
from workflow_core.store.export import export

FIGURES = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.lists(FIGURES, min_size=1, max_size=9), st.integers(0, 2)), max_size=4),
    st.integers(1, 4),
    st.sampled_from([1, 100, 10**9]),
)
def test_every_figure_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[tuple[list[float], int]], rows: int, at_once: int
) -> None:
    """Some epochs between two pieces may be missing: a disk did not take them."""
    monkeypatch.setattr(export_module, "ROWS", rows)
    monkeypatch.setattr(export_module, "AT_ONCE", at_once)
    names = ["train_loss", 'a "b",\n', "é"]
    wanted: dict[int, list[float]] = {}
    path = tmp_path / "s.sqlite"
    with contextlib.closing(Store(path)) as store:
        run, at = store.number(), 0
        store.begin(view_of(run), names)
        for values, gap in runs:
            store.append(
                view_of(run),
                at,
                {name: [value * sign for value in values] for name, sign in zip(names, (1, -1, 1), strict=True)},
            )
            wanted |= {at + place: [value, -value, value] for place, value in enumerate(values)}
            at += len(values) + gap
    epochs = max(wanted, default=-1) + 1
    with export(path, run, "csv", str(tmp_path / "r.csv"), overwrite=True).open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["epoch", *names]
    assert repr({int(line[0]): [*map(float, line[1:])] for line in lines}) == repr(wanted)
    found = json.loads(export(path, run, "json", str(tmp_path / "r.json"), overwrite=True).read_bytes())
    assert list(found["series"]) == names
    for place, series in enumerate(found["series"].values()):
        figures = [None if value is None else float(value) for value in series]
        assert repr(figures) == repr([wanted[epoch][place] if epoch in wanted else None for epoch in range(epochs)])


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path / "s.sqlite")) as store:
        begun(store, 2)
    with pytest.raises(WorkflowError, match="no run 2"):
        export(tmp_path / "s.sqlite", 2, "json", str(tmp_path / "r"), overwrite=False)
    with pytest.raises(WorkflowError, match="cannot be read"):
        export(tmp_path / "none.sqlite", 1, "json", str(tmp_path / "r"), overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.sqlite"]


def test_told_to_end_as_its_unfinished_file_appears_it_removes_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    with contextlib.closing(Store(path)) as store:
        run = store.number()
        store.begin(view_of(run), ["train_loss"])
        store.append(view_of(run), 0, {"train_loss": [0.5]})
    hold = atomic._hold

    def told(descriptor: int, temporary: Path) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return hold(descriptor, temporary)

    monkeypatch.setattr(atomic, "_hold", told)
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        with pytest.raises(SystemExit) as ended:
            export_module.main([str(path), str(run), "csv", str(folder / "run.csv")])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == []
