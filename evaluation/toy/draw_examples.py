"""Draws the example pictures that the templates name, and the demo's pair, by formula.

python -m evaluation.toy.draw_examples
"""

from pathlib import Path

import numpy as np
from PIL import Image

from .evaluation_pairs import make_pair
from .paintings import paint, photograph
from .people import Person, Pose, draw_person, draw_pose
from .portraits import Plane
from .styles import HELD_OUT

DEMO = Path(__file__).parent / "demo"
FOLDER = Path(__file__).resolve().parents[2] / "web" / "examples"
SIDE = 512
STYLE = "blue swirls"
SITTER, SITTER_POSE, FACE, POSE, OTHER = 8, 8, 37, 21, 6
DEMO_PAIR = 68  # Not one of the evaluation's forty.


def main() -> None:
    """Draw a style picture, two faces, a mask of the first one's, and the demo's pair."""
    FOLDER.mkdir(exist_ok=True)
    style = paint(_person(SITTER), _pose(SITTER_POSE), HELD_OUT[STYLE].style, SITTER, SIDE)
    face = photograph(_person(FACE), _pose(POSE), FACE, SIDE)
    other = photograph(_person(OTHER), _pose(POSE), OTHER, SIDE)
    pictures = {"style": style, "face": face, "other_face": other}
    for name, portrait in pictures.items():
        _image(portrait.color).save(FOLDER / f"acfun_{name}.jpg", quality=88)
    _image(face_mask(face.landmarks)).convert("L").save(FOLDER / "acfun_face_mask.png")
    pair = make_pair(DEMO_PAIR)
    _image(pair.style).save(DEMO / "style.png")
    _image(pair.face).save(DEMO / "face.png")
    _image(pair.truth).save(DEMO / "truth.png")


def face_mask(landmarks: dict[str, tuple[float, float]], side: int = SIDE) -> Plane:
    """Return ``(s, s, 3)``, white on an oval from brow to chin."""
    (left, _), (right, _) = landmarks["left_eye"], landmarks["right_eye"]
    (across, down), chin = landmarks["nose"], landmarks["chin"][1]
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(
        (grid - across) / (1.15 * (right - left)), (grid - down) / (1.15 * (chin - down))
    )
    return np.repeat((x**2 + y**2 < 1)[..., None], 3, axis=2).astype(np.float32)


def _person(number: int) -> Person:
    return draw_person(np.random.default_rng(number))


def _pose(number: int) -> Pose:
    return draw_pose(np.random.default_rng(number))


def _image(picture: Plane) -> Image.Image:
    return Image.fromarray((picture * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
