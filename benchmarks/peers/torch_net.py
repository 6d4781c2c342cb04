"""Our nets in PyTorch, built layer by layer from a prototxt's own description; runs in PyTorch's environment, without Caffe.

A description is a list of Caffe layers as `google.protobuf.json_format` spells a NetParameter's `layer`, field names kept.
"""

import torch
from torch import nn
from torch.nn import functional

_INPUTS = ("Input", "Python")


class Net(nn.Module):
    """The net of a description: `net(blobs)` gives {blob: tensor} of every layer's tops, in-place layers included.

    rates: {parameter: (lr_mult, decay_mult)}. loss_weights: {loss blob: weight}. ValueError for a layer or a setting that these
    nets do not have.
    """

    def __init__(self, layers: list, channels: dict):
        """channels: {input blob: its channels}."""
        super().__init__()
        self.convolutions, self.rates, self.loss_weights = nn.ModuleDict(), {}, {}
        self._steps, channels = [], dict(channels)
        for layer in layers:
            if layer["type"] in _INPUTS:
                continue
            bottoms, (top, *_) = layer["bottom"], layer.get("top") or [None]
            run = getattr(self, f"_{layer['type'].lower()}", None)
            if run is None:
                raise ValueError(
                    f"layer {layer['name']} is a {layer['type']}, which this net does not know"
                )
            self._steps.append((run(layer, [channels[name] for name in bottoms]), bottoms, top))
            if layer["type"] == "Convolution":
                channels[top] = layer["convolution_param"]["num_output"]
            elif top:
                channels[top] = (
                    sum(channels[name] for name in bottoms)
                    if layer["type"] == "Concat"
                    else channels[bottoms[0]]
                )
            if layer["type"].endswith("Loss"):
                self.loss_weights[top] = layer.get("loss_weight", [1.0])[0]

    def forward(self, blobs: dict) -> dict:
        blobs = dict(blobs)
        for run, bottoms, top in self._steps:
            blobs[top] = run(*(blobs[name] for name in bottoms))
        return blobs

    def loss(self, blobs: dict) -> torch.Tensor:
        """The weighted sum of the losses, as Caffe's solver takes it."""
        found = self(blobs)
        return sum(weight * found[name] for name, weight in self.loss_weights.items())

    def load(self, arrays: dict) -> None:
        """Takes {"layer/0": kernel, "layer/1": bias} for every convolution."""
        for name, layer in self.convolutions.items():
            for place, parameter in enumerate((layer.weight, layer.bias)):
                with torch.no_grad():
                    parameter.copy_(
                        torch.from_numpy(arrays[f"{name}/{place}"]).reshape(parameter.shape)
                    )

    def _convolution(self, layer: dict, channels: list):
        setting = dict(layer["convolution_param"])
        side, (pad,) = setting.pop("kernel_size")[0], setting.pop("pad", [0])
        made = nn.Conv2d(channels[0], setting.pop("num_output"), side, padding=pad)
        setting = {key: value for key, value in setting.items() if not key.endswith("_filler")}
        if setting:
            raise ValueError(
                f"layer {layer['name']} has the settings {setting}, which this net does not know"
            )
        self.convolutions[layer["name"]] = made
        for parameter, spec in zip((made.weight, made.bias), layer.get("param", [{}, {}])):
            self.rates[parameter] = (spec.get("lr_mult", 1.0), spec.get("decay_mult", 1.0))
        return made

    def _relu(self, layer: dict, channels: list):
        slope = layer.get("relu_param", {}).get("negative_slope", 0.0)
        return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def _pooling(self, layer: dict, channels: list):
        setting = {"pool": "MAX", **layer["pooling_param"]}
        if setting.pop("pool") != "MAX" or set(setting) - {"kernel_size", "stride"}:
            raise ValueError(
                f"layer {layer['name']} pools by {layer['pooling_param']}, which this net does not know"
            )
        return nn.MaxPool2d(
            setting["kernel_size"], setting["stride"], ceil_mode=True
        )  # Caffe rounds up

    def _concat(self, layer: dict, channels: list):
        return lambda *blobs: torch.cat(blobs, 1)

    def _softmax(self, layer: dict, channels: list):
        return nn.Softmax(dim=1)

    def _softmaxwithloss(self, layer: dict, channels: list):
        ignored = layer["loss_param"]["ignore_label"]
        if layer["loss_param"].get("normalize", True):
            raise ValueError(f"layer {layer['name']} is normalized by its cells: this net is not")
        return lambda scores, label: (
            functional.cross_entropy(
                scores,
                label.reshape(label.shape[0], *label.shape[-2:]).long(),
                ignore_index=ignored,
                reduction="sum",
            )
            / len(scores)
        )

    def _euclideanloss(self, layer: dict, channels: list):
        return lambda found, truth: (
            functional.mse_loss(found, truth, reduction="sum") / (2 * len(found))
        )
