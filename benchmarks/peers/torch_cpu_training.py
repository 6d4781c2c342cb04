"""Trains a net in PyTorch, in its own interpreter: `python -m benchmarks.peers.torch_cpu_training FOLDER LAYOUT BATCH THREADS LEAST SECONDS`.

FOLDER is as `benchmarks.training.prepare` leaves it. LAYOUT is contiguous_format or channels_last, PyTorch's names. Prints JSON:
"version", "loss_difference" and "gradient_difference" from Caffe's on the same weights and samples, relative, then "median", "p10",
"p90" and "runs" of the seconds an iteration of BATCH random samples, "peak_mib".
"""

import json
import pathlib
import sys

import numpy as np
import torch

from benchmarks.peers.torch_net import Net
from benchmarks.timing import peak_mib, spread, timed


def optimizer(net: Net, solver: dict) -> torch.optim.Optimizer:
    """The optimizer of a solver {"type", "base_lr", "weight_decay", "momentum", "momentum2"}, with the layers' own rates."""
    groups = {}
    for parameter, rate in net.rates.items():
        groups.setdefault(rate, []).append(parameter)
    groups = [
        {
            "params": members,
            "lr": lr * solver["base_lr"],
            "weight_decay": decay * solver["weight_decay"],
        }
        for (lr, decay), members in groups.items()
    ]
    if solver["type"] == "Adam":
        return torch.optim.Adam(groups, betas=(solver["momentum"], solver["momentum2"]))
    return torch.optim.SGD(groups, momentum=solver["momentum"])


def differences(net: Net, batch: dict, loss: float, gradients: dict) -> dict:
    """How the net's loss and gradients on a batch differ from Caffe's, as shares of Caffe's; of the gradients the worst layer's."""
    found = net.loss(batch)
    found.backward()
    worst = 0.0
    for name, layer in net.convolutions.items():
        for place, parameter in enumerate((layer.weight, layer.bias)):
            expected = gradients[f"{name}/{place}"].ravel()
            worst = max(
                worst,
                float(
                    np.linalg.norm(parameter.grad.numpy().ravel() - expected)
                    / np.linalg.norm(expected)
                ),
            )
    return {
        "loss_difference": abs(float(found.detach()) - loss) / abs(loss),
        "gradient_difference": worst,
    }


def random_batch(samples: int, like: dict) -> dict:
    """A batch of random samples, its tensors shaped like those of another."""
    shapes = {name: (samples, *tensor.shape[1:]) for name, tensor in like.items()}
    return {
        "data": torch.rand(shapes["data"]) - 0.5,
        "mask_label": torch.randint(0, 2, shapes["mask_label"]).float(),
        "heatmaps": torch.rand(shapes["heatmaps"]),
    }


def main(folder: str, layout: str, samples: str, threads: str, least: str, seconds: str) -> None:
    torch.set_num_threads(int(threads))
    folder, layout = pathlib.Path(folder), getattr(torch, layout)
    batch = {name: torch.from_numpy(array) for name, array in np.load(folder / "batch.npz").items()}
    net = Net(
        json.loads((folder / "layers.json").read_text()),
        {name: tensor.shape[1] for name, tensor in batch.items()},
    )
    net.load(np.load(folder / "weights.npz"))
    facts = differences(
        net,
        batch,
        json.loads((folder / "loss.json").read_text()),
        np.load(folder / "gradients.npz"),
    )
    net = net.to(memory_format=layout)
    steps = optimizer(net, json.loads((folder / "solver.json").read_text()))
    batch = random_batch(int(samples), batch)
    batch["data"] = batch["data"].contiguous(memory_format=layout)

    def step() -> None:
        steps.zero_grad()
        loss = net.loss(batch)
        loss.backward()
        steps.step()
        loss.item()

    step()
    print(
        json.dumps(
            {
                "version": torch.__version__,
                **facts,
                **spread(timed(step, int(least), float(seconds))),
                "peak_mib": peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
