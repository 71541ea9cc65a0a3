"""What an epoch needs of the process around it: the training's own random numbers, and algorithms that repeat."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.specs import TrainSpec
from workflow_core.steps.generators import Shared, packed, unpacked
from workflow_core.steps.modes import draws
from workflow_core.steps.own import is_theirs


def around(spec: TrainSpec, model: nn.Module, device: torch.device) -> Surroundings:
    """What training is to run in; torch's global generators are seeded with `batch_seed` here, once.

    So dropout draws what `torch.manual_seed(batch_seed)` just before a plain loop lets it draw, and what was drawn
    before or between two epochs by somebody else changes nothing.
    """
    torch.manual_seed(spec.batch_seed)
    return Surroundings(
        RandomNumbers(device, model) if draws(model) else None, Repeatable(device) if spec.deterministic else None
    )


class Surroundings:
    """Those that there are, entered in their order and left in the other."""

    def __init__(self, random: RandomNumbers | None, repeatable: Repeatable | None) -> None:
        self.random = random
        self.parts = [part for part in (random, repeatable) if part is not None]

    def cheapest(self) -> contextlib.AbstractContextManager[object]:
        """The same, at no cost where there are none."""
        return self if self.parts else contextlib.nullcontext()

    def __enter__(self) -> None:
        for part in self.parts:
            part.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in reversed(self.parts):
            part.__exit__(kind, error, traceback)


class RandomNumbers:
    """A training's own place in the global random numbers: it goes on where it stopped drawing."""

    def __init__(self, device: torch.device, model: nn.Module) -> None:
        self._device = device
        self._model = model
        self._shared = Shared(model) if is_theirs(model) else None
        self._others = self._shared.read() if self._shared is not None else {}
        self._which = (device,) if device.type == "cuda" else ()
        self._state = self._read()

    def __enter__(self) -> None:
        cpu, other = self._state
        torch.set_rng_state(cpu)
        if other is not None:
            torch.get_device_module(self._device).set_rng_state(other, *self._which)
        if self._shared is not None:
            self._shared.write(self._others)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._state = self._read()
        if self._shared is not None:
            self._others = self._shared.read()

    def state(self) -> dict[str, Any]:
        """Where the training stands in torch's random numbers, for a model of the user's own in all that it shares."""
        cpu, other = self._state
        if self._shared is not None:
            self._others["found"] |= self._shared.look_again()
        shared = packed(self._others) if self._shared is not None else None
        return {"cpu": cpu.clone(), "device": other.clone() if other is not None else None, "shared": shared}

    def load(self, state: dict[str, Any]) -> None:
        """Go on drawing from there; on a device of another kind its own numbers are those of the seed."""
        own, saved = self._state[1], state["device"]
        self._state = state["cpu"].clone(), saved.clone() if own is not None and saved is not None else own
        if self._shared is not None and state.get("shared") is not None:
            self._others = unpacked(state["shared"])
            self._shared.revive(self._others["found"])
        for name, generator in state.get("own", {}).items():  # as an earlier version has kept those of the model
            path, _, attribute = name.rpartition(".")
            getattr(self._model.get_submodule(path), attribute).set_state(generator)

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
