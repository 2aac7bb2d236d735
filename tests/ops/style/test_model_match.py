"""A style fits a model of its family, width and blocks, and the refusal speaks a user's words."""

from dataclasses import replace

import pytest
from tiny_styles import TEXT_WIDTH, WIDTHS, sample_style

from acfun_ops.errors import ACFunError
from acfun_ops.model_families import FAMILIES, OTHER, family_of, name_by_encoders, name_of
from acfun_ops.style.compatibility import ModelShape, check_fits, misfit

SHAPE = ModelShape("sdxl", TEXT_WIDTH, WIDTHS)
CUSTOM = replace(SHAPE, family="custom")


def test_a_style_fits_its_own_kind_of_model():
    check_fits(sample_style(), SHAPE)
    check_fits(sample_style(family="custom"), CUSTOM)


@pytest.mark.parametrize(
    ("family", "shape", "reason"),
    [
        ("sdxl", replace(SHAPE, family="sd1"), "was trained on SDXL; this model is SD1.x"),
        ("sd2", CUSTOM, f"was trained on SD2.x; this model is {OTHER}"),
        ("sd1", replace(CUSTOM, context_width=1280), "on SD1.x; this model is SDXL refiner"),
        ("custom", replace(CUSTOM, context_width=24), "are 16 wide; this model takes 24"),
        ("sdxl", replace(SHAPE, block_widths=WIDTHS | {"middle_block.2": 4}), "the 4 of this"),
        ("sdxl", replace(SHAPE, block_widths=WIDTHS | {"middle_block.0": 6}), "its 3 and the 3"),
    ],
)
def test_a_style_of_another_kind_is_refused_by_name(family, shape, reason):
    style = sample_style(family=family)
    assert reason in misfit(style, shape)
    with pytest.raises(ACFunError, match=r"^The style was trained .* train a new style on this"):
        check_fits(style, shape)


def test_families_have_the_names_that_users_know():
    assert [name_of(family_of(w), w) for w in (768, 1024, 2048)] == ["SD1.x", "SD2.x", "SDXL"]
    assert name_of(family_of(1280), 1280) == "SDXL refiner"
    assert {family_of(width) for width in (1280, 5)} == {"custom"}
    unets = {key for key, row in FAMILIES.items() if not row.learns_offsets}
    assert unets == {"sd1", "sd2", "sdxl", "custom"}
    assert name_by_encoders({"l": 1, "g": 2}) == "SDXL"
    assert [name_by_encoders(e) for e in (["t5xxl", "g", "l"], ["qwen"])] == ["SD3.5", OTHER]
