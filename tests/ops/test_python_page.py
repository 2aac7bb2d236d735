"""docs/python.md: its example run as it stands on a small pipeline, and the images it takes."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from headless_files import write_random_picture
from PIL import Image

import acfun_ops
from acfun_ops.backbones.pipeline_parts import load_text_to_image
from acfun_ops.errors import ACFunError
from acfun_ops.images import crop_masks, to_squares

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_the_example_of_the_page_runs(tiny_model, tmp_path, monkeypatch):
    load_text_to_image(tiny_model).save_pretrained(tmp_path / "sd15")
    (tmp_path / "clip-vit-large-patch14").symlink_to(tiny_model / "image_encoder")
    for number, name in enumerate(("painting.jpg", "photo.jpg")):
        write_random_picture(tmp_path / name, number)
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    for ours, here in (('"cuda"', '"cpu"'), ("steps=150", "steps=2")):
        assert ours in example
        example = example.replace(ours, here)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    names = runpy.run_path("example.py")
    assert names["result"].outcome == "finished" and names["style"].facts.steps == 2
    assert names["style"].digest == names["result"].style.digest
    assert Image.open("out.png").size == (32, 32)


def test_the_page_names_what_is_public():
    text = PAGE.read_text(encoding="utf-8")
    wanted = set(acfun_ops.__all__)
    assert {name for name in wanted if not re.search(rf"\b{name}\b", text)} == {
        "TrainResult",
        "Style",
    }


@pytest.mark.parametrize("numbers", [np.uint8, np.uint16, np.float64])
def test_numpy_is_taken_as_pillow_and_tensors_are(numbers):
    levels = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    expected = to_squares(torch.from_numpy(levels)[None] / 255, 64, "style_image")
    whole = np.iinfo(numbers).max if numbers != np.float64 else 1
    same = (levels * (whole / 255)).astype(numbers)
    for image in (same, [same[None]], Image.fromarray(levels)):
        assert torch.allclose(to_squares(image, 64, "style_image"), expected, atol=1e-6)
    grey = to_squares(levels[..., 0], 64, "style_image")
    assert torch.equal(grey[..., 0], grey[..., 2]) and grey.shape == (1, 64, 64, 3)


def test_masks_of_pillow_and_numpy_are_those_of_tensors():
    photo, mask = torch.rand(1, 64, 64, 3), np.zeros((64, 64), np.uint8)
    mask[16:40, 20:50] = 255
    [expected] = crop_masks(torch.from_numpy(mask / 255), [photo])
    for given in (mask, mask[None], mask > 0, Image.fromarray(mask), [Image.fromarray(mask)]):
        assert torch.allclose(crop_masks(given, [photo])[0], expected, atol=1e-6)


@pytest.mark.parametrize("image", ["painting.jpg", np.zeros((64, 64), np.int64), None, [1]])
def test_what_is_no_image_is_refused_by_its_type(image):
    with pytest.raises(ACFunError, match=r"An image is of type \w+; expected a tensor"):
        to_squares(image, 64, "style_image")
