"""What must be the same on a card: untouched pictures, equal seeds, a style on CPU and GPU."""

import warnings
from pathlib import Path

import torch

from .models import Place, apart, distance
from .rows import Result, Row

STEPS = 6
SIDE = 256


def rows(place: Place) -> list[Row]:
    """Return the rows that compare."""
    untouched = (
        "before twice",
        "after training",
        "after Apply",
        "the style changes the picture",
        "nothing left on the model",
    )
    across = ("GPU's style on the CPU", "CPU's style on the GPU")
    return [
        Row("the plain picture stays", 30, lambda: untouched_model(place), untouched),
        Row(
            "two trainings with one seed", 30, lambda: equal_seeds(place), ("another seed differs",)
        ),
        Row("a style between GPU and CPU", 60, lambda: between_devices(place), across),
    ]


def deterministic_rows(place: Place) -> list[Row]:
    """Return the rows that ComfyUI's ``--deterministic`` promises something of."""
    goals = ("same bytes", "another seed differs")
    return [
        Row("--deterministic: two trainings with one seed", 40, lambda: equal_seeds(place), goals),
    ]


def untouched_model(place: Place) -> Result:
    """Draw the plain picture before and after a training, and after a style was applied."""
    from stock_nodes import leftovers

    before, again = (place.draw(place.sockets) for _ in range(2))
    style, _ = place.train(steps=STEPS, learning_rate=0.02, seed=60)
    trained = place.draw(place.sockets)
    styled = place.draw(place.sockets, style)
    after = place.draw(place.sockets)
    encoder = place.sockets[1].cond_stage_model
    left = leftovers(place.sockets[0].model) + leftovers(encoder)
    return {
        "before twice": torch.equal(before, again),
        "after training": torch.equal(before, trained),
        "after Apply": torch.equal(before, after),
        "the style changes the picture": not torch.equal(before, styled),
        "levels of 255 by the style": apart(before, styled),
        "levels of 255 after training": apart(before, trained),
        "picture is finite": bool(torch.isfinite(before).all() and torch.isfinite(styled).all()),
        "nothing left on the model": left == [],
        "left": left[:5],
    }


def equal_seeds(place: Place) -> Result:
    """Train twice with one seed and once with another; compare numbers and pictures."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        one, losses = place.train(steps=STEPS, seed=61)
        two, other_losses = place.train(steps=STEPS, seed=61)
        other, _ = place.train(steps=STEPS, seed=62)
    said = {str(warning.message)[:160] for warning in caught}
    pictures = [place.draw(place.sockets, style) for style in (one, two, other)]
    names = place.nodes
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch warned": sorted(text for text in said if "determin" in text),
        "same bytes": names.bytes_of(one) == names.bytes_of(two),
        "same losses": losses == other_losses,
        "distance, one seed": distance(one, two),
        "distance, two seeds": distance(one, other),
        "another seed differs": names.bytes_of(one) != names.bytes_of(other),
        "levels of 255, one seed": apart(pictures[0], pictures[1]),
        "levels of 255, two seeds": apart(pictures[0], pictures[2]),
    }


def between_devices(place: Place) -> Result:
    """Train on each device, save, load, and draw on the other; compare with its own device."""
    side = min(SIDE, place.side)
    processor = place.load(device="cpu")
    folder = Path(place.base.name)
    trained = {"GPU": place.sockets, "CPU": processor}
    result: Result = {"devices": [str(place.sockets[0].load_device), str(processor[0].load_device)]}
    for home, sockets in trained.items():
        names = ("model", "clip", "vae", "clip_vision")
        given = dict(zip(names, sockets, strict=True))
        style, _ = place.train(**given, steps=2, learning_rate=0.02, resolution=side, seed=63)
        path = folder / f"from_{home}.safetensors"
        place.nodes.style_file.save_style(style, path)
        loaded = place.nodes.style_file.load_style(path)
        away = "CPU" if home == "GPU" else "GPU"
        here = place.draw(trained[home], loaded, side, steps=3)
        there = place.draw(trained[away], loaded, side, steps=3)
        plain = place.draw(trained[away], None, side, steps=3)
        far, near = apart(plain, there), apart(here, there)
        # Devices and dtypes round differently; the style itself must change far more.
        result[f"{home}'s style on the {away}"] = near["mean"] < far["mean"] / 2
        result[f"{home}'s style, levels of 255: GPU against CPU"] = near
        result[f"{home}'s style, levels of 255: styled against plain"] = far
    return result
