"""HandPredictor, an image in and keypoints out: single pass and pyramid.

Other rows show how the cost grows with the levels, the image and the batch.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from benchmarks.hands import HEIGHT, WIDTH
from benchmarks.jobs import Job, Row, in_process
from benchmarks.network import ORDER
from benchmarks.timing import peak_mib, spread, timed
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import ENGINES
from mcc_caffe.paper import PAPER_LEVELS
from mcc_caffe.predictor import HandPredictor

TABLE, LEVELS, SIZES, BATCHES = "end_to_end", "levels", "sizes", "batches"
LEVEL_COUNTS = (1, 2, 4, 8, 16)
WIDTHS = (320, 640, 1280, 2560)  # pixels, of images 4 : 3
BATCH_LEVELS = 8  # levels that the batches divide


def measure_levels(
    variant: str,
    engine: str,
    weights: pathlib.Path,
    image: np.ndarray,
    *,
    level_counts: tuple[int | str, ...],
    least: int,
    seconds: float,
) -> list[Row]:
    """Return a row for each number of levels, in which PAPER_LEVELS is the paper's pyramid.

    A number that the image's pyramid does not have gives no row.
    """
    rows = []
    for count in level_counts:
        predictor = HandPredictor(weights, variant, levels=count, engine=engine)
        pose = predictor.predict(image)
        level_count = len(pose.image_to_input)
        if isinstance(count, int) and level_count < count:
            continue
        rows.append(
            {
                "variant": variant,
                "engine": engine,
                "width": image.shape[1],
                "height": image.shape[0],
                "levels": level_count,
                "pyramid": count == PAPER_LEVELS,
                **time_predictions(predictor, image, least, seconds),
                "status": "",
            }
        )
    return rows


def measure_with_memory(
    variant: str,
    engine: str,
    weights: pathlib.Path,
    image: np.ndarray,
    *,
    level_count: int | str,
    least: int,
    seconds: float,
) -> list[Row]:
    """Return the row of one number of levels, with the most memory that this process ever held."""
    rows = measure_levels(
        variant,
        engine,
        weights,
        image,
        level_counts=(level_count,),
        least=least,
        seconds=seconds,
    )
    return [row | {"peak_mib": peak_mib()} for row in rows]


def time_predictions(
    predictor: HandPredictor, image: np.ndarray, least: int, seconds: float
) -> dict[str, Any]:
    """Return `timing.spread` of the seconds, and "network", the median of those in the network."""
    network_seconds: list[float] = []

    def predict() -> None:
        network_seconds.append(predictor.predict(image).timings["network"])

    return {**spread(timed(predict, least, seconds)), "network": float(np.median(network_seconds))}


def measure_sizes(
    variant: str,
    engine: str,
    weights: pathlib.Path,
    image: np.ndarray,
    *,
    least: int,
    seconds: float,
) -> list[Row]:
    """Return the rows of a single pass and of the pyramid, for the image in each of WIDTHS."""
    rows = []
    for width in WIDTHS:
        resized = cv2.resize(image, (width, width * 3 // 4), interpolation=cv2.INTER_LINEAR)
        rows += measure_levels(
            variant,
            engine,
            weights,
            resized,
            level_counts=(1, PAPER_LEVELS),
            least=least,
            seconds=seconds,
        )
    return rows


def measure_batches(
    variant: str,
    engine: str,
    weights: pathlib.Path,
    image: np.ndarray,
    *,
    least: int,
    seconds: float,
) -> list[Row]:
    """Return a row for each number of levels that go through the net at a time."""
    rows = []
    for batch in (1, 2, 4, 8):
        predictor = HandPredictor(weights, variant, levels=BATCH_LEVELS, batch=batch, engine=engine)
        predictor.predict(image)
        times = timed(functools.partial(predictor.predict, image), least, seconds)
        rows.append(
            {
                "variant": variant,
                "engine": engine,
                "batch": batch,
                "levels": BATCH_LEVELS,
                **spread(times),
                "status": "",
            }
        )
    return rows


def measure(
    function: Callable[..., list[Row]], variant: str, engine: str, *args: Any, **options: Any
) -> list[Row]:
    """Return the rows of one of the functions above, called in a process of its own.

    Where the engine cannot run, the only row says why.
    """
    try:
        return in_process(functools.partial(function, variant, engine, *args, **options))
    except UserError as error:
        return [{"variant": variant, "engine": engine, "status": f"not run: {error}"}]


def jobs(folder: pathlib.Path, image: np.ndarray, quick: bool) -> list[Job]:
    """Return the jobs that measure HandPredictor.

    Args:
        folder: Folder that `benchmarks.network.prepare` puts a variant's weights in.
        image: BGR uint8; it is resized to 640 x 480.
        quick: Leave out most of the paper variant's rows.
    """
    image = cv2.resize(image, (WIDTH, HEIGHT))
    steps = []

    def add(
        table: str, function: Callable[..., list[Row]], variant: str, engine: str, **options: Any
    ) -> None:
        weights = folder / variant / "weights.caffemodel"
        label = f"{variant}, {engine}: {table.replace('_', ' ')}"
        run = functools.partial(measure, function, variant, engine, weights, image, **options)
        steps.append(Job(table, label, run))

    for variant in ORDER:
        is_mini = variant == "mini"
        least = 3 if is_mini else 1
        for engine in ENGINES:
            for level_count in (1, PAPER_LEVELS) if is_mini or not quick else (1,):
                add(
                    TABLE,
                    measure_with_memory,
                    variant,
                    engine,
                    level_count=level_count,
                    least=5 if is_mini else 1,
                    seconds=1.0,
                )
            if is_mini or not quick:
                add(
                    LEVELS,
                    measure_levels,
                    variant,
                    engine,
                    level_counts=LEVEL_COUNTS if is_mini else LEVEL_COUNTS[:4],
                    least=least,
                    seconds=0.5,
                )
                add(BATCHES, measure_batches, variant, engine, least=least, seconds=0.5)
            if is_mini:
                add(SIZES, measure_sizes, variant, engine, least=least, seconds=0.5)
    return steps
