"""The settings of a loader. A net's data layer has them in its `param_str`, as JSON."""

import dataclasses
import json
import math
import typing
from typing import Any

from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import (
    BACKGROUND_MAX,
    BACKGROUND_SUM,
    DATA_BLOB,
    HEATMAP_COUNT,
    HEATMAPS_BLOB,
    MASK_LABEL_BLOB,
    STRIDE,
    Variant,
)


class LoaderError(UserError):
    """The loader cannot go on: a worker died, a record is unreadable, a setting is wrong."""

    code = 4


class RecordError(LoaderError):
    """A record cannot be used, which every run of the same settings meets again."""


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """The settings of a loader; as JSON they are the data layer's `param_str`.

    Attributes:
        source: The samples: an LMDB set, or another source that `sources.open_source` knows.
        batch_size: The number of samples in a batch.
        input_size: m, the side of the network's input in pixels; a multiple of 8.
        sigma: The standard deviation of the heatmaps' Gaussians in cells.
        background: BACKGROUND_SUM or BACKGROUND_MAX, as `heatmaps.encode` takes it.
        augment: Augment as in section 3.3; otherwise only letterbox.
        smallest_window: Above 0, the network sees each hand in a square window instead of the whole
            image. This is the least side of the window, as a multiple of the larger side of the
            keypoints' box.
        largest_window: The greatest side of the window, as such a multiple. 0 for the whole
            image, as in the paper.
        upright: In half of the samples, drawn at random, turn the image so that the hand points
            up, before the window is cut and turned as in section 3.3; an image without a hand
            into one of four directions.
        colours: Change colours and sharpness at random, too.
        strong: In half of the samples, drawn at random, stretch and turn the hand, cover parts of
            the image, and change colours and sharpness further than `colours` does, with noise.
        shuffle: Take the samples in a new random order in each epoch; otherwise in their own.
        seed: The seed of order and augmentation.
        first_iteration: The iteration to begin at, above 0 in a resumed run. Where Caffe adds up
            the gradients of several batches in an iteration (iter_size), each batch counts here.
        workers: The number of worker processes; with 0 the caller makes the batches itself.
    """

    source: str
    batch_size: int
    input_size: int
    sigma: float
    _: dataclasses.KW_ONLY
    background: str = BACKGROUND_SUM
    augment: bool = True
    smallest_window: float = 0.0
    largest_window: float = 0.0
    upright: bool = False
    colours: bool = False
    strong: bool = False
    shuffle: bool = True
    seed: int = 0
    first_iteration: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for key in ("batch_size", "sigma"):
            if not 0 < getattr(self, key) < math.inf:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be above 0")
        for key in ("seed", "first_iteration", "workers"):
            if getattr(self, key) < 0:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be 0 or more")
        if self.background not in (BACKGROUND_SUM, BACKGROUND_MAX):
            raise LoaderError(
                f"param_str: background is {self.background!r}, "
                f"it must be {BACKGROUND_SUM!r} or {BACKGROUND_MAX!r}"
            )
        if self.input_size < STRIDE or self.input_size % STRIDE:
            raise LoaderError(
                f"param_str: input_size is {self.input_size}, it must be a multiple of {STRIDE}"
            )
        windows = self.smallest_window, self.largest_window
        if windows != (0, 0) and not 1 <= windows[0] <= windows[1] < math.inf:
            raise LoaderError(
                f"param_str: smallest_window and largest_window are {windows[0]} and {windows[1]}, "
                "they must be 0, or from 1 on with the smallest first"
            )
        if self.upright and not self.largest_window:
            raise LoaderError(
                "param_str: upright turns windows: give largest_window too, which is 0"
            )

    @staticmethod
    def of(variant: Variant, source: str, **settings: Any) -> "LoaderConfig":
        """Make the settings with which a variant is trained.

        Args:
            variant: The variant of the network, which gives batch size, input size, sigma and
                background.
            source: The samples.
            **settings: Other values for any attributes.
        """
        own = {
            "batch_size": variant.batch_size,
            "input_size": variant.input_size,
            "sigma": variant.sigma,
            "background": variant.background,
        }
        return LoaderConfig(source, **{**own, **settings})

    @staticmethod
    def from_json(text: str) -> "LoaderConfig":
        """Read a `param_str`.

        Raises:
            LoaderError: The text is no JSON object, or a key is unknown, missing or wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LoaderError(f"param_str is not JSON ({error}): {text[:200]!r}") from None
        if not isinstance(values, dict):
            raise LoaderError(f"param_str must be a JSON object, it is {text[:200]!r}")
        values.pop("prefetch", None)  # the prototxts of earlier releases have it; always 2
        fields = {field.name: field for field in dataclasses.fields(LoaderConfig)}
        types = typing.get_type_hints(LoaderConfig)
        for key, value in values.items():
            if key not in fields:
                raise LoaderError(
                    f"param_str has the unknown key {key[:100]!r}; allowed: {', '.join(fields)}"
                )
            admitted = (int, float) if types[key] is float else types[key]
            # A bool is an int for Python, but not for whoever writes a param_str.
            if not isinstance(value, admitted) or (
                isinstance(value, bool) and admitted is not bool
            ):
                raise LoaderError(
                    f"param_str: {key} is {repr(value)[:100]}, a {types[key].__name__} is needed"
                )
        for field in fields.values():
            if field.default is dataclasses.MISSING and field.name not in values:
                raise LoaderError(f"param_str lacks the key {field.name!r}")
        return LoaderConfig(**values)

    def to_json(self) -> str:
        """Write these settings as a `param_str`."""
        return json.dumps(dataclasses.asdict(self))

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Return {blob: the shape of its array in a batch}; all are float32, as Caffe's blobs."""
        cells = self.input_size // STRIDE
        return {
            DATA_BLOB: (self.batch_size, 3, self.input_size, self.input_size),
            MASK_LABEL_BLOB: (self.batch_size, 1, cells, cells),
            HEATMAPS_BLOB: (self.batch_size, HEATMAP_COUNT, cells, cells),
        }
