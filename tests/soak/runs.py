"""What the runs of the soak are compared with and by: the same run without anybody in its way, and digests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

import torch
from tests.core.conftest import Watcher

from workflow_core.protocol import Command
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer
from workflow_core.workspace import Workspace


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of the bytes of all tensors of a `state_dict`, in their order."""
    whole = (bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist()) for tensor in state.values())
    return hashlib.sha256(b"".join(whole)).hexdigest()


def straight(model: ModelSpec, points: DataSpec, spec: TrainSpec, epochs: int) -> tuple[str, list[float]]:
    """The digest of the weights and the training losses of so many epochs that nothing has hindered."""
    trainer = Trainer(build.build(model), data.make(points), spec)
    while trainer.done < epochs:
        trainer.epoch()
    return digest(trainer.model.state_dict()), list(trainer.fetch()["train_loss"])


def ask(workspace: Workspace, *commands: Command, see: Callable[[Watcher], object] = lambda told: True) -> Watcher:
    """Come as a client, ask for something, wait until `see` holds of what was told, and go again."""

    async def look() -> Watcher:
        watcher = Watcher(workspace)
        await watcher.client.connect(60)
        try:
            for command in commands:
                await watcher.request(command, 60)
            await watcher.until(lambda: watcher.state.get("steps") and see(watcher), 60)
        finally:
            await watcher.client.close()
        return watcher

    return asyncio.run(look())
