"""A CSV file of 100,000 rows: what checking it and making data of it costs beside reading it."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import polars
import torch
from harness import compare, table

from workflow_core.specs import DataSpec
from workflow_core.steps import data

ROWS, COLUMNS = 100_000, 11


def write(path: Path) -> None:
    """A table of normally distributed numbers, with a header."""
    rows = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(42)).tolist()
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(f"column{at}" for at in range(COLUMNS)) + "\n")
        file.writelines(",".join(f"{value:.6f}" for value in row) + "\n" for row in rows)


def main(rounds: int = 10) -> str:
    """The table; `rounds` of less than a second each."""
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write(path)
        spec = DataSpec(kind="table", file=str(path), standardize=True)

        def made() -> float:
            dataset = data.make(spec)
            dataset.inputs("train")
            return len(dataset.X)

        contestants = {"polars.read_csv": lambda: len(polars.read_csv(path)), "data.make, checked and scaled": made}
        results = compare(contestants, rounds)
    text = table(f"Reading a CSV of {ROWS:,} rows x {COLUMNS} columns", "rows/s", results)
    return f"{text}\n  that is {ROWS / results[1].rate:.2f} s for all of them"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
