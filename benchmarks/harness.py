"""What all benchmarks share: contestants that take turns in one process, and ratios of what each did beside the other.

On a machine that does other things as well, only figures taken side by side can be compared: every round lets each
contestant run once, in an order that turns around from round to round, and a ratio is that of one round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Contestant = Callable[[], float]
"""Does its work once, and says how much it did (epochs, rows, files); what it prepares for that is timed as well."""


@dataclass(frozen=True)
class Result:
    """The median of `name` in units a second; `ratio` to the first contestant with its quartiles, round by round."""

    name: str
    rate: float
    ratio: float
    low: float
    high: float


def compare(contestants: dict[str, Contestant], rounds: int) -> list[Result]:
    """Let them take turns; the first one named is what the others are measured by."""
    names = list(contestants)
    for contestant in contestants.values():
        contestant()
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            start = time.perf_counter()
            amount = contestants[name]()
            rates[name].append(amount / (time.perf_counter() - start))
    return list(_results(rates, names[0]))


def _results(rates: dict[str, list[float]], first: str) -> Iterator[Result]:
    for name, own in rates.items():
        ratios = [rate / base for rate, base in zip(own, rates[first], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield Result(name, statistics.median(own), middle, low, high)


def table(title: str, unit: str, results: list[Result]) -> str:
    """Lines for people: each contestant with its rate, its ratio to the first and the middle half of the ratios."""
    width = max(len(result.name) for result in results)
    lines = [title]
    for at, result in enumerate(results):
        ratio = f"   {result.ratio:7.2f} x   ({result.low:.2f} to {result.high:.2f})" if at else ""
        digits = 1 if result.rate < 100 else 0
        lines.append(f"  {result.name:<{width}}  {result.rate:12,.{digits}f} {unit}{ratio}")
    return "\n".join(lines)


def promise(results: list[Result], name: str, least: float) -> None:
    """End the program with a sentence and status 1 where the median ratio of `name` is below `least`."""
    ratio = next(result.ratio for result in results if result.name == name)
    if ratio < least:
        sys.exit(f"  NOT KEPT: {name} is to reach {least:.2f} of the first line; it reaches {ratio:.2f}")
