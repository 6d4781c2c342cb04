"""Our nets in PyTorch, built layer by layer from the description in a prototxt.

A description is a list of Caffe layers, as `google.protobuf.json_format` spells a NetParameter's
`layer` with the names of its fields. This module runs in PyTorch's environment, without Caffe.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

_INPUTS = ("Input", "Python")  # types of layers that only feed the net


class Net(nn.Module):
    """The net of a description.

    `net(blobs)` returns {blob: tensor} of every layer's tops, in-place layers included.

    Attributes:
        convolutions: {layer: its convolution}.
        multipliers: {parameter: (lr_mult, decay_mult)}.
        loss_weights: {loss blob: weight}.
    """

    def __init__(self, layers: list[dict], channels: dict[str, int]):
        """Build the net.

        Args:
            layers: The description.
            channels: {input blob: its channels}.

        Raises:
            ValueError: For a layer or a setting that these nets do not have.
        """
        super().__init__()
        self.convolutions = nn.ModuleDict()
        self.multipliers: dict[nn.Parameter, tuple[float, float]] = {}
        self.loss_weights: dict[str, float] = {}
        self._steps, channels = [], dict(channels)
        for layer in layers:
            kind = layer["type"]
            if kind in _INPUTS:
                continue
            bottoms, (top, *_) = layer["bottom"], layer.get("top") or [None]
            make = getattr(self, f"_{kind.lower()}", None)
            if make is None:
                raise ValueError(f"layer {layer['name']} is a {kind}, which this net does not know")
            self._steps.append((make(layer, [channels[name] for name in bottoms]), bottoms, top))
            if kind == "Convolution":
                channels[top] = layer["convolution_param"]["num_output"]
            elif kind == "Concat":
                channels[top] = sum(channels[name] for name in bottoms)
            elif top:
                channels[top] = channels[bottoms[0]]
            if kind.endswith("Loss"):
                self.loss_weights[top] = layer.get("loss_weight", [1.0])[0]

    def forward(self, blobs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the input blobs and those of every layer."""
        blobs = dict(blobs)
        for run, bottoms, top in self._steps:
            blobs[top] = run(*(blobs[name] for name in bottoms))
        return blobs

    def loss(self, blobs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum of the losses, as Caffe's solver takes it."""
        outputs = self(blobs)
        return sum(weight * outputs[name] for name, weight in self.loss_weights.items())

    def load(self, arrays: dict) -> None:
        """Copy {"layer/0": kernel, "layer/1": bias} into every convolution."""
        for name, layer in self.convolutions.items():
            for index, parameter in enumerate((layer.weight, layer.bias)):
                array = torch.from_numpy(arrays[f"{name}/{index}"])
                with torch.no_grad():
                    parameter.copy_(array.reshape(parameter.shape))

    # Each method below makes the function of a layer of the type that it is named after, from the
    # layer's description and the channels of its bottoms.

    def _convolution(self, layer: dict, channels: list[int]) -> nn.Module:
        settings = dict(layer["convolution_param"])
        side, (pad,) = settings.pop("kernel_size")[0], settings.pop("pad", [0])
        convolution = nn.Conv2d(channels[0], settings.pop("num_output"), side, padding=pad)
        unknown = {key: value for key, value in settings.items() if not key.endswith("_filler")}
        if unknown:
            raise ValueError(
                f"layer {layer['name']} has the settings {unknown}, which this net does not know"
            )
        self.convolutions[layer["name"]] = convolution
        parameters = (convolution.weight, convolution.bias)
        for parameter, spec in zip(parameters, layer.get("param", [{}, {}])):
            self.multipliers[parameter] = (spec.get("lr_mult", 1.0), spec.get("decay_mult", 1.0))
        return convolution

    def _relu(self, layer: dict, channels: list[int]) -> nn.Module:
        slope = layer.get("relu_param", {}).get("negative_slope", 0.0)
        return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def _pooling(self, layer: dict, channels: list[int]) -> nn.Module:
        settings = {"pool": "MAX", **layer["pooling_param"]}
        if settings.pop("pool") != "MAX" or set(settings) - {"kernel_size", "stride"}:
            raise ValueError(
                f"layer {layer['name']} pools by {layer['pooling_param']}, "
                "which this net does not know"
            )
        # ceil_mode, since Caffe rounds up.
        return nn.MaxPool2d(settings["kernel_size"], settings["stride"], ceil_mode=True)

    def _concat(self, layer: dict, channels: list[int]) -> Callable[..., torch.Tensor]:
        return lambda *blobs: torch.cat(blobs, 1)

    def _softmax(self, layer: dict, channels: list[int]) -> nn.Module:
        return nn.Softmax(dim=1)

    def _softmaxwithloss(self, layer: dict, channels: list[int]) -> Callable[..., torch.Tensor]:
        ignored = layer["loss_param"]["ignore_label"]
        if layer["loss_param"].get("normalize", True):
            raise ValueError(f"layer {layer['name']} is normalized by its cells: this net is not")

        def run(scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            classes = label.reshape(label.shape[0], *label.shape[-2:]).long()
            total = functional.cross_entropy(scores, classes, ignore_index=ignored, reduction="sum")
            return total / len(scores)

        return run

    def _euclideanloss(self, layer: dict, channels: list[int]) -> Callable[..., torch.Tensor]:
        def run(heatmaps: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            return functional.mse_loss(heatmaps, truth, reduction="sum") / (2 * len(heatmaps))

        return run
