"""Runs in MediaPipe's own environment: `python mediapipe_worker.py FOLDER` prints a JSON line for each picture of FOLDER, by name.

A line is a list of hands, {"score", "points"}: 21 x [x, y], as shares of the picture's width and height from its left-top edge.
"""

import json
import pathlib
import sys

import cv2
import mediapipe


def main(folder: str) -> None:
    with mediapipe.solutions.hands.Hands(static_image_mode=True) as hands:
        for path in sorted(pathlib.Path(folder).iterdir()):
            found = hands.process(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
            pairs = zip(found.multi_handedness or (), found.multi_hand_landmarks or ())
            line = [
                {
                    "score": side.classification[0].score,
                    "points": [[point.x, point.y] for point in hand.landmark],
                }
                for side, hand in pairs
            ]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
