"""Trains a net in PyTorch on the CPU, in PyTorch's own environment:

    python -m benchmarks.peers.torch_cpu_training FOLDER LAYOUT PRECISION BATCH THREADS LEAST

FOLDER is as `benchmarks.training.prepare` leaves it. LAYOUT is contiguous_format or channels_last,
which are PyTorch's names. PRECISION is float32, or bfloat16 by autocast. At least LEAST iterations
of BATCH random samples are timed, after one that does not count. Prints JSON: "version";
"loss_difference" and "gradient_difference" from Caffe's on the same weights and samples, relative,
in float32; the seconds an iteration as `timing.spread` has them; and "peak_mib".
"""

import json
import pathlib

import numpy as np
import torch

from benchmarks.peers.differences import relative_difference
from benchmarks.peers.torch_net import Net
from benchmarks.peers.torch_steps import make_optimizer, random_batch, train_step
from benchmarks.timing import peak_mib, run_worker, spread, timed


def differences(net: Net, batch: dict, loss: float, gradients: dict) -> dict[str, float]:
    """Compare the net's loss and gradients on a batch with Caffe's.

    Args:
        net: The net, with Caffe's weights.
        batch: {blob: tensor}.
        loss: Caffe's loss.
        gradients: {"layer/index": array} of Caffe.

    Returns:
        The differences as shares of Caffe's; of the gradients that of the worst layer.
    """
    net_loss = net.loss(batch)
    net_loss.backward()
    worst = 0.0
    for name, layer in net.convolutions.items():
        for index, parameter in enumerate((layer.weight, layer.bias)):
            expected = gradients[f"{name}/{index}"].ravel()
            worst = max(worst, relative_difference(parameter.grad.numpy().ravel(), expected))
    return {
        "loss_difference": relative_difference(net_loss.detach().numpy(), np.float64(loss)),
        "gradient_difference": worst,
    }


def main(
    folder_name: str, layout: str, precision: str, samples: str, threads: str, least: str
) -> None:
    """Run the command."""
    torch.set_num_threads(int(threads))
    folder, memory_format = pathlib.Path(folder_name), getattr(torch, layout)
    batch = {name: torch.from_numpy(array) for name, array in np.load(folder / "batch.npz").items()}
    layers = json.loads((folder / "layers.json").read_text())
    net = Net(layers, {name: tensor.shape[1] for name, tensor in batch.items()})
    net.load(np.load(folder / "weights.npz"))
    net = net.to(memory_format=memory_format)
    batch["data"] = batch["data"].contiguous(memory_format=memory_format)
    loss = json.loads((folder / "loss.json").read_text())
    facts = differences(net, batch, loss, np.load(folder / "gradients.npz"))
    optimizer = make_optimizer(net, json.loads((folder / "solver.json").read_text()))
    batch = random_batch(
        {name: (int(samples), *tensor.shape[1:]) for name, tensor in batch.items()}
    )
    batch["data"] = batch["data"].contiguous(memory_format=memory_format)
    in_bfloat16 = precision == "bfloat16"
    train_step(net, optimizer, batch, in_bfloat16)
    times = timed(lambda: train_step(net, optimizer, batch, in_bfloat16), int(least), 0)
    result = {"version": torch.__version__, **facts, **spread(times), "peak_mib": peak_mib()}
    print(json.dumps(result))


if __name__ == "__main__":
    run_worker(main, __doc__)
