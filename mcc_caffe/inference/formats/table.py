"""CSV: a table with a row for each keypoint of each hand."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.formats.base import (
    CONFIDENCE_DIGITS,
    COORDINATE_DIGITS,
    ImageRecord,
    ReadHand,
    ReadImage,
    ResultFormat,
)
from mcc_caffe.inference.formats.parsing import as_keypoints, box_of_sides, frames_error
from mcc_caffe.inference.reports import BOX_COLUMNS, CSV_COLUMNS, POINT_COLUMNS, TIME_DIGITS
from mcc_caffe.inference.result_paths import with_suffix

_HEADER = ",".join(CSV_COLUMNS) + "\n"


class TableFormat(ResultFormat):
    """Writes RESULT.csv for an image or a video."""

    media_type = "text/csv"

    def paths(self, result: Path, is_video: bool) -> list[Path]:
        """Return the file of an image or video."""
        return [with_suffix(result, ".csv")]

    def describe(self, image: ImageRecord) -> str:
        """Return the rows of an image or frame; x and y are empty where a keypoint is missing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        frame = "" if image.frame is None else image.frame
        time = "" if image.time is None else round(image.time, TIME_DIGITS)
        for number, hand in enumerate(image.hands):
            track_id = "" if hand.track_id is None else hand.track_id
            score = round(hand.score, CONFIDENCE_DIGITS)
            start = [image.source, frame, time, number, track_id, score]
            for name, (x, y, confidence), is_present in zip(
                NAMES, hand.keypoints.tolist(), hand.present.tolist()
            ):
                where = [round(x, COORDINATE_DIGITS), round(y, COORDINATE_DIGITS)]
                row = [*start, name, *(where if is_present else ("", ""))]
                writer.writerow([*row, round(confidence, CONFIDENCE_DIGITS), *hand.box])
        return text.getvalue()

    def document(self, text: str) -> str:
        """Return the content of an image's file."""
        return _HEADER + text

    def write_video(self, result: Path, texts: Sequence[str]) -> None:
        """Write the file of a video."""
        self.write_image(result, "".join(texts))


def read_table(path: Path, lines: Iterable[str]) -> list[ReadImage]:
    """Read the hands of the images of a table, which may lack the columns of the boxes.

    A table without rows is that of an image without hands, of which it says no more than its own
    name does.

    Raises:
        UserError: The content is not of this form, or is a video's.
    """
    reader = csv.DictReader(lines)
    columns = tuple(reader.fieldnames or ())
    if columns not in (CSV_COLUMNS, POINT_COLUMNS):
        raise UserError(f"{path}: its first line is not {_HEADER.strip()}")
    hands: dict[str, dict[str, ReadHand]] = {}
    for row in reader:
        try:
            if row["frame"]:
                raise frames_error(path)
            sides = [float(row[column]) for column in BOX_COLUMNS if row.get(column)]
            empty = ReadHand(
                np.full((len(NAMES), 3), np.nan),
                float(row["score"]),
                box_ltrb=box_of_sides(sides),
            )
            hand = hands.setdefault(row["image"], {}).setdefault(row["hand"], empty)
            if row["x"]:
                numbers = [float(row[column]) for column in ("x", "y", "confidence")]
                index = NAMES.index(row["keypoint"])
                if not np.isnan(hand.keypoints[index]).any():
                    raise ValueError(f"{row['keypoint']} of this hand stands in a line above, too")
                hand.keypoints[index] = numbers
            as_keypoints(hand.keypoints)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    # Our tables have no other mark than their columns.
    is_own = columns == CSV_COLUMNS
    if not hands:
        return [ReadImage(path.stem, False, [], is_own)]
    return [
        ReadImage(name or path.stem, bool(name), list(image_hands.values()), is_own)
        for name, image_hands in hands.items()
    ]
