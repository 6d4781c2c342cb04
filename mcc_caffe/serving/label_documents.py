"""What a person's labels of one image are, as the page sends them and the files hold them."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.keypoint_labels import check_pixels, make_keypoints
from mcc_caffe.paper import KEYPOINT_COUNT
from mcc_caffe.serving.run_lengths import check_runs

# open: not labelled yet, or not to the end; done: a person says that the labels are right;
# none: a person says that the image is not to be labelled, such as one without a hand.
Status = Literal["open", "done", "none"]
Split = Literal["Train", "Test"]  # OneHand10K's names

_Count = Annotated[int, Field(ge=0)]


def describe_first_error(error: ValidationError) -> str:
    """Return the first error of a record as a line: its field, where it is of one, and a reason."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


class _Record(BaseModel):
    """A record of which every field is known and none changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Record):
    """One of the 21 keypoints.

    Attributes:
        x, y: Where it is, in pixels of the upright image; the first pixel's centre is (0, 0).
        missing: Whether it cannot be seen or judged. It then counts as not labelled, and x, y are
            only where the page shows it.
    """

    x: FiniteFloat
    y: FiniteFloat
    missing: bool


class Labels(_Record):
    """The labels of one image.

    Attributes:
        status: How far the person is with it.
        points: The 21 keypoints in the order of `mcc_caffe.core.hand.NAMES`.
        runs: The mask, as `mcc_caffe.serving.run_lengths` writes it.
    """

    status: Status
    points: Annotated[
        tuple[Point, ...], Field(min_length=KEYPOINT_COUNT, max_length=KEYPOINT_COUNT)
    ]
    runs: tuple[_Count, ...]

    def keypoints(self) -> np.ndarray:
        """Return the keypoints as a `Sample` has them, (21, 3) float32.

        Raises:
            SampleError: They cannot be pixels of an image, since all lie in its left top corner.
        """
        xy = np.array([(point.x, point.y) for point in self.points])
        labelled = np.array([not point.missing for point in self.points])
        return make_keypoints(xy, labelled, "the labels")

    def check_size(self, width: int, height: int) -> None:
        """Check that the labels are those of an image of this size.

        Args:
            width: The upright image's width in pixels.
            height: Its height.

        Raises:
            UserError: A point lies outside, or the mask has another size.
        """
        check_runs(self.runs, width, height)
        for index, point in enumerate(self.points):
            if not (0 <= point.x <= width - 1 and 0 <= point.y <= height - 1):
                raise UserError(
                    f"point {index} is at ({point.x:g}, {point.y:g}), outside of the image of "
                    f"{width} x {height} pixels"
                )

    def find_gap(self) -> str:
        """Say what keeps the labels from being complete; "" where nothing does.

        A hand without a mask would teach the net that there is none, and a hand without a point
        is no sample.
        """
        if all(point.missing for point in self.points):
            return "all 21 points are missing: place at least one, or choose No hand"
        if not sum(self.runs[1::2]):
            return "the mask is empty: paint the hand with the brush"
        try:
            keypoints = self.keypoints()
            # OneHand10K's layout holds them in whole pixels.
            check_pixels(keypoints[keypoints[:, 2] > 0, :2].round(), "the labels")
        except SampleError:
            return "all points lie in the image's left top corner: drag them to their joints"
        return ""


class Answer(_Record):
    """What the net says of one image, with which a person starts.

    Attributes:
        net: Names the weights that said it.
        stamp: Inode, size and both times of the image's file, which differ once it has changed.
        digest: SHA-256 of the file, in hexadecimal digits.
        width, height: The upright image's sides in pixels.
        is_turned: Whether the EXIF orientation says that the pixels are stored otherwise.
        score: The mean confidence of the 21 keypoints, about 0 to 1.
        labels: The keypoints, missing where the net is not sure of them, and the mask.
    """

    net: str
    stamp: tuple[int, int, int, int]
    digest: str
    width: int
    height: int
    is_turned: bool
    score: float
    labels: Labels


class SavedLabels(_Record):
    """The file that holds a person's labels of one image.

    Attributes:
        name: The image's path below the folder, for readers of the file.
        digest, width, height, is_turned: The image's, as in `Answer`.
        revision: Counts the changes, from 1.
        token: What the page called the last change, so that a change that it sends again, since
            the answer was lost, does not look like another tab's.
        split: The split that the image was put into when it was first done.
        group: Names the photograph that the image is a crop of; None where none is known.
        labels: The labels.
    """

    name: str
    digest: str
    width: int
    height: int
    is_turned: bool
    revision: Annotated[int, Field(ge=1)]
    token: str
    split: Split | None
    group: str | None = None
    labels: Labels

    @model_validator(mode="after")
    def _check_labels(self) -> "SavedLabels":
        """Check the labels of a file that a person or another program may have changed.

        Raises:
            PydanticCustomError: They do not fit the image, or are not what their status says.
        """
        fault = self._find_fault()
        if fault:
            raise PydanticCustomError("labels", "{fault}", {"fault": fault})
        return self

    def _find_fault(self) -> str:
        """Say what is wrong with the labels; "" where nothing is."""
        try:
            self.labels.check_size(self.width, self.height)
        except UserError as error:
            return str(error)
        if self.labels.status != "done":
            return ""
        gap = self.labels.find_gap() or ("" if self.split else "the split is missing")
        return gap and f"the status is done, but {gap}"
