"""Names, pictures and labels of styles: what people see of a file before and after they load it."""

from __future__ import annotations

import io
import json
import os
import re
import time
import zlib
from dataclasses import replace
from datetime import date
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
from comfy_graphs import node
from pack_nodes import picture
from PIL import Image
from safetensors import safe_open
from style_graphs import saved_style


@pytest.fixture
def folder(acfun, tmp_path, monkeypatch):
    """Return an empty folder that stands for models/acfun."""
    for inputs in ({}, {"seed": 1}):
        acfun.style(**inputs)  # Their trainings leave files elsewhere.
    path = tmp_path / "models" / "acfun"
    path.mkdir(parents=True)
    paths = {"acfun": ([str(path)], {".safetensors"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", folder_paths.folder_names_and_paths | paths
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return path


@pytest.fixture
def kept(acfun, folder):
    """Return a function that puts a style into the folder of trainings, as long ago as given."""

    def keep(seed=0, suffix="", ago=0):
        style = acfun.style(seed=seed) if seed else acfun.style()
        path = folder / "training" / f"{style.facts.run}{suffix}.safetensors"
        acfun.style_file.save_style(style, path)
        moment = time.time() - ago
        os.utime(path, (moment, moment))
        return path

    return keep


def save(acfun, style=None, prefix="monet", **inputs):
    acfun.run("ACFunSaveStyle", style=style or acfun.style(), filename_prefix=prefix, **inputs)
    return acfun.texts[-1]


def load(acfun, name):
    return acfun.run("ACFunLoadStyle", style_file=name)[0]


def names_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_trainings_are_listed_by_prompt_steps_and_date_newest_first(acfun, folder, kept):
    save(acfun)
    old, new = kept(seed=0, ago=90_000), kept(seed=1)
    names = acfun.folder.style_names()
    assert names[0] == "monet_00001_.safetensors"
    prompt = "A painting of a person in S* style"
    for name, path in zip(names[1:], (new, old), strict=True):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        assert name == f"training/{prompt}, 3 steps, {day} #{path.stem[:8]}"
    (listed,) = acfun.nodes["ACFunLoadStyle"].define_schema().inputs
    assert listed.options == names


def test_a_training_that_is_gone_since_the_listing_is_not_listed(acfun, folder, kept, monkeypatch):
    (gone, here), label_of = (kept(seed=0), kept(seed=1)), acfun.folder.label_of

    def label_then_remove(name, path):
        label = label_of(name, path)
        if path == gone:
            path.unlink(missing_ok=True)
        return label

    monkeypatch.setattr(acfun.folder, "label_of", label_then_remove)
    (name,) = acfun.folder.style_names()
    assert name.endswith(f"#{here.stem[:8]}")


def test_a_run_that_was_saved_is_not_listed_and_its_label_loads(acfun, folder, kept):
    path, other = kept(ago=60), kept(seed=1)
    labels = acfun.folder.style_names()
    for _ in range(2):  # Also when the same style is saved already.
        save(acfun)
        assert acfun.folder.style_names() == ["monet_00001_.safetensors", labels[0]]
    for name in (labels[1], f"training/{path.name}"):
        assert load(acfun, name).digest == acfun.style().digest
    kept()  # It has gone on.
    assert any(name.endswith(labels[1][-9:]) for name in acfun.folder.style_names())
    save(acfun)
    (folder / "monet_00001_.safetensors").unlink()
    assert len(acfun.folder.style_names()) == 2 and other.exists()


@pytest.mark.parametrize("thumbnail", [False, True])
def test_the_last_preview_of_its_training_is_put_beside_a_style(acfun, folder, kept, thumbnail):
    from acfun_pack.nodes.library.preview_image import write_preview

    shades = torch.stack([torch.zeros(64, 64, 3), torch.ones(64, 64, 3)])
    write_preview(shades, kept())
    write_preview(shades[:1], kept(seed=1))
    assert save(acfun, thumbnail=thumbnail).endswith(", with its preview beside it")
    with Image.open(folder / "monet_00001_.preview.jpg") as beside:
        assert np.asarray(beside).mean() > 250
    assert bool(load(acfun, "monet_00001_.safetensors").card.thumbnail) == thumbnail
    save(acfun, prefix="own", preview=shades[:1])
    with Image.open(folder / "own_00001_.preview.jpg") as beside:
        assert np.asarray(beside).mean() < 5


def test_only_the_newest_runs_are_listed_and_read(acfun, folder, kept, monkeypatch):
    newest = [kept(suffix=f"_{number}", ago=number * 60) for number in range(2, 5)]
    old, read = kept(suffix="_5", ago=10**6), []
    label, read_facts = acfun.folder.label_of(f"training/{old.name}", old), acfun.folder.read_facts
    monkeypatch.setattr(acfun.folder, "MOST_RUNS", 3)
    monkeypatch.setattr(
        acfun.folder, "read_facts", lambda path: read.append(path) or read_facts(path)
    )
    names = acfun.folder.style_names()
    assert [name.rsplit("_")[-1] for name in names] == ["2", "3", "4"]
    assert read == newest
    for name in (label, f"training/{old.name}"):
        assert load(acfun, name).digest == acfun.style().digest


def test_no_header_of_another_training_is_read_to_find_one(acfun, folder, kept, monkeypatch):
    from acfun_pack.nodes.library import runs

    mine, facts, read = kept(seed=1), acfun.style(seed=1).facts, []
    other = kept(seed=0).rename(mine.with_name(f"{0:016x}.safetensors"))
    other.with_suffix(".resume").write_bytes(b"")
    read_facts = runs.read_facts
    monkeypatch.setattr(runs, "read_facts", lambda path: read.append(path) or read_facts(path))
    assert runs.find_finished(facts, facts.steps).style.digest == acfun.style(seed=1).digest
    assert runs.find_partial(facts, 0, facts.steps + 1) is None
    assert read == [mine]


def test_listed_names_and_the_files_own_load_the_same_style(acfun, folder, kept):
    first, second = kept(), kept(suffix="_2", ago=60)
    load_node = acfun.nodes["ACFunLoadStyle"]
    labels = acfun.folder.style_names()
    assert len(set(labels)) == 2
    for path, label in zip((first, second), labels, strict=True):
        for name in (label, f"training/{path.name}", f"training\\{path.name}"):
            assert load_node.validate_inputs(name) is True
            assert acfun.folder.style_path(name) == path


def test_a_saved_workflow_finds_its_training_after_more_steps_another_day(acfun, folder, kept):
    path = kept(ago=10**6)
    (before,) = acfun.folder.style_names()
    style = acfun.style()
    more = replace(style, facts=replace(style.facts, steps=9))
    acfun.style_file.save_style(more, path)
    (after,) = acfun.folder.style_names()
    assert ", 9 steps, " in after and after != before
    assert load(acfun, before).facts.steps == 9
    path.unlink()
    assert "There is no style" in acfun.nodes["ACFunLoadStyle"].validate_inputs(before)


def test_a_long_prompt_of_many_lines_is_listed_in_one_short_line(acfun, folder, kept):
    path = kept()
    style = acfun.style()
    facts = replace(style.facts, prompt="A face\nin S* style / " + "very long " * 30)
    acfun.style_file.save_style(replace(style, facts=facts), path)
    (name,) = acfun.folder.style_names()
    assert "\n" not in name and len(name) < 130
    assert load(acfun, name).facts == facts


def test_a_damaged_file_is_listed_and_refused_with_the_reason(acfun, folder, kept):
    path = kept()
    path.write_bytes(path.read_bytes()[:99])
    (name,) = acfun.folder.style_names()
    assert name.startswith("training/?, ? steps, ")
    with pytest.raises(acfun.error, match="is no usable ACFun style"):
        load(acfun, name)


def test_an_unchanged_style_is_saved_once_and_the_node_says_so(acfun, folder):
    assert save(acfun).startswith("Saved ")
    written = (folder / "monet_00001_.safetensors").read_bytes()
    text = save(acfun)
    assert text == (
        f"Saved before as monet_00001_.safetensors in {folder}, unchanged; "
        "no second file was written"
    )
    save(acfun, style=load(acfun, "monet_00001_.safetensors"))
    assert names_in(folder) == ["monet_00001_.safetensors"]
    assert (folder / "monet_00001_.safetensors").read_bytes() == written
    assert f"steps) in {folder}, without a preview" in save(acfun, style=acfun.style(seed=1))
    assert f"steps) in {folder}, without a preview" in save(acfun, author="A. N.")
    assert f"steps) in {folder}, without a preview" in save(acfun, prefix="other")
    assert len(names_in(folder)) == 4


def test_a_damaged_file_under_the_same_name_is_no_duplicate(acfun, folder):
    save(acfun)
    path = folder / "monet_00001_.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert save(acfun).startswith("Saved ") and len(names_in(folder)) == 2


def test_what_people_say_is_in_the_file_and_stays_when_it_is_saved_again(acfun, folder):
    save(acfun, author=" A. N. ", license="CC BY 4.0")
    loaded = load(acfun, "monet_00001_.safetensors")
    assert ", by A. N., CC BY 4.0, trained with: " in acfun.texts[-1]
    save(acfun, style=loaded, prefix="copies/copy")
    copy = load(acfun, "copies/copy_00001_.safetensors").card
    assert (copy.title, copy.author, copy.license) == ("copy", "A. N.", "CC BY 4.0")
    assert date.fromisoformat(copy.date) == date.fromisoformat(loaded.card.date)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_preview_stands_beside_the_file_and_not_in_it(acfun, folder, channels):
    text = save(acfun, preview=picture(5, 96, 128, channels))
    assert text.endswith(", with its preview beside it")
    path = folder / "monet_00001_.safetensors"
    with Image.open(folder / "monet_00001_.preview.jpg") as beside:
        assert (beside.format, beside.size) == ("JPEG", (128, 96))
    assert b"data:image" not in path.read_bytes()
    with safe_open(path, framework="pt") as file:
        assert "modelspec.thumbnail" not in file.metadata()


def test_a_thumbnail_is_in_the_file_if_wanted_and_loads_as_a_picture(acfun, folder):
    save(acfun, preview=picture(5, 300, 600), thumbnail=True)
    (folder / "monet_00001_.preview.jpg").unlink()
    loaded = load(acfun, "monet_00001_.safetensors")
    assert loaded.card.thumbnail.startswith("data:image/jpeg;base64,")
    from acfun_pack.nodes.library.preview_image import read_preview

    shown = read_preview(folder / "monet_00001_.safetensors", loaded.card)
    assert shown.shape == (1, 128, 256, 3)
    small = torch.nn.functional.interpolate(
        picture(5, 300, 600).movedim(-1, 1), size=(128, 256), mode="area"
    ).movedim(1, -1)
    assert (shown - small).abs().mean() < 0.03


def test_with_thumbnail_off_the_picture_of_a_loaded_style_is_not_in_the_file(acfun, folder):
    save(acfun, preview=picture(5), thumbnail=True)
    loaded = load(acfun, "monet_00001_.safetensors")
    for number, options in enumerate(({}, {"preview": picture(6)}, {"thumbnail": True})):
        save(acfun, style=loaded, prefix=f"copy{number}", **options)
        card = load(acfun, f"copy{number}_00001_.safetensors").card
        assert card.thumbnail == (loaded.card.thumbnail if "thumbnail" in options else "")


def test_of_several_pictures_the_last_is_the_preview(acfun, folder):
    several = torch.cat([torch.zeros(1, 64, 64, 3), torch.ones(1, 64, 64, 3)])
    save(acfun, preview=several)
    with Image.open(folder / "monet_00001_.preview.jpg") as beside:
        assert np.asarray(beside).mean() > 250


def test_it_is_said_that_no_picture_or_an_old_one_is_in_the_file(acfun, folder):
    save(acfun, thumbnail=True)
    assert acfun.texts[-1].startswith("thumbnail is on, but no picture is in the file")
    save(acfun, prefix="shown", thumbnail=True, preview=picture(5))
    again = {"prefix": "shown", "thumbnail": True}
    same, other = (save(acfun, **again, preview=picture(seed)) for seed in (5, 6))
    assert "no second file was written, with its preview" in same
    assert "and the picture inside stays as it was, with its preview" in other


@pytest.mark.parametrize(
    "thumbnail",
    ["", "data:image/jpeg;base64,AAAA", "data:image/jpeg;base64,\u00e9", "http://a.b/c.jpg", "x"],
)
def test_a_thumbnail_that_is_no_picture_is_passed_over(acfun, folder, thumbnail):
    from acfun_pack.nodes.library.preview_image import read_preview

    card = replace(acfun.style().card, thumbnail=thumbnail)
    assert read_preview(folder / "none.safetensors", card) is None


def png(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def bitmap():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "BMP")
    return file.getvalue()


def png_with_a_broken_chunk():
    whole = png(64, 64)
    start = whole.index(b"IDAT")
    length = int.from_bytes(whole[start - 4 : start], "big")
    half = length // 2
    data = b"IDAT" + whole[start + 4 :][:half]
    chunk = half.to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return whole[: start - 4] + chunk + bytes(4) + b"\0\0\0\0" + bytes(4)


@pytest.mark.parametrize(
    "content",
    [b"", bitmap(), png(8, 8)[:40], png_with_a_broken_chunk(), png(2**13, 2**12)],
    ids=["empty", "another format", "cut off", "a broken chunk", "huge"],
)
def test_a_picture_beside_a_style_that_is_of_no_use_is_passed_over(acfun, folder, content):
    from acfun_pack.nodes.library.preview_image import read_preview

    (folder / "given.preview.jpg").write_bytes(content)
    assert read_preview(folder / "given.safetensors", acfun.style().card) is None


def test_a_picture_beside_a_style_is_shown_small(acfun, folder):
    from acfun_pack.nodes.library.preview_image import read_preview

    (folder / "given.preview.jpg").write_bytes(png(2**11, 2**10))
    shown = read_preview(folder / "given.safetensors", acfun.style().card)
    assert shown.shape == (1, 256, 512, 3)


def test_a_picture_that_may_not_be_read_makes_room_for_the_thumbnail(acfun, folder, monkeypatch):
    from acfun_pack.nodes.library.preview_image import read_preview, thumbnail_of

    def refuse(path):
        raise PermissionError(path)

    (folder / "given.preview.jpg").write_bytes(png(8, 8))
    card = replace(acfun.style().card, thumbnail=thumbnail_of(picture(5)))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert read_preview(folder / "given.safetensors", card).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (1, 64, 64, 2), (1, 0, 64, 3), (64, 64, 3)])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_a_preview_that_is_no_picture_costs_no_style(acfun, folder, shape, thumbnail):
    text = save(acfun, preview=torch.zeros(shape), thumbnail=thumbnail)
    assert f"but without its preview. preview has the shape {shape}; expected" in text
    assert names_in(folder) == ["monet_00001_.safetensors"]


def test_a_preview_that_cannot_be_written_costs_no_style(acfun, folder, monkeypatch):
    from acfun_pack.nodes.library import preview_image as style_preview

    def full(*arguments):
        raise acfun.error("The disk is full.")

    monkeypatch.setattr(style_preview, "write_whole", full)
    text = save(acfun, preview=picture(5))
    assert text.endswith(", but without its preview. The disk is full.")
    assert (folder / "monet_00001_.safetensors").is_file()


def test_the_model_library_shows_the_preview_and_load_shows_the_facts(acfun, either_server):
    given = either_server.styles_dir / "given.safetensors"
    acfun.style_file.save_style(acfun.style(), given)
    either_server.add_input("drawn.png", np.full((64, 96, 3), (255, 0, 0), dtype=np.uint8))
    graph = {
        "style": node("ACFunLoadStyle", style_file=given.name),
        "drawn": node("LoadImage", image="drawn.png"),
        "save_style": node(
            "ACFunSaveStyle", style=["style", 0], filename_prefix="shown", preview=["drawn", 0]
        ),
    }
    path = saved_style(either_server.run(graph))
    address = f"/experiment/models/preview/acfun/0/{path.name}"
    with Image.open(io.BytesIO(either_server.request(address))) as shown:
        red = np.asarray(shown.convert("RGB")).mean(axis=(0, 1))
        assert shown.size == (96, 64) and red[0] > 240 and red[1:].max() < 20
    listed = [entry["name"] for entry in either_server.get_json("/experiment/models/acfun")]
    assert path.name in listed
    graph = {
        "style": node("ACFunLoadStyle", style_file=path.name),
        "save_style": node("ACFunSaveStyle", style=["style", 0], filename_prefix="shown"),
    }
    history = either_server.run(graph)
    shown = history["outputs"]["style"]
    assert re.match(r"sd1, 3 steps, [\d-]{10}, ", shown["text"][0])
    assert len(shown["images"]) == 1
    assert "unchanged" in json.dumps(history["outputs"]["save_style"])
