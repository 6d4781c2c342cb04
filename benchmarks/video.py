"""What following hands in a video costs, and what smoothing does: `python -m benchmarks.video`.

Rendered clips of one hand that stands still, one that moves, one that moves and bends, two that
cross, and none go through `HandTracker`, and beside it through a search of every frame and a single
pass of every frame, frame by frame in turn. It prints two tables and writes them to --out with a
JSON of the same:

- the cost of a frame in single passes of the net and in ms, the share of frames in which each hand
  is seen, and the ids that it gets (one, where none is lost or swapped);
- jitter of the still hand and lag of the moving ones, before and after smoothing.

--photographs FOLDER adds clips of up to eight photographs of the folder: a window that stands still
over each, with a camera's noise, and one that moves.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from benchmarks.output import add_out_option, check_output, write_results
from data_tools.hands.clip import HandPath, render_clip
from mcc_caffe.core.commands import command_parser, positive_int, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.evaluation.scene_runner import CountingEngine, count_passes
from mcc_caffe.hand_tracker import HandTracker, TrackedHand
from mcc_caffe.inference.input_files import IMAGE_SUFFIXES, read_image
from mcc_caffe.predictor import HandPredictor

FPS = 30
NOISE = 5.0  # grey levels
PHOTOGRAPHS = 8
WINDOW = 0.8  # of a photograph's sides, in the clips that move over it
SETTLING = 10  # frames of a clip that do not count for its steadiness
SAME_HAND = 0.5  # mean distance of keypoints in sides of the true hand's box


class Clip(NamedTuple):
    """Frames to look at.

    Attributes:
        name: For the tables.
        frames: HxWx3 uint8 BGR each.
        keypoints: (F, N, 21, 2) of the true hands; None where they are not known.
        velocity: (2,) pixels a second of everything in it; None where hands move for themselves.
    """

    name: str
    frames: list[np.ndarray]
    keypoints: np.ndarray | None
    velocity: np.ndarray | None


@dataclass
class WayResult:
    """What one way of looking at a clip cost and found.

    Attributes:
        passes: Single passes of each frame.
        seconds: Of each frame.
        hands: Of each frame: `TrackedHand`s where hands are followed, else `HandPose`s.
    """

    passes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    hands: list[list[Any]] = field(default_factory=list)


class Steadiness(NamedTuple):
    """How steady the keypoints of a hand are, in percent of the longer side of its box.

    Attributes:
        jitter: Standard deviation of a keypoint around its mean or, in a moving clip, around where
            the movement takes it.
        step: Root mean square of a keypoint's change from frame to frame, the movement subtracted.
        lag: Milliseconds by which the keypoints are behind the raw ones; NaN of a still hand.
    """

    jitter: float
    step: float
    lag: float


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--frames", type=positive_int, default=90, help="frames of each clip (default: %(default)s)"
    )
    parser.add_argument(
        "--photographs", type=pathlib.Path, metavar="FOLDER", help="photographs with hands"
    )
    add_out_option(parser, "runs/bench")
    options = parser.parse_args(argv)
    if options.frames < SETTLING + 2:  # two, as frames are compared with the ones before
        parser.error(f"--frames {options.frames}: give {SETTLING + 2} or more")
    return options


def rendered_clips(frame_count: int) -> list[Clip]:
    """Render the clips of synthetic hands, 640 x 480."""
    still = HandPath((0.45, 0.45), (0.45, 0.45), poses=("open", "open"))
    across = HandPath((0.25, 0.45), (0.75, 0.5), poses=("open", "open"))
    bending = across._replace(poses=("open", "relaxed"))
    right = HandPath((0.25, 0.4), (0.75, 0.4), length=0.28, roll=10)
    left = HandPath((0.75, 0.55), (0.25, 0.55), length=0.28, roll=-10, is_left=True)
    paths = {
        "one hand, still": [still],
        "one hand, moving": [across],
        "one hand, moving and bending": [bending],
        "two hands that cross": [right, left],
        "no hand": [],
    }
    clips = []
    for seed, (name, hand_paths) in enumerate(paths.items()):
        rng = np.random.default_rng((5, seed))
        rendered = list(render_clip(rng, hand_paths, frame_count=frame_count, noise=NOISE))
        keypoints = np.stack([frame.keypoints for frame in rendered])
        velocity = None
        if len(hand_paths) == 1 and hand_paths[0].poses[0] == hand_paths[0].poses[1]:
            velocity = (keypoints[-1, 0].mean(axis=0) - keypoints[0, 0].mean(axis=0)) / (
                max(frame_count - 1, 1) / FPS
            )
        clips.append(Clip(name, [frame.image for frame in rendered], keypoints, velocity))
    return clips


def photograph_clips(folder: pathlib.Path, frame_count: int) -> list[Clip]:
    """Make a still and a moving clip of each of a few photographs."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise UserError(f"{folder} has no photograph in it")
    clips, rng = [], np.random.default_rng(0)
    for path in paths[:: -(-len(paths) // PHOTOGRAPHS)]:
        image = read_image(path)
        width, height = (round(side * WINDOW) for side in image.shape[1::-1])
        room = image.shape[1] - width
        for name, pixels in (("still", 0.0), ("moving", room / max(frame_count - 1, 1))):
            frames = []
            for number in range(frame_count):
                x = round(number * pixels)
                window = image[(image.shape[0] - height) // 2 :][:height, x : x + width]
                noisy = window + rng.normal(0, NOISE, window.shape)
                frames.append(noisy.clip(0, 255).round().astype(np.uint8))
            clips.append(Clip(f"photographs, {name}", frames, None, np.array([-pixels * FPS, 0])))
    return clips


def open_ways(predictor: HandPredictor) -> dict[str, Callable[[np.ndarray, float], list]]:
    """Return the ways to look at a clip; each is called frame by frame."""
    all_hands, one_hand = HandTracker(predictor), HandTracker(predictor, one_hand=True)
    return {
        "followed, --hands all": all_hands.follow,
        "every frame searched": lambda image, _: predictor.predict_all(image),
        "followed, --hands one": one_hand.follow,
        "single pass of every frame": lambda image, _: [predictor.predict(image)],
    }


def measure(
    clip: Clip, predictor: HandPredictor, counters: Sequence[CountingEngine]
) -> dict[str, WayResult]:
    """Look at a clip in every way, frame by frame in turn."""
    ways = open_ways(predictor)
    results = {name: WayResult() for name in ways}
    for number, frame in enumerate(clip.frames):
        for name, way in ways.items():
            for counter in counters:
                counter.passes = 0.0
            start = time.perf_counter()
            hands = way(frame, number / FPS)
            results[name].seconds.append(time.perf_counter() - start)
            results[name].passes.append(sum(counter.passes for counter in counters))
            results[name].hands.append(hands)
    return results


def ids_of_hands(keypoints: np.ndarray, hands: list[list[TrackedHand]]) -> list[list[int | None]]:
    """Return the id that each of the true hands has in each frame, None where it is not seen.

    Args:
        keypoints: (F, N, 21, 2).
        hands: The tracked hands of each frame.
    """
    ids: list[list[int | None]] = []
    for true_hand in range(keypoints.shape[1]):
        hand_ids: list[int | None] = []
        for true, tracked in zip(keypoints[:, true_hand], hands):
            side = np.ptp(true, axis=0).max()
            distances = {
                hand.id: np.linalg.norm(hand.raw_keypoints[:, :2] - true, axis=1).mean() / side
                for hand in tracked
            }
            nearest = min(distances, key=lambda hand_id: distances[hand_id], default=None)
            hand_ids.append(
                nearest if nearest is not None and distances[nearest] < SAME_HAND else None
            )
        ids.append(hand_ids)
    return ids


def steadiness(
    keypoints: np.ndarray, raw: np.ndarray, present: np.ndarray, velocity: np.ndarray
) -> Steadiness:
    """Measure a hand over F frames of a movement with one velocity.

    Args:
        keypoints: (F, 21, 2) pixels.
        raw: The same before they were smoothed.
        present: (F, 21) bool; keypoints that are not present in every frame do not count.
        velocity: (2,) pixels a second.
    """
    chosen = present.all(axis=0)
    times = np.arange(len(keypoints))[:, None, None] / FPS
    resting = (keypoints - velocity * times)[:, chosen]
    side = np.ptp(raw, axis=1).max(axis=1).mean()
    speed = float(np.linalg.norm(velocity))
    lag = np.nan
    if speed > 0:
        lag = float(((raw - keypoints)[:, chosen] @ (velocity / speed)).mean()) / speed * 1000
    return Steadiness(
        100 * float(np.sqrt(resting.var(axis=0).sum(axis=-1).mean())) / side,
        100 * float(np.sqrt((np.diff(resting, axis=0) ** 2).sum(axis=-1).mean())) / side,
        lag,
    )


def clip_steadiness(clip: Clip, frames: list[list[TrackedHand]]) -> list[dict[str, Steadiness]]:
    """Measure each hand that is there in every frame after the first ten, before and after."""
    assert clip.velocity is not None
    settled = frames[SETTLING:]
    lasting = set.intersection(*({hand.id for hand in hands} for hands in settled)) - {None}
    measured = []
    for hand_id in lasting:
        hands = [next(hand for hand in frame if hand.id == hand_id) for frame in settled]
        raw = np.stack([np.asarray(hand.raw_keypoints)[:, :2] for hand in hands])
        smooth = np.stack([np.asarray(hand.pose.keypoints)[:, :2] for hand in hands])
        present = np.stack([np.asarray(hand.pose.present) for hand in hands])
        if present.all(axis=0).any():
            measured.append(
                {
                    "before": steadiness(raw, raw, present, clip.velocity),
                    "after": steadiness(smooth, raw, present, clip.velocity),
                }
            )
    return measured


def cost_row(clip: Clip, way: str, result: WayResult, search_seconds: float) -> dict[str, Any]:
    """Return the row of the costs of one way of looking at a clip.

    Args:
        clip: The clip.
        way: Name of the way, of `open_ways`.
        result: What it cost and found.
        search_seconds: Mean seconds of a search of a frame of this clip.
    """
    seconds = float(np.mean(result.seconds))
    row: dict[str, Any] = {
        "clip": clip.name,
        "way": way,
        "passes": float(np.mean(result.passes)),
        "ms": 1000 * seconds,
        "of a search": seconds / search_seconds,
    }
    if clip.keypoints is not None and way.startswith("followed"):
        ids = ids_of_hands(clip.keypoints, result.hands)
        row["tracked_shares"] = [
            float(np.mean([i is not None for i in hand_ids])) for hand_ids in ids
        ]
        row["ids"] = [list(dict.fromkeys(filter(None, hand_ids))) for hand_ids in ids]
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    check_output(options.out, "video")
    predictor = HandPredictor(levels=1)
    counters = count_passes(predictor)
    clips = rendered_clips(options.frames)
    if options.photographs:
        clips += photograph_clips(options.photographs, options.frames)
    # The first search and the first look at a followed hand are slower.
    measure(clips[0]._replace(frames=clips[0].frames[:2]), predictor, counters)
    costs: list[dict[str, Any]] = []
    steady: dict[str, list[dict[str, Steadiness]]] = {}
    for clip in progress_bar(clips, unit="clip"):
        results = measure(clip, predictor, counters)
        search_seconds = float(np.mean(results["every frame searched"].seconds))
        costs += [cost_row(clip, way, result, search_seconds) for way, result in results.items()]
        if clip.velocity is not None:
            followed = results["followed, --hands all"].hands
            steady.setdefault(clip.name, []).extend(clip_steadiness(clip, followed))
    _write(options.out, _averaged(costs), steady)


def _averaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row with the means for each name of a clip and way of looking at it."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["clip"], row["way"]), []).append(row)
    averaged = []
    for group in groups.values():
        means = {key: np.mean([row[key] for row in group]) for key in ("passes", "ms")}
        ratio = np.mean([row["of a search"] for row in group])
        averaged.append({**group[0], **means, "of a search": float(ratio)})
    return averaged


def _write(
    out: pathlib.Path,
    costs: list[dict[str, Any]],
    steady: dict[str, list[dict[str, Steadiness]]],
) -> None:
    """Print and write both tables."""
    cost_lines = [
        [
            row["clip"],
            row["way"],
            f"{row['passes']:.2f}",
            f"{row['ms']:.1f}",
            f"{row['of a search']:.2f}",
            ", ".join(f"{share:.2f}" for share in row.get("tracked_shares", [])),
            "; ".join(" ".join(map(str, ids)) for ids in row.get("ids", [])),
        ]
        for row in costs
    ]
    columns = ["clip", "way", "passes", "ms", "of a search", "seen", "ids"]
    steady_lines, steady_rows = [], []
    for name, hands in steady.items():
        for when in ("before", "after"):
            if not hands:
                continue
            values = np.mean([hand[when] for hand in hands], axis=0).tolist()
            jitter, step, lag = values
            lag_text = "" if np.isnan(lag) else f"{lag:.0f}"
            steady_lines.append([name, len(hands), when, f"{jitter:.2f}", f"{step:.2f}", lag_text])
            steady_rows.append({"clip": name, "when": when, "jitter": jitter, "step": step})
            steady_rows[-1]["lag"] = None if np.isnan(lag) else lag
    steady_columns = ["clip", "hands", "smoothing", "jitter, %", "step, %", "lag, ms"]
    tables = (markdown_table(columns, cost_lines), markdown_table(steady_columns, steady_lines))
    content = {"costs": costs, "steadiness": steady_rows}
    write_results(out, "video", "\n\n".join(tables), content)


if __name__ == "__main__":
    run_command(main)
