"""Fuzzed readers of images, videos, masks, and of what names or describes them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import PIL.Image

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.core.images import ImageError, decode_image, marked_png
from mcc_caffe.data.mask_files import MaskError, decode_mask_values, hand_pixels
from mcc_caffe.evaluation.predictions_file import PredictionsFile
from mcc_caffe.inference.formats.coco import IMAGES, RESULTS
from mcc_caffe.inference.formats.reading import read_results
from mcc_caffe.inference.input_files import UnreadableError, is_video, read_image
from mcc_caffe.inference.reports import CSV_COLUMNS, PROGRAM, is_own_result
from mcc_caffe.inference.scene_files import read_scenes, scenes_of_images
from mcc_caffe.inference.video_reading import VideoFile
from mcc_caffe.inference.video_writing import video_writer
from tests.fuzz.data_parts import Files
from tests.fuzz.mutations import mutate_bytes, mutate_fields, mutate_json, mutate_lines
from tests.support.images import encoded, oriented_image
from tests.support.readers import coco_content, drawn, plain_image, write

_MOST_FRAMES = 1000  # that a mutated file of a few may give


def _encode(image: np.ndarray, kind: str, **options) -> bytes:
    """Encode an image with Pillow."""
    content = io.BytesIO()
    PIL.Image.fromarray(image).save(content, kind, **options)
    return content.getvalue()


def _small(channels: int = 3) -> np.ndarray:
    """Return an image of 48 x 40 pixels."""
    return np.random.default_rng(0).integers(0, 256, (40, 48, channels), np.uint8)


class Image:
    """Images of all formats."""

    def __init__(self, folder: Path):
        colour, grey = _small(), _small()[..., 0]
        contents = {
            "a.jpg": oriented_image(colour, "JPEG", 6),
            "progressive.jpg": _encode(colour, "JPEG", progressive=True),
            "a.png": _encode(_small(4), "PNG"),
            "deep.png": encoded(colour.astype(np.uint16) * 16),
            "palette.gif": _encode(grey, "GIF"),
            "a.webp": oriented_image(_small(4), "WEBP", 3),
            "a.avif": _encode(colour, "AVIF"),
            "a.bmp": _encode(colour, "BMP"),
            "a.tif": oriented_image(colour, "TIFF", 8),
            "packed.tif": _encode(colour, "TIFF", compression="tiff_lzw"),
            "float.tif": encoded(grey.astype(np.float32) / 255, ".tiff"),
            "a.jp2": encoded(colour, ".jp2"),
            "a.ppm": _encode(colour, "PPM"),
            "a.pbm": b"P4\n16 4\n" + bytes(8),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        self.files = Files(dict.fromkeys(map(folder.joinpath, contents), mutate_bytes))

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        is_video(path)
        try:
            for image in (read_image(path), decode_image(path.read_bytes(), upright=False)):
                assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        except (ImageError, UnreadableError) as error:
            return [str(error)]
        return []


class Video:
    """Videos of several containers and codecs, and animated images."""

    def __init__(self, folder: Path):
        self.folder = folder
        frames = [np.roll(_small(), 4 * index, axis=1) for index in range(5)]
        for name, codec in (("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.webm", "VP80")):
            size = (48, 40)
            code = cv2.VideoWriter_fourcc(*codec)
            writer = cv2.VideoWriter(str(folder / name), cv2.CAP_FFMPEG, code, 12, size)
            for frame in frames:
                writer.write(frame)
            writer.release()
        with video_writer(folder / "a.mp4", 12, (48, 40)) as add:
            for index, frame in enumerate(frames):
                add(frame, index / 12)
        images = [PIL.Image.fromarray(frame) for frame in frames]
        for name in ("a.gif", "b.webp", "b.png"):
            images[0].save(folder / name, save_all=True, append_images=images[1:], duration=80)
        self.files = Files(dict.fromkeys(sorted(folder.iterdir()), mutate_bytes))

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        if not is_video(path):
            return [f"{path} is no video any more"]
        video = VideoFile(path)
        assert np.isfinite(video.fps) and video.fps > 0 and min(video.size) > 0
        for number, frame in enumerate(video.frames()):
            assert number < _MOST_FRAMES and np.isfinite(frame.time)
            assert frame.pixels is None or frame.pixels.shape == (*video.size[::-1], 3)
        return []


class MaskFile:
    """Masks of several formats and depths."""

    def __init__(self, folder: Path):
        mask = np.zeros((40, 48), np.uint8)
        mask[5:30, 10:40] = 1
        alpha = np.dstack([_small(), mask * 255])
        contents = {
            "one.png": encoded(mask),
            "many.png": encoded(mask * 255),
            "deep.png": encoded(mask.astype(np.uint16) * 65535),
            "alpha.png": encoded(alpha),
            "soft.jpg": encoded(mask * 255, ".jpg"),
            "float.tif": encoded(mask.astype(np.float32), ".tiff"),
            "palette.gif": _encode(mask, "GIF"),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        self.files = Files(dict.fromkeys(map(folder.joinpath, contents), mutate_bytes))

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        try:
            hand = hand_pixels(decode_mask_values(path.read_bytes(), (48, 40)), soft=True)
        except MaskError as error:
            return [str(error)]
        assert hand.dtype == bool and hand.ndim == 2
        return []


class Predictions:
    """A predictions file with two masks."""

    def __init__(self, folder: Path):
        self.samples = drawn(4, seed=0)
        images = {}
        for sample in self.samples:
            keypoints = [point.tolist() if point[2] else None for point in sample.keypoints]
            images[sample.key] = {"keypoints": keypoints, "mask": f"masks/{sample.key}.png"}
            write(folder / f"masks/{sample.key}.png", sample.mask_png)
        self.path = folder / "predictions.json"
        write(self.path, {"name": "another system", "images": images})
        masks = dict.fromkeys(folder.glob("masks/[01].png"), mutate_bytes)
        self.files = Files({self.path: mutate_json, **masks})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        predictions, messages = PredictionsFile(self.path), []
        assert predictions.name.encode()
        for sample in self.samples:
            try:
                keypoints, mask = predictions.predict(sample)
            except UserError as error:
                messages.append(str(error))
                continue
            assert keypoints is None or keypoints.shape == (21, 3)
            assert mask is None or (mask.shape == (120, 160) and mask.dtype == bool)
        return messages


class Results:
    """Results of this and of other programs."""

    def __init__(self, folder: Path):
        points = np.random.default_rng(0).uniform(0, 100, (21, 3))
        points[:, 2] /= 100
        named = [
            {"name": name, "x": x, "y": y, "confidence": confidence}
            for name, (x, y, confidence) in zip(NAMES, points.tolist())
        ]
        flat = points.ravel().tolist()
        instance = {
            "keypoints": points[:, :2].tolist(),
            "keypoint_scores": points[:, 2].tolist(),
            "bbox": [[1.0, 2.0, 90.0, 95.0]],
            "bbox_score": 0.9,
        }
        header = ",".join(CSV_COLUMNS)
        rows = [
            f"a.jpg,,,0,,0.8,{name},{x},{y},{confidence},1,2,89,93"
            for name, (x, y, confidence) in zip(NAMES, points.tolist())
        ]
        contents = {
            "ours.json": {"program": PROGRAM, "image": "a.jpg", "score": 0.8, "keypoints": named},
            "hands.json": {
                "program": PROGRAM,
                "image": "a.jpg",
                "hands": [{"score": 0.8, "keypoints": named}] * 2,
            },
            "openpose.json": {
                "version": 1.3,
                "people": [{"hand_left_keypoints_2d": flat, "hand_right_keypoints_2d": flat}],
            },
            "mmpose.json": [instance, instance],
            "coco.json": [
                {"image_id": 1, "category_id": 1, "keypoints": flat, "score": 0.8},
                {"image_id": 2, "category_id": 1, "keypoints": flat, "score": 0.7},
            ],
            "table.csv": "\n".join([header, *rows]).encode(),
        }
        images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
        write(folder / "coco_images.json", {"images": images})  # it names the images
        for name, content in contents.items():
            write(folder / name, content)
        self.files = Files(
            {
                folder / name: mutate_lines(mutate_fields) if name == "table.csv" else mutate_json
                for name in contents
            }
        )

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        for image in read_results(self.files.mutate(random)):
            for hand in image.hands:
                assert hand.keypoints.shape == (21, 3) and not np.isinf(hand.keypoints).any()
        return []


class CocoResults:
    """COCO results, and the data set that names their images and keypoints."""

    def __init__(self, folder: Path):
        points = np.random.default_rng(0).uniform(0, 100, 63).tolist()
        hand = {"category_id": 1, "keypoints": points, "bbox": [1, 2, 90, 95], "score": 0.8}
        data_set = {
            "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)],
            "categories": [{"id": 1, "name": "hand", "keypoints": NAMES}],
        }
        self.path = folder / RESULTS
        write(self.path, [{"image_id": number, **hand} for number in (1, 2)])
        write(folder / IMAGES, data_set)
        self.files = Files({self.path: mutate_json, folder / IMAGES: mutate_json})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        for image in read_results(self.path):
            for hand in image.hands:
                assert hand.keypoints.shape == (21, 3) and not np.isinf(hand.keypoints).any()
        return []


class OwnResults:
    """Marked results, by which a later run knows them."""

    def __init__(self, folder: Path):
        (folder / "a.png").write_bytes(marked_png(_small(), PROGRAM))
        (folder / "a.json").write_text(json.dumps({"program": PROGRAM, "image": "a.jpg"}))
        with video_writer(folder / "a.mp4", 12, (48, 40)) as add:
            add(_small(), 0.0)
        with h5py.File(folder / "a.h5", "w") as file:
            file.attrs["program"] = PROGRAM
            file["heatmaps"] = np.zeros((22, 16, 16))
        self.files = Files(dict.fromkeys(sorted(folder.iterdir()), mutate_bytes))

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        if is_own_result(path):
            assert PROGRAM.encode() in path.read_bytes()  # no file of a user's has it
            return []
        return [f"{path} is none of our results any more"]


class BoxesFile:
    """A COCO file of boxes around hands."""

    def __init__(self, folder: Path):
        self.image_paths = []
        samples = drawn(3, seed=0)
        for sample in samples:
            path = folder / f"{sample.key}.jpg"
            write(path, plain_image())
            self.image_paths.append(path)
        write(folder / "boxes.json", coco_content(samples))
        self.files = Files({folder / "boxes.json": mutate_json})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        for scene in read_scenes(path):
            assert scene.boxes_ltrb.shape[1:] == (4,) and np.isfinite(scene.boxes_ltrb).all()
        scenes = scenes_of_images(path, self.image_paths)
        assert all(np.isfinite(scene.boxes_xywh()).all() for scene in scenes.values())
        return []
