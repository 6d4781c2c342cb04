"""HandPredictor, a picture in and keypoints out: single pass and pyramid, and how the cost grows with levels, picture and batch."""

import pathlib

import cv2
import numpy as np

from benchmarks.jobs import Job, in_process
from benchmarks.network import ORDER
from benchmarks.timing import peak_mib, spread, timed
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import ENGINES
from mcc_caffe.predictor import HandPredictor

TABLE, LEVELS, SIZES, BATCHES = "end_to_end", "levels", "sizes", "batches"
WIDTH, HEIGHT = 640, 480
COUNTS = (1, 2, 4, 8, 16)  # levels
WIDTHS = (320, 640, 1280, 2560)  # pixels, of pictures 4 : 3
BATCH_LEVELS = 8  # levels that the batches divide


def passes(
    variant: str,
    engine: str,
    weights,
    picture: np.ndarray,
    counts: tuple,
    least: int,
    seconds: float,
) -> list:
    """A row for each number of levels (None: the paper's pyramid) of one picture."""
    rows = []
    for count in counts:
        predictor = HandPredictor(weights, variant, levels=count, engine=engine)
        pose = predictor.predict(picture)
        if count and pose.levels < count:
            continue
        poses = []
        times = timed(lambda: poses.append(predictor.predict(picture)), least, seconds)
        network = float(np.median([one.timings["network"] for one in poses]))
        rows.append(
            {
                "variant": variant,
                "engine": engine,
                "width": picture.shape[1],
                "height": picture.shape[0],
                "levels": pose.levels,
                "pyramid": count is None,
                **spread(times),
                "network": network,
                "peak_mib": peak_mib(),
                "status": "",
            }
        )
    return rows


def sizes(
    variant: str, engine: str, weights, picture: np.ndarray, least: int, seconds: float
) -> list:
    """Rows for single pass and pyramid of the picture in each of WIDTHS."""
    drawn = [
        cv2.resize(picture, (width, width * 3 // 4), interpolation=cv2.INTER_LINEAR)
        for width in WIDTHS
    ]
    return [
        row
        for one in drawn
        for row in passes(variant, engine, weights, one, (1, None), least, seconds)
    ]


def batches(
    variant: str, engine: str, weights, picture: np.ndarray, least: int, seconds: float
) -> list:
    """Rows for BATCH_LEVELS levels, so many at a time through the net."""
    rows = []
    for batch in (1, 2, 4, 8):
        predictor = HandPredictor(weights, variant, levels=BATCH_LEVELS, batch=batch, engine=engine)
        predictor.predict(picture)
        rows.append(
            {
                "variant": variant,
                "engine": engine,
                "batch": batch,
                "levels": BATCH_LEVELS,
                **spread(timed(lambda: predictor.predict(picture), least, seconds)),
                "status": "",
            }
        )
    return rows


def measure(function, variant: str, engine: str, *args) -> list:
    """The rows of one of the functions above, in a process of its own; one that says why where the engine cannot run."""
    try:
        return in_process(function, variant, engine, *args)
    except UserError as error:
        return [{"variant": variant, "engine": engine, "status": f"not run: {error}"}]


def jobs(folder: pathlib.Path, picture: np.ndarray, quick: bool) -> list:
    """picture: BGR. folder: where `benchmarks.network.prepare` puts a variant's weights."""
    picture = cv2.resize(picture, (WIDTH, HEIGHT))
    found = []

    def add(table: str, function, variant: str, engine: str, *args) -> None:
        weights = folder / variant / "weights.caffemodel"
        found.append(
            Job(
                table,
                f"{variant}, {engine}: {table.replace('_', ' ')}",
                lambda: measure(function, variant, engine, weights, picture, *args),
            )
        )

    for variant in ORDER:
        small = variant == "mini"
        for engine in ENGINES:
            add(
                TABLE,
                passes,
                variant,
                engine,
                (1, None) if small or not quick else (1,),
                5 if small else 1,
                1.0,
            )
            if small or not quick:
                add(
                    LEVELS,
                    passes,
                    variant,
                    engine,
                    COUNTS if small else COUNTS[:4],
                    3 if small else 1,
                    0.5,
                )
                add(BATCHES, batches, variant, engine, 3 if small else 1, 0.5)
            if small:
                add(SIZES, sizes, variant, engine, 3, 0.5)
    return found
