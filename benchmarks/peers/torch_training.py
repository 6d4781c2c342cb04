"""Seconds an iteration of a train net in PyTorch's eager mode, in an interpreter that has it:

    python -m benchmarks.peers.torch_training LAYERS.json DEVICE BATCH ITERATIONS TF32

LAYERS.json describes the net as `benchmarks.peers.torch_net` takes it, its inputs first, TF32 is 0 or 1. Momentum, decay and the
layers' rates are those of Caffe's solver; the inputs stay where they are. Prints JSON.
"""

import json
import sys
import time

import torch

from benchmarks.peers.torch_net import Net


def main(description: str, device: str, batch: str, iterations: str, tf32: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = bool(int(tf32))
    torch.manual_seed(0)
    with open(description) as file:
        layers = json.load(file)
    shapes = {
        top: [int(batch), *map(int, shape["dim"][1:])]
        for top, shape in zip(layers[0]["top"], layers[0]["input_param"]["shape"])
    }
    net = Net(layers, {name: shape[1] for name, shape in shapes.items()}).to(device)
    blobs = {name: torch.rand(shape, device=device) for name, shape in shapes.items()}
    blobs["mask_label"] = blobs["mask_label"].round()
    rates = [
        {"params": [parameter], "lr": 1e-9 * rate, "weight_decay": 5e-4 * decay}
        for parameter, (rate, decay) in net.rates.items()
    ]
    solver = torch.optim.SGD(rates, momentum=0.9)

    def step() -> float:
        solver.zero_grad()
        loss = net.loss(blobs)
        loss.backward()
        solver.step()
        return loss.item()  # as Caffe's solver does, this waits for the forward pass

    for _ in range(2):
        step()
    start = time.perf_counter()
    for _ in range(int(iterations)):
        step()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / int(iterations)
    print(
        json.dumps(
            {"seconds": seconds, "mib": torch.cuda.max_memory_reserved() >> 20 if on_gpu else None}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
