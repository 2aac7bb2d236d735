"""The pictures of a run, encoded, and the facts and the name of the run."""

from dataclasses import asdict, fields, replace

import pytest
import torch
from tiny_backbone import IMAGE_WIDTH, TinyBackbone
from tiny_training import small_config, tiny_pictures

from acfun_ops import __version__
from acfun_ops.errors import ACFunError
from acfun_ops.images import check_images, crop_masks, image_hash, resize_masks, to_squares
from acfun_ops.method.alignment_loss import SETTINGS, AlignmentSettings, Redrawing
from acfun_ops.style.style import style_bytes
from acfun_ops.style.style_file import RUN_ID
from acfun_ops.training import training_images as encoded_pair
from acfun_ops.training.checkpoint import resume_metadata, run_of
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages
from acfun_ops.training.fit import fit
from acfun_ops.training.training_images import (
    MAX_STYLE_NUMBERS,
    MAX_STYLE_PICTURES,
    encode_images,
    fewer_tokens,
    prepare_images,
)


def encode(pictures=None, backbone=None, **changes):
    pictures = pictures or tiny_pictures()
    backbone = backbone or TinyBackbone()
    return encode_images(backbone, prepare_images(backbone, pictures, small_config(**changes)))


def test_pictures_are_encoded_as_squares():
    backbone, pictures = TinyBackbone(), tiny_pictures(styles=2, faces=3)
    pair = encode(pictures, backbone)
    assert torch.equal(pair.style, backbone.encode_pictures(pictures.style))
    assert torch.equal(pair.face, backbone.encode_pictures(pictures.face[:, 8:72]))
    assert pair.face_mask is None


@pytest.mark.parametrize("styles", [1, 2])
def test_style_tokens_are_those_of_all_style_pictures(styles):
    backbone, pictures = TinyBackbone(), tiny_pictures(styles=styles)
    tokens = encode(pictures, backbone).style_tokens
    assert tokens.shape == (16 * styles, IMAGE_WIDTH)
    assert torch.equal(tokens, backbone.style_tokens(pictures.style).reshape(-1, IMAGE_WIDTH))


@pytest.mark.parametrize(("resolution", "side"), [(0, 8), (128, 16)])
def test_resolution_sets_the_side(resolution, side):
    pair = encode(tiny_pictures(masked=True), resolution=resolution)
    assert pair.style.shape == pair.face.shape == (1, 4, side, side)
    assert pair.face_mask.shape == (1, 1, side, side)
    assert pair.facts.settings["resolution"] == 8 * side


@pytest.mark.parametrize("masks", [1, 2])
def test_every_photo_has_its_mask(masks):
    pictures = tiny_pictures(faces=2, masked=True)
    pictures = replace(pictures, face_mask=pictures.face_mask[:masks])
    expected = resize_masks(crop_masks(pictures.face_mask, check_images(pictures.face, "it")), 8)
    assert torch.equal(encode(pictures).face_mask, expected)


@pytest.mark.parametrize("socket", ["style", "face"])
def test_unusable_pictures_are_refused_by_their_socket(socket):
    pictures = replace(tiny_pictures(), **{socket: torch.zeros(1, 8, 8, 3)})
    with pytest.raises(ACFunError, match=f"^{socket}_image is 8 x 8 pixels"):
        encode(pictures)


def test_facts_tell_how_it_was_trained():
    backbone, pictures = TinyBackbone(seed=3), tiny_pictures()
    changes = {"seed": 5, "insert_at": "attention", "statistics": "mean_std", "heads": 4}
    prompt = "a face in X! style"
    facts = encode(pictures, backbone, prompt=prompt, pseudo_word="X!", **changes).facts
    assert (facts.format, facts.family, facts.version) == (1, "sd1", __version__)
    assert (facts.prompt, facts.pseudo_word) == (prompt, "X!")
    assert {name: getattr(facts, name) for name in changes} == changes
    assert (facts.steps, facts.parent) == (0, "")
    assert facts.style_hash == image_hash(pictures.style)
    assert facts.checkpoint == backbone.fingerprint
    assert RUN_ID.fullmatch(facts.run)


def test_settings_hold_what_was_really_used():
    settings = encode(precision="bf16", style_weight=0.3).facts.settings
    assert (settings["precision"], settings["resolution"]) == ("bfloat16", 64)
    assert (settings["style_weight"], settings["learning_rate"]) == (0.3, 1e-2)
    assert not {"steps", "preview_every", "gradient_checkpointing"} & settings.keys()


def test_face_photo_is_in_no_fact():
    pictures = tiny_pictures()
    face = image_hash(to_squares(pictures.face, 64, "face_image"))
    assert face not in str(encode(pictures).facts)


RUN = {
    "seed": 1,
    "prompt": "another face in S* style",
    "learning_rate": 2e-2,
    "style_weight": 0.1,
    "face_weight": 0.1,
    "rank": 5,
    "alignment": "paired",
    "layers": 2,
    "heads": 1,
    "dropout": 0.2,
    "insert_at": "attention",
    "statistics": "mean_std",
    "resolution": 128,
    "initial_word": "painting",
}


@pytest.mark.parametrize("option", RUN)
def test_run_has_another_name_when_an_option_differs(option):
    assert encode(**{option: RUN[option]}).facts.run != encode().facts.run


@pytest.mark.parametrize(
    "changes", [{"steps": 99}, {"preview_every": 3}, {"gradient_checkpointing": "on"}]
)
def test_run_keeps_its_name_where_the_result_does(changes):
    assert encode(**changes).facts.run == encode().facts.run


def test_run_has_another_name_for_other_pictures_checkpoint_or_type():
    masked = tiny_pictures(masked=True)
    others = [
        encode(replace(tiny_pictures(), style=tiny_pictures(2).style)),
        encode(replace(tiny_pictures(), face=tiny_pictures(2).face)),
        encode(masked),
        encode(replace(masked, face_mask=masked.face_mask.flip(1))),
        encode(backbone=TinyBackbone(seed=1)),
        encode(precision="bf16"),
        encode(),
    ]
    assert len({pair.facts.run for pair in others}) == len(others)


OTHER = {
    **{"stage_threshold": 0.5, "stage_sharpness": 6.0, "handover": 0.5, "face_floor": 0.5},
    **{"colour_weight": 1.0, "noise_offset": 0.0, "even_levels": False},
    **{"imagery_steps": 5, "imagery_every": 1},
    "redrawing": Redrawing(kept_query=0.5, temperature=2.0, steps=5, guidance=1.0),
}


def test_a_run_of_the_first_settings_keeps_the_name_it_had():
    backbone, black = TinyBackbone(), torch.zeros(1, 64, 64, 3)
    backbone.fingerprint = "a checkpoint"
    pictures = TrainImages(style=black, face=black)
    pair = prepare_images(backbone, pictures, TrainConfig(), AlignmentSettings())
    assert pair.facts.run == "c551febca932415f"


@pytest.mark.parametrize("number", [field.name for field in fields(AlignmentSettings)])
def test_what_other_settings_teach_is_taken_for_no_style_of_these(number):
    alignment = "imagery" if number.startswith("imagery") else "drawn"
    backbone, config = TinyBackbone(), small_config(steps=2, alignment=alignment)
    old = fit(backbone, tiny_pictures(), config).style
    method = replace(SETTINGS, **{number: OTHER[number]})
    pair = prepare_images(backbone, tiny_pictures(), config, method)
    new = fit(backbone, pair, config).style
    assert not all(torch.equal(new.abstract[name], old.abstract[name]) for name in old.abstract)
    assert new.facts.run != old.facts.run
    assert not resume_metadata(pair.facts, old)[1]
    assert new.facts.settings.items() - old.facts.settings.items() == (
        method.changes().items() - SETTINGS.changes().items()
    )


def test_settings_are_told_apart_from_options():
    flat = replace(SETTINGS, **OTHER).changes()
    assert len(flat) == len(fields(AlignmentSettings)) - 1 + len(fields(Redrawing))
    assert not flat.keys() & asdict(small_config()).keys()


def test_run_name_depends_on_every_part():
    names = {run_of("a"), run_of("a", "b"), run_of("b", "a"), run_of("ab")}
    assert len(names) == 4
    assert all(RUN_ID.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    ("count", "width", "tokens"),
    [(1, 1024, 257), (2, 1024, 514), (3, 1024, 3 * 65), (8, 1024, 8 * 65), (2, 1280, 2 * 65)],
)
def test_tokens_of_many_pictures_are_averaged_below_the_limit(count, width, tokens):
    given = torch.rand(count, 257, width, generator=torch.Generator().manual_seed(1))
    kept = fewer_tokens(given)
    assert kept.shape == (tokens, width)
    assert kept.numel() <= MAX_STYLE_NUMBERS
    if tokens < 257 * count:
        assert torch.equal(kept[0], given[0, 0])
        corner = given[0, [1, 2, 17, 18]].mean(dim=0)
        assert torch.allclose(kept[1], corner)
    else:
        assert torch.equal(kept, given.flatten(0, 1))


def test_pictures_of_other_sizes_make_one_batch():
    one, other = tiny_pictures(1), tiny_pictures(2)
    pictures = TrainImages(style=[one.style, other.face], face=[one.face, other.style])
    pair = encode(pictures)
    assert pair.style.shape == pair.face.shape == (2, 4, 8, 8)
    assert torch.allclose(pair.style[:1], encode(one).style, atol=1e-5)
    assert torch.allclose(pair.style[1:], encode(other).face, atol=1e-5)


def test_of_many_style_pictures_eight_are_used_from_first_to_last():
    pictures = tiny_pictures(styles=20)
    expected = [0, 3, 5, 8, 11, 14, 16, 19]
    pair = encode(pictures)
    assert len(pair.style) == MAX_STYLE_PICTURES
    assert torch.equal(pair.style, encode(replace(pictures, style=pictures.style[expected])).style)


def test_a_prepared_pair_is_prepared_no_second_time(monkeypatch):
    backbone, config, calls = TinyBackbone(), small_config(steps=1), []
    fresh = style_bytes(fit(backbone, tiny_pictures(masked=True), config).style)
    pair = prepare_images(backbone, tiny_pictures(masked=True), config)
    monkeypatch.setattr(encoded_pair, "crop_images", lambda *a: calls.append(a))
    assert style_bytes(fit(backbone, pair, config).style) == fresh
    assert calls == []
