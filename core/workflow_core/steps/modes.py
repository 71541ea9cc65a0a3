"""train() and eval() at no cost for models made of well-known modules, as they are for every other model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

KNOWN = (nn.Linear, nn.Sequential, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU)
"""Modules that draw no random numbers and have no train() or eval() of their own."""


class Modes:
    """`train()` and `eval()` of `model`, with the same effect."""

    def __init__(self, model: nn.Module) -> None:
        self.train: Callable[[], Any] = model.train
        self.eval: Callable[[], Any] = model.eval
        if plain(model):
            # Module.train goes through __setattr__ of every module; for two numbers that is a fortieth of an epoch
            self._modules = [vars(module) for module in model.modules()]
            self.train, self.eval = self._train, self._eval

    def _train(self) -> None:
        for attributes in self._modules:
            attributes["training"] = True

    def _eval(self) -> None:
        for attributes in self._modules:
            attributes["training"] = False


def draws(model: nn.Module) -> bool:
    """May a training step of `model` draw random numbers? A module of the user's own may."""
    return not all(map(_known, model.modules()))


def plain(model: nn.Module) -> bool:
    """Is it made of well-known modules alone? In eval mode those draw nothing, and see each row by itself."""
    return all(_known(module) or type(module) is nn.Dropout for module in model.modules())


def _known(module: nn.Module) -> bool:
    return type(module) in KNOWN or type(module).__module__.startswith("workflow_core.")
