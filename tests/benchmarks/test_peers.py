"""MediaPipe as a peer, with a stand-in for the module `mediapipe`.

Images go to another interpreter and come back as predictions.
"""

import sys

import numpy as np
import pytest

from benchmarks.peers import mediapipe_hands
from data_tools import sets
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation.predictions_file import PredictionsFile
from tests.support.readers import drawn, write_turned_set

# It finds nothing in upright images and two hands in others. The second one has the higher score,
# and its keypoint k lies at k/20, k/40.
STAND_IN = """
from types import SimpleNamespace as Of

class Hands:
    def __init__(self, static_image_mode):
        assert static_image_mode
    def __enter__(self):
        return self
    def __exit__(self, *error):
        pass
    def process(self, image):
        assert image.dtype == "uint8" and image.shape[2] == 3
        if image.shape[0] > image.shape[1]:
            return Of(multi_handedness=None, multi_hand_landmarks=None)
        hands = [Of(landmark=[Of(x=k / width, y=k / 40) for k in range(21)]) for width in (30, 20)]
        sides = [Of(classification=[Of(score=score)]) for score in (0.6, 0.9)]
        return Of(multi_handedness=sides, multi_hand_landmarks=hands)

solutions = Of(hands=Of(Hands=Hands))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Return a function that makes the worker import a module `mediapipe` of the given text."""

    def put(text: str) -> None:
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules/mediapipe.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
        monkeypatch.setattr(mediapipe_hands, "interpreter", lambda: sys.executable)

    return put


def test_the_most_confident_hand_of_each_image_in_pixels(drawn_set, stand_in, tmp_path):
    stand_in(STAND_IN)
    for _ in range(2):  # it may replace its own file
        mediapipe_hands.main(
            [str(drawn_set), "--out", str(tmp_path / "new/found.json"), "--limit", "9"]
        )
    predictions, samples = PredictionsFile(tmp_path / "new/found.json"), SampleSet(drawn_set)
    assert predictions.name == "MediaPipe 0.10.21"
    wide = [samples[index] for index in range(9) if samples[index].image().shape[:2] == (120, 160)]
    assert (
        list(predictions.images) == [sample.key for sample in wide] and len(wide) == 4
    )  # the upright ones have no hand
    keypoints, mask, *_ = predictions.images[wide[0].key]
    k = np.arange(21)
    expected = np.column_stack([k / 20 * 160 - 0.5, k / 40 * 120 - 0.5, np.full(21, 0.9)])
    assert np.allclose(keypoints, expected) and mask is None


def test_images_arrive_to_the_bit(drawn_set, stand_in, tmp_path):
    """The stand-in gives the red and blue sums of the first row back as coordinates."""
    report = "[Of(x=int(image[0, :, 0].sum()), y=int(image[0, :, 2].sum())) for k in range(21)]"
    stand_in(STAND_IN.replace("[Of(x=k / width, y=k / 40) for k in range(21)]", report))
    mediapipe_hands.main([str(drawn_set), "--out", str(tmp_path / "found.json")])
    for key, (keypoints, *_) in PredictionsFile(tmp_path / "found.json").images.items():
        image = (
            next(
                entry
                for entry in sets.open_sets(drawn_set)["drawn"]
                if entry.location.endswith(key)
            )
            .sample()
            .image()
        )
        height, width = image.shape[:2]
        assert np.allclose(
            keypoints[0, :2],
            (image[0, :, 2].sum() * width - 0.5, image[0, :, 0].sum() * height - 0.5),
        )


def test_labels_of_upright_images_are_compared_on_request(stand_in, tmp_path):
    """The stand-in finds the hand in the upright image, which is wide, not in the stored."""
    stand_in(STAND_IN)
    path = write_turned_set(tmp_path, *drawn(1, seed=0))
    out = tmp_path / "found.json"
    with pytest.raises(SampleError, match="refers to the upright image, --orientation upright"):
        mediapipe_hands.main([str(path), "--out", str(out)])
    mediapipe_hands.main([str(path), "--out", str(out), "--orientation", "upright"])
    (prediction,) = PredictionsFile(out).images.values()
    assert prediction.keypoints[20, :2] == pytest.approx((160 - 0.5, 120 / 2 - 0.5))


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "raise ImportError('libGL is missing')",
            "MediaPipe ended after 0 of 10 images: ImportError: libGL is missing",
        ),
        (STAND_IN.replace("> image", "!= image"), "MediaPipe found no hand in the 10 images"),
        (
            STAND_IN.replace("            return Of", "            raise SystemExit(3)"),
            "MediaPipe ended after 0 of 10 images",
        ),
    ],
)
def test_a_fault_is_named_and_nothing_is_written(drawn_set, stand_in, tmp_path, text, message):
    stand_in(text)
    with pytest.raises(UserError) as error:
        mediapipe_hands.main([str(drawn_set), "--out", str(tmp_path / "found.json")])
    assert message in str(error.value) and not (tmp_path / "found.json").exists()


def test_the_environment_is_made_once_and_again_when_it_is_not_whole(tmp_path, monkeypatch):
    """pip and venv are stood in for: what is run, and when."""
    commands = []

    def made(command, **options):
        commands.append([str(word) for word in command])
        failed = "--no-deps" in commands[-1] and len(commands) == 3
        return type(
            "Done",
            (),
            {"returncode": int(failed), "stderr": "Looking\nERROR: no network\n", "stdout": ""},
        )

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mediapipe_hands.subprocess, "run", made)
    folder = tmp_path / "mcc-caffe/peers/mediapipe-0.10.21"
    folder.mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"mediapipe-0.10.21 could not be made \(ERROR: no network\)"
    ):
        mediapipe_hands.interpreter()
    assert mediapipe_hands.interpreter() == folder / "bin/python"
    assert commands[3:] == commands[:3] and commands[0][1:] == [
        "-m",
        "venv",
        "--clear",
        str(folder),
    ]
    assert commands[2][0] == str(folder / "bin/python") and "mediapipe==0.10.21" in commands[2]
    mediapipe_hands.interpreter()
    assert len(commands) == 6
    (folder / "complete").write_text("mediapipe==0.10.20")
    mediapipe_hands.interpreter()
    assert len(commands) == 9


def test_an_unusable_out_is_told_before_anything_is_looked_for(drawn_set, tmp_path, monkeypatch):
    monkeypatch.setattr(mediapipe_hands, "interpreter", None)
    with pytest.raises(UserError, match="is a folder, not a file: give the path of a file"):
        mediapipe_hands.main([str(drawn_set), "--out", str(tmp_path)])


def test_a_file_of_the_users_is_not_replaced(drawn_set, tmp_path):
    notes = tmp_path / "notes.json"
    for content in ('{"name": "another system", "images": {}}', "notes", ""):
        notes.write_text(content)
        with pytest.raises(
            UserError, match="notes.json would be overwritten and holds no hands of"
        ):
            mediapipe_hands.main([str(drawn_set), "--out", str(notes)])
        assert notes.read_text() == content
