"""What an epoch needs of the process around it: the training's own random numbers, and algorithms that repeat."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType

import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.specs import TrainSpec
from workflow_core.steps.modes import draws


def around(spec: TrainSpec, model: nn.Module, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What every epoch is to run in; torch's global generators are seeded with `batch_seed` here, once.

    So dropout draws what `torch.manual_seed(batch_seed)` just before a plain loop lets it draw, and what was drawn
    before or between two epochs by somebody else changes nothing.
    """
    torch.manual_seed(spec.batch_seed)
    stack = Surroundings()
    if draws(model):
        stack.parts.append(RandomNumbers(device))
    if spec.deterministic:
        stack.parts.append(Repeatable(device))
    return stack if stack.parts else contextlib.nullcontext()


class Surroundings:
    """Several surroundings, entered in their order and left in the other."""

    def __init__(self) -> None:
        self.parts: list[RandomNumbers | Repeatable] = []

    def __enter__(self) -> None:
        for part in self.parts:
            part.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in reversed(self.parts):
            part.__exit__(kind, error, traceback)


class RandomNumbers:
    """A training's own place in the global random numbers: each epoch goes on where the last one stopped drawing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._which = (device,) if device.type == "cuda" else ()
        self._state = self._read()

    def __enter__(self) -> None:
        cpu, other = self._state
        torch.set_rng_state(cpu)
        if other is not None:
            torch.get_device_module(self._device).set_rng_state(other, *self._which)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._state = self._read()

    def _read(self) -> tuple[Tensor, Tensor | None]:
        if self._device.type in ("cpu", "meta"):
            return torch.get_rng_state(), None
        # an accelerator keeps seed and count of its generator on the CPU: reading them waits for nothing
        return torch.get_rng_state(), torch.get_device_module(self._device).get_rng_state(*self._which)


class Repeatable:
    """`torch.use_deterministic_algorithms`, restored afterwards."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            # cuBLAS repeats only with a workspace of its own, which it reads when it is first used
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def __enter__(self) -> None:
        self._mode = torch.get_deterministic_debug_mode()
        torch.use_deterministic_algorithms(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises WorkflowError where the epoch failed because an operation has no algorithm that repeats."""
        torch.set_deterministic_debug_mode(self._mode)
        if isinstance(error, RuntimeError) and "deterministic" in str(error):
            name = str(error).split(" ", 1)[0] if "does not have a deterministic" in str(error) else "an operation"
            raise WorkflowError(
                "Not repeatable here",
                f"The model uses {name[:60]}, for which torch has no algorithm that repeats to the last bit here.",
                "Train without the repeatable mode, or use something else in the model.",
            ) from error
