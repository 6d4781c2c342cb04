"""A file that `mcc_caffe.infer` looks at, and the files and folders that its results become."""

from pathlib import Path
from typing import NamedTuple

from mcc_caffe.inference.formats.base import ResultFormat
from mcc_caffe.inference.result_paths import with_suffix


class Job(NamedTuple):
    """A file to look at, the path of its results without suffix, and whether it is a video."""

    source: Path
    result: Path
    is_video: bool = False

    def result_paths(
        self, result_format: ResultFormat | None, *, drawings: bool, heatmaps: bool
    ) -> list[Path]:
        """Return the files and folders that are written; without a format, our JSON is."""
        paths = []
        if drawings:
            paths.append(with_suffix(self.result, ".mp4" if self.is_video else ".png"))
        if result_format is None:
            paths.append(with_suffix(self.result, ".json"))
        else:
            paths += result_format.paths(self.result, self.is_video)
        if heatmaps and not self.is_video:
            paths.append(with_suffix(self.result, ".h5"))
        return paths

    def make_folder(
        self, result_format: ResultFormat | None, *, drawings: bool, heatmaps: bool
    ) -> None:
        """Make the folder of the results, unless the file has no results of its own.

        With COCO results and no drawings it has none: their two files are of the run.
        """
        if self.result_paths(result_format, drawings=drawings, heatmaps=heatmaps):
            self.result.parent.mkdir(parents=True, exist_ok=True)
