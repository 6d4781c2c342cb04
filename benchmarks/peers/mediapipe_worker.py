"""Looks for hands with MediaPipe, in MediaPipe's own environment:

    python mediapipe_worker.py FOLDER

prints a JSON line for each image of FOLDER, in the order of the names. A line is a list of hands,
{"score", "points"}: 21 x [x, y], as shares of the image's width and height from its left-top
corner.
"""

import json
import pathlib
import sys

import cv2
import mediapipe


def main(folder: str) -> None:
    """Run the command."""
    with mediapipe.solutions.hands.Hands(static_image_mode=True) as detector:
        for path in sorted(pathlib.Path(folder).iterdir()):
            image = cv2.imread(str(path))
            assert image is not None, path
            result = detector.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            sides, hands = result.multi_handedness or (), result.multi_hand_landmarks or ()
            line = [
                {
                    "score": side.classification[0].score,
                    "points": [[point.x, point.y] for point in hand.landmark],
                }
                for side, hand in zip(sides, hands)
            ]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
