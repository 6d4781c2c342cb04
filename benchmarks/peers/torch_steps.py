"""What both PyTorch trainings do: Caffe's optimizer, random batches, one iteration.

This module runs in PyTorch's environment.
"""

import torch

from benchmarks.peers.torch_net import Net


def make_optimizer(net: Net, solver: dict) -> torch.optim.Optimizer:
    """Make the optimizer of a Caffe solver, with the multipliers of each layer.

    Args:
        net: The net to train.
        solver: {"type", "base_lr", "weight_decay", "momentum", "momentum2"} of the solver.
    """
    members: dict = {}
    for parameter, multipliers in net.multipliers.items():
        members.setdefault(multipliers, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": lr_mult * solver["base_lr"],
            "weight_decay": decay_mult * solver["weight_decay"],
        }
        for (lr_mult, decay_mult), parameters in members.items()
    ]
    if solver["type"] == "Adam":
        return torch.optim.Adam(groups, betas=(solver["momentum"], solver["momentum2"]))
    return torch.optim.SGD(groups, momentum=solver["momentum"])


def random_batch(shapes: dict[str, tuple], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Return a batch of random samples.

    Args:
        shapes: {"data", "mask_label", "heatmaps": shape}.
        device: Where the tensors lie.
    """
    return {
        "data": torch.rand(shapes["data"], device=device) - 0.5,
        "mask_label": torch.randint(0, 2, shapes["mask_label"], device=device).float(),
        "heatmaps": torch.rand(shapes["heatmaps"], device=device),
    }


def train_step(
    net: Net,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, torch.Tensor],
    in_bfloat16: bool = False,
) -> float:
    """Do one iteration, on a CPU in bfloat16 where that is asked for, and return the loss."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, in_bfloat16):
        loss = net.loss(batch)
    loss.backward()
    optimizer.step()
    return loss.item()  # as Caffe's solver does, this waits for the forward pass
