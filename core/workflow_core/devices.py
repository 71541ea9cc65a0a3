"""Where tensors live: which devices there are, which one a setting means, and how many threads pay off."""

from __future__ import annotations

import torch

from workflow_core.errors import WorkflowError
from workflow_core.specs import Dtype

SMALL = 50_000
"""Up to so many rows one thread is faster than several."""

_all_threads = torch.get_num_threads()


def available_devices() -> tuple[str, ...]:
    """The devices of this machine by the names that a TrainSpec takes, best first, `cpu` always among them."""
    names: list[str] = []
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names += ["cuda", *(f"cuda:{index}" for index in range(count) if count > 1)]
    if torch.backends.mps.is_available():
        names.append("mps")
    return (*names, "cpu")


def pick_device(name: str, dtype: Dtype = "float32") -> torch.device:
    """The device that `name` means for numbers of `dtype`; `auto` takes CUDA, then MPS, then the CPU.

    Raises WorkflowError for one that this machine does not have, and for MPS with float64, which it cannot hold.
    """
    devices = available_devices()
    if dtype == "float64":
        devices = tuple(device for device in devices if device != "mps")
        if name == "mps":
            raise WorkflowError(
                "No float64 on this device",
                "The device 'mps' has no float64, which the data are in.",
                "Choose the device auto or cpu, or make the data float32.",
            )
    if name == "auto":
        name = devices[0]
    if name == "cuda" and name in devices:
        return torch.device("cuda", torch.cuda.current_device())
    if name in devices or (name == "cuda:0" and "cuda" in devices):
        return torch.device(name)
    there = " and ".join(devices)
    raise WorkflowError(
        "No such device",
        f"The device {name!r} is not there; this machine has {there}.",
        f"Choose auto or {' or '.join(devices)}.",
    )


def threads_for(rows: int) -> int:
    """How many CPU threads pay off on this machine for so many rows."""
    return 1 if rows <= SMALL else _all_threads


def set_threads(rows: int) -> int:
    """Let torch use as many CPU threads as pay off for so many rows, and return that number.

    Whoever wants equal bits from two runs must give both the same setting.
    """
    threads = threads_for(rows)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads
