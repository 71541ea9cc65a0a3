"""The optimizer of a training, made with the settings of its spec, and the short way to its step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim

from workflow_core.specs import OPTIMIZER_USES, Optimizer, TrainSpec
from workflow_core.steps.tensors import on_cpu

OPTIMIZERS: dict[Optimizer, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "lbfgs": optim.LBFGS,
}


def make_optimizer(spec: TrainSpec, model: nn.Module) -> optim.Optimizer:
    """The optimizer over all parameters of `model`; a setting that it has no use for, or that is None, is its own.

    For an experiment it may hold those of another model, equal to this one, that nothing else ever sees.
    """
    settings: dict[str, Any] = {name: getattr(spec, name) for name in OPTIMIZER_USES[spec.optimizer]}
    settings = {name: value for name, value in settings.items() if value is not None}
    parameters = list(model.parameters())
    if spec.optimizer_over == "another":
        parameters = [nn.Parameter(each.detach().clone(), each.requires_grad) for each in parameters]
    if spec.optimizer != "lbfgs" and all(parameter.device.type == "cpu" for parameter in parameters):
        # torch would come to the same for tensors on a CPU, but look at each of them at every step to find out
        settings["foreach"] = False
    return OPTIMIZERS[spec.optimizer](parameters, lr=spec.learning_rate, **settings)


def load_state(optimizer: optim.Optimizer, state: dict[str, Any]) -> None:
    """Give `optimizer` what one like it remembers, and its learning rates; its settings stay those of the spec.

    Raises ValueError where the state is that of other parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    for own, saved in zip(groups, state["param_groups"], strict=True):
        if own["params"] != saved["params"]:
            raise ValueError("the optimizer has another number of parameters")
        own.update({name: saved[name] for name in ("lr", "initial_lr") if name in saved})
    optimizer.load_state_dict({"state": on_cpu(state["state"]), "param_groups": groups})


class LeanOptimizer:
    """`zero_grad` and `step` of an optimizer, with the same effect, without the label each writes for a profiler.

    For a model of two numbers those labels are a sixth of an epoch. Hooks on the optimizer are not called.
    """

    __slots__ = ("_parameters", "step")

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.step: Callable[..., Any] = _unlabelled(optimizer)

    def zero_grad(self) -> None:
        """Forget all gradients, as `Optimizer.zero_grad` does."""
        for parameter in self._parameters:
            parameter.grad = None


def _unlabelled(optimizer: optim.Optimizer) -> Callable[..., Any]:
    step: Any = type(optimizer).step
    # torch labels the step by wrapping that of the class; a scheduler wraps the instance's, and must see every step
    if "step" in vars(optimizer) or not getattr(step, "hooked", False) or not hasattr(step, "__wrapped__"):
        return optimizer.step
    return functools.partial(step.__wrapped__, optimizer)


def total_norm(parameters: list[nn.Parameter]) -> torch.Tensor:
    """The L2 norm of all their gradients together, of shape []; waits for no device."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
