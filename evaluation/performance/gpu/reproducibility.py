"""What must be the same on a GPU: unstyled images, equal seeds, a style on CPU and GPU."""

import warnings
from pathlib import Path

import torch

from ...comfyui_host import load
from .models import Models, image_distance, style_distance
from .rows import Result, row

STEPS = 6
SIDE = 256
CHANGED = "the style changes the picture"


@row(
    *("sd1", "the plain picture stays", "before twice", "after training", "after Apply"),
    *(CHANGED, "nothing left on the model"),
)
def compare_plain_images(models: Models) -> Result:
    """Sample without a style before and after a training run, and after a style was applied."""
    find_leftovers = load("stock_nodes").leftovers
    before, again = (models.sample(models.sockets) for _ in range(2))
    style, _ = models.train(steps=STEPS, learning_rate=0.02, seed=60)
    trained = models.sample(models.sockets)
    styled = models.sample(models.sockets, style)
    after = models.sample(models.sockets)
    left = find_leftovers(models.sockets[0].model)
    left += find_leftovers(models.sockets[1].cond_stage_model)
    return {
        "before twice": torch.equal(before, again),
        "after training": torch.equal(before, trained),
        "after Apply": torch.equal(before, after),
        CHANGED: not torch.equal(before, styled),
        "levels of 255 by the style": image_distance(before, styled),
        "levels of 255 after training": image_distance(before, trained),
        "picture is finite": bool(torch.isfinite(before).all() and torch.isfinite(styled).all()),
        "nothing left on the model": left == [],
        "left": left[:5],
    }


@row("sd1", "two trainings with one seed", "another seed differs")
@row(
    *("deterministic", "--deterministic: two trainings with one seed"),
    *("same bytes", "another seed differs"),
)
def compare_seeds(models: Models) -> Result:
    """Train twice with one seed and once with another; compare tensors and images."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        one, losses = models.train(steps=STEPS, seed=61)
        two, other_losses = models.train(steps=STEPS, seed=61)
        other, _ = models.train(steps=STEPS, seed=62)
    texts = {str(warning.message)[:160] for warning in caught}
    images = [models.sample(models.sockets, style) for style in (one, two, other)]
    contents = [models.nodes.bytes_of(style) for style in (one, two, other)]
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch warned": sorted(text for text in texts if "determin" in text),
        "same bytes": contents[0] == contents[1],
        "same losses": losses == other_losses,
        "distance, one seed": style_distance(one, two),
        "distance, two seeds": style_distance(one, other),
        "another seed differs": contents[0] != contents[2],
        "levels of 255, one seed": image_distance(images[0], images[1]),
        "levels of 255, two seeds": image_distance(images[0], images[2]),
    }


@row("sd1", "a style between GPU and CPU", "GPU's style on the CPU", "CPU's style on the GPU")
def compare_devices(models: Models) -> Result:
    """Train on each device, save, load, and sample on both; compare the images."""
    side = min(SIDE, models.side)
    sockets = {"GPU": models.sockets, "CPU": models.load(device="cpu")}
    result: Result = {"devices": [str(each[0].load_device) for each in sockets.values()]}
    for home, away in (("GPU", "CPU"), ("CPU", "GPU")):
        names = ("model", "clip", "vae", "clip_vision")
        given = dict(zip(names, sockets[home], strict=True))
        style, _ = models.train(**given, steps=2, learning_rate=0.02, resolution=side, seed=63)
        path = Path(models.base.name) / f"from_{home}.safetensors"
        models.nodes.style_file.save_style(style, path)
        loaded = models.nodes.style_file.load_style(path)
        here = models.sample(sockets[home], loaded, side, steps=3)
        there = models.sample(sockets[away], loaded, side, steps=3)
        plain = models.sample(sockets[away], None, side, steps=3)
        far, near = image_distance(plain, there), image_distance(here, there)
        # Devices and dtypes round differently; the style itself must change far more.
        result[f"{home}'s style on the {away}"] = near["mean"] < far["mean"] / 2
        result[f"{home}'s style, levels of 255: GPU against CPU"] = near
        result[f"{home}'s style, levels of 255: styled against plain"] = far
    return result
