"""Seconds an iteration of a train net in PyTorch's eager mode, in an interpreter that has it:

    python -m benchmarks.peers.torch_gpu_training LAYERS.json DEVICE BATCH ITERATIONS TF32

LAYERS.json describes the net as `benchmarks.peers.torch_net` takes it, with Input layers. DEVICE is
"cpu" or a GPU with its id, such as "cuda:0"; TF32 is 0 or 1. Momentum, decay and the layers' rates
are those of Caffe's solver. The inputs stay on the device. Prints JSON: "seconds", and "mib",
`timing.gpu_memory_mib` after the last iteration.
"""

import json
import time

import torch

from benchmarks.peers.torch_net import Net
from benchmarks.peers.torch_steps import make_optimizer, random_batch, train_step
from benchmarks.timing import gpu_memory_mib, run_worker

WARM_UP = 2  # iterations in which PyTorch chooses and allocates once
SOLVER = {"type": "SGD", "base_lr": 1e-9, "weight_decay": 5e-4, "momentum": 0.9}


def main(description: str, device: str, batch_size: str, iterations: str, tf32: str) -> None:
    """Run the command."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = bool(int(tf32))
    torch.manual_seed(0)
    with open(description) as file:
        layers = json.load(file)
    shapes = {
        layer["top"][0]: (int(batch_size), *map(int, layer["input_param"]["shape"][0]["dim"][1:]))
        for layer in layers
        if layer["type"] == "Input"
    }
    net = Net(layers, {name: shape[1] for name, shape in shapes.items()}).to(device)
    batch = random_batch(shapes, device)
    optimizer = make_optimizer(net, SOLVER)
    gpu = torch.device(device).index  # None for the CPU
    for _ in range(WARM_UP):
        train_step(net, optimizer, batch)
    start = time.perf_counter()
    for _ in range(int(iterations)):
        train_step(net, optimizer, batch)
    if gpu is not None:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / int(iterations)
    print(json.dumps({"seconds": seconds, "mib": gpu_memory_mib(gpu)}))


if __name__ == "__main__":
    run_worker(main, __doc__)
