"""What several specs check alike, each with one sentence that says what is wrong and what would do."""

from __future__ import annotations

import math

MAX_SEED = 2**63 - 1  # the largest integer that both torch.manual_seed and TOML take
MAX_VALUE = 1e30  # larger ones overflow float32 as soon as they are squared or summed
MAX_TEXT = 4096  # no path is longer


def check_number(name: str, value: float, low: float = -MAX_VALUE, high: float = MAX_VALUE) -> None:
    """Raises ValueError where `value` is not finite or not between `low` and `high`."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}; it must lie between {low:g} and {high:g}")


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Raises ValueError where `value` is not between `low` and `high`."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be a whole number from {low:,} to {high:,}")


def check_seed(name: str, value: int) -> None:
    """Raises ValueError where `value` is no seed."""
    if not 0 <= value <= MAX_SEED:
        raise ValueError(f"{name} is {value}; it must be a whole number from 0 to {MAX_SEED}")


def check_text(name: str, value: str) -> None:
    """Raises ValueError for a text that can be no path, name or argument."""
    if "\0" in value or len(value) > MAX_TEXT:
        raise ValueError(f"{name} holds a NUL or more than {MAX_TEXT:,} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds characters that are no Unicode") from None
