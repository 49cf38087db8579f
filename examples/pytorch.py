"""PyTorch: a small network on the device that the trial was given, pruned epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from torch import nn

if TYPE_CHECKING:
    from optuna_spark.objectives.context import ObjectiveContext

EPOCHS = 20


def objective(trial: Any, context: ObjectiveContext) -> float:
    torch.manual_seed(context.spec.seed or 0)
    torch.set_num_threads(context.device.threads)
    device = torch.device(context.device.name)  # cpu, or cuda:0 as this process counts its GPUs
    (x, y), (x_held_out, y_held_out) = (map_to(part, device) for part in split(context))
    width = trial.suggest_int("width", 4, 64, log=True)
    model = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, 1)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))
    loss_of, loss = nn.BCEWithLogitsLoss(), float("inf")
    for epoch in range(1, EPOCHS + 1):
        optimizer.zero_grad()
        loss_of(model(x).squeeze(1), y).backward()
        optimizer.step()
        with torch.no_grad():
            loss = loss_of(model(x_held_out).squeeze(1), y_held_out).item()
        trial.report(loss, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("device", str(next(model.parameters()).device))
    return loss


def split(context: ObjectiveContext) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Three quarters of the rows and the rest, standardised by the first: the same in every trial."""
    table = context.read_table()
    features = np.column_stack([table[name].to_numpy() for name in table.column_names if name != "target"])
    labels = table["target"].to_numpy()
    order = np.random.default_rng(context.spec.seed).permutation(len(labels))
    train, held_out = np.split(order, [len(order) * 3 // 4])
    features = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
    return (features[train], labels[train]), (features[held_out], labels[held_out])


def map_to(part: tuple[Any, Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = (torch.as_tensor(array, dtype=torch.float32, device=device) for array in part)
    return features, labels
