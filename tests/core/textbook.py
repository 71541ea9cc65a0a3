"""Training written out as a careful textbook does, with nothing of ours in it: what ours is measured by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler

from workflow_core.specs import TrainSpec

Rows = tuple[Tensor, Tensor]

CRITERIA: dict[str, Callable[[TrainSpec], nn.Module]] = {
    "mse": lambda spec: nn.MSELoss(),
    "l1": lambda spec: nn.L1Loss(),
    "huber": lambda spec: nn.HuberLoss(delta=spec.delta),
    "smooth_l1": lambda spec: nn.SmoothL1Loss(beta=spec.delta),
}


def optimizer_of(spec: TrainSpec, model: nn.Module) -> optim.Optimizer:
    """The optimizer by torch's own defaults, but for what the spec says."""
    parameters, lr = model.parameters(), spec.learning_rate
    decay: dict[str, Any] = {} if spec.weight_decay is None else {"weight_decay": spec.weight_decay}
    match spec.optimizer:
        case "sgd":
            return optim.SGD(parameters, lr=lr, momentum=spec.momentum, nesterov=spec.nesterov, **decay)
        case "adam":
            return optim.Adam(parameters, lr=lr, **decay)
        case "adamw":
            return optim.AdamW(parameters, lr=lr, **decay)
        case "rmsprop":
            return optim.RMSprop(parameters, lr=lr, momentum=spec.momentum, **decay)
        case "adagrad":
            return optim.Adagrad(parameters, lr=lr, **decay)
        case "lbfgs":
            return optim.LBFGS(parameters, lr=lr)


def scheduler_of(spec: TrainSpec, optimizer: optim.Optimizer) -> Any:
    """The scheduler, or None."""
    epochs, factor = spec.scheduler_epochs, spec.scheduler_factor
    match spec.scheduler:
        case "none":
            return None
        case "step":
            return lr_scheduler.StepLR(optimizer, step_size=epochs, gamma=factor)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=spec.epochs)
        case "plateau":
            return lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=epochs)
        case "warmup":
            return lr_scheduler.LinearLR(optimizer, start_factor=factor, total_iters=epochs)


class Textbook:
    """`run` trains; afterwards `rows` has (train_loss, val_loss, learning_rate) of every epoch."""

    def __init__(self, model: nn.Module, train: Rows, validation: Rows, spec: TrainSpec) -> None:
        self.model, self.spec = model, spec
        self.train, self.validation = train, validation
        self.criterion = CRITERIA[spec.loss](spec)
        self.optimizer = optimizer_of(spec, model)
        self.scheduler = scheduler_of(spec, self.optimizer)
        self.generator = torch.Generator().manual_seed(spec.batch_seed)
        self.rows: list[tuple[float, float | None, float]] = []
        self.best = float("inf")
        self.best_epoch = -1
        self.best_state: dict[str, Any] = {}

    def run(self) -> None:
        """All epochs, or as many as early stopping lets it have; then the best weights are put back."""
        torch.manual_seed(self.spec.batch_seed)
        waited = 0
        for epoch in range(self.spec.epochs):
            learning_rate = self.optimizer.param_groups[0]["lr"]
            before = copy.deepcopy(self.model.state_dict())
            train_loss = self.learn()
            val_loss = self.validate()
            watched = train_loss if val_loss is None else val_loss
            if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(watched)
            elif self.scheduler is not None:
                self.scheduler.step()
            self.rows.append((train_loss, val_loss, learning_rate))
            if watched < self.best - self.spec.min_delta:
                self.best, self.best_epoch, waited = watched, epoch, 0
                # the training loss is that of the weights from before the epoch
                self.best_state = before if val_loss is None else copy.deepcopy(self.model.state_dict())
            else:
                waited += 1
            if self.spec.early_stop and waited == self.spec.early_stop:
                self.model.load_state_dict(self.best_state)
                return

    def learn(self) -> float:
        """One epoch; its mean loss over the rows."""
        self.model.train()
        X_train, y_train = self.train
        if not self.spec.batch_size:
            return self.step(X_train, y_train)
        total = 0.0
        order = torch.randperm(len(X_train), generator=self.generator)
        for rows in torch.split(order, self.spec.batch_size):
            total += self.step(X_train[rows], y_train[rows]) * len(rows)
        return total / len(X_train)

    def step(self, X: Tensor, y: Tensor) -> float:
        """The five lines."""
        if isinstance(self.optimizer, optim.LBFGS):
            search: Any = self.optimizer.step
            return float(search(lambda: self.closure(X, y)).item())
        y_pred = self.model(X)
        loss = self.criterion(y_pred, y)
        self.optimizer.zero_grad()
        loss.backward()
        if self.spec.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        return float(loss.item())

    def closure(self, X: Tensor, y: Tensor) -> Any:
        """Loss and gradient for an optimizer that asks for them several times."""
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(X), y)
        loss.backward()
        return loss

    def validate(self) -> float | None:
        """The validation loss, in eval mode and without gradients."""
        X_val, y_val = self.validation
        if not len(X_val):
            return None
        self.model.eval()
        with torch.inference_mode():
            return float(self.criterion(self.model(X_val), y_val).item())
