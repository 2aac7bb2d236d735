"""Save and Load ACFun Style: names, damaged files, full disks, and nothing outside models/acfun."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import time
from pathlib import Path

import folder_paths
import pytest
from comfy_graphs import node
from comfy_server import PromptFailedError
from pack_nodes import with_facts
from safetensors.torch import load, save
from style_graphs import saved_style, styled_graph, training_graph


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
def content(acfun):
    return acfun.bytes_of(acfun.style())


def save_as(acfun, prefix):
    return acfun.run("ACFunSaveStyle", style=acfun.style(), filename_prefix=prefix)


def load_file(acfun, name):
    return acfun.run("ACFunLoadStyle", style_file=name)[0]


def files_below(path):
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def test_a_saved_style_loads_as_it_was(acfun, folder):
    (style,) = save_as(acfun, "monet")
    assert style is acfun.style()
    path = folder / "monet_00001_.safetensors"
    size = f"{path.stat().st_size / 1e6:.2f} MB"
    said = f"Saved {path.name} ({size}, 3 steps) in {path.parent}, without a preview: "
    assert acfun.texts[-1].startswith(said)
    loaded = load_file(acfun, path.name)
    assert acfun.bytes_of(loaded) == path.read_bytes()
    assert loaded.digest == style.digest
    assert loaded.card.title == "monet"
    told = f"sd1, 3 steps, {loaded.card.date}, {size}, trained with: A painting of a person in S*"
    assert acfun.texts[-1] == f"{told} style"
    assert loaded.facts == style.facts


def test_files_are_numbered_and_never_overwritten(acfun, folder):
    (folder / "monet_00002_.safetensors").write_bytes(b"mine")
    other = acfun.style(seed=1)
    for prefix in ("monet", "portraits/monet", "monet_dark"):
        save_as(acfun, prefix)
    for prefix in ("monet", "portraits\\monet"):
        acfun.run("ACFunSaveStyle", style=other, filename_prefix=prefix)
    assert files_below(folder) == [
        "monet_00002_.safetensors",
        "monet_00003_.safetensors",
        "monet_00004_.safetensors",
        "monet_dark_00001_.safetensors",
        "portraits/monet_00001_.safetensors",
        "portraits/monet_00002_.safetensors",
    ]
    assert (folder / "monet_00002_.safetensors").read_bytes() == b"mine"
    assert acfun.folder.style_names() == files_below(folder)
    load_file(acfun, "portraits/monet_00001_.safetensors")


@pytest.mark.parametrize("prefix", ["", "   "])
def test_without_a_name_a_style_is_called_style(acfun, folder, prefix):
    assert acfun.nodes["ACFunSaveStyle"].validate_inputs(prefix) is True
    save_as(acfun, prefix)
    assert files_below(folder) == ["style_00001_.safetensors"]


OUTSIDE = ["../evil", "a/../../evil", "..", "..\\evil", "/tmp/acfun-evil", "C:\\evil", "C:evil"]


@pytest.mark.parametrize("prefix", [*OUTSIDE, ".", "a/..", "a\0b"])
def test_a_prefix_that_leads_out_is_refused(acfun, folder, prefix):
    with pytest.raises(acfun.error, match=r"filename_prefix is .*; expected a name"):
        save_as(acfun, prefix)
    assert files_below(folder.parent.parent) == []
    assert not list(Path("/tmp").glob("acfun-evil*"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_name_that_leads_out_is_refused(acfun, folder, content, name):
    for outside in (folder.parent / "evil", folder.parent.parent / "evil"):
        outside.write_bytes(content)
    with pytest.raises(acfun.error, match=r"leads out of the folder of styles; .*Choose one"):
        load_file(acfun, name)
    assert "leads out of the folder" in acfun.nodes["ACFunLoadStyle"].validate_inputs(name)


@pytest.mark.parametrize("name", ["absent.safetensors", "", ".", "a\0b", "portraits"])
def test_a_file_that_is_not_there_is_named(acfun, folder, name):
    (folder / "portraits").mkdir()
    with pytest.raises(acfun.error, match=r"There is no style .* in models/acfun"):
        load_file(acfun, name)
    assert "There is no style" in acfun.nodes["ACFunLoadStyle"].validate_inputs(name)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def damaged_files(content, marker):
    """Return files that are no usable styles, each with the reason that must be told."""
    tensors = load(content)
    return {
        "truncated": (content[:-100], "no whole safetensors file"),
        "cut in the header": (content[:100], "no whole safetensors file"),
        "empty": (b"", "no whole safetensors file"),
        "text": (b"not a style at all, just words" * 9, "no whole safetensors file"),
        "huge header": ((2**40).to_bytes(8, "little") + content[8:], "no whole safetensors file"),
        "renamed pickle": (pickle.dumps(Bomb(marker)), "no whole safetensors file"),
        "foreign": (save(tensors, {"format": "pt"}), "it was not made by this pack"),
        "without metadata": (save(tensors), "it was not made by this pack"),
        "newer": (with_facts(content, {"format": 4}), "style format 4; .*Update the pack"),
        "no format": (with_facts(content, {"format": None}), "its format version is missing"),
        "bad run": (with_facts(content, {"run": "../../evil"}), "its facts are out of range"),
        "bad family": (with_facts(content, {"family": "of mars"}), "its facts are out of range"),
    }


NAMES = list(damaged_files(save({}, {"acfun_style": "{}"}), Path("unused")))


@pytest.mark.parametrize("kind", NAMES)
def test_a_damaged_file_is_refused_with_the_reason(acfun, folder, content, tmp_path, kind):
    file, reason = damaged_files(content, tmp_path / "marker")[kind]
    (folder / "bad.safetensors").write_bytes(file)
    with pytest.raises(acfun.error, match=rf"bad\.safetensors .*{reason}"):
        load_file(acfun, "bad.safetensors")
    assert not (tmp_path / "marker").exists()


def test_the_pickle_of_that_test_would_act(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_a_file_of_absurd_size_is_not_read(acfun, folder, content):
    path = folder / "huge.safetensors"
    path.write_bytes(content)
    os.truncate(path, 300 * 2**20)
    with pytest.raises(acfun.error, match=r"huge\.safetensors is no usable .* 300 MB large"):
        load_file(acfun, path.name)


def test_a_training_state_is_no_style(acfun, folder):
    from acfun_pack.acfun_ops.training.checkpoint import STATE_FILE

    state = folder / "training" / "0123456789abcdef.resume"
    state.parent.mkdir()
    state.write_bytes(save({}, {STATE_FILE.key: "{}"}))
    assert acfun.folder.style_names() == []
    with pytest.raises(acfun.error, match="not made by this pack"):
        load_file(acfun, f"training/{state.name}")


def fill_disk(file_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_partial_file(acfun, folder, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_disk)
        with pytest.raises(acfun.error, match=r"could not be written to .*No space left on device"):
            save_as(acfun, "monet")
    assert files_below(folder) == []
    save_as(acfun, "monet")
    assert files_below(folder) == ["monet_00001_.safetensors"]


@pytest.mark.parametrize("prefix", ["blocked/monet", "%year%/monet", "x" * 300])
def test_a_folder_or_file_that_cannot_be_made_is_named(acfun, folder, prefix):
    blocked = ["blocked", time.strftime("%Y")]
    for name in blocked:
        (folder / name).write_text("a file where a folder should be")
    with pytest.raises(acfun.error, match=r"could not be (made|written)"):
        save_as(acfun, prefix)
    assert files_below(folder) == sorted(blocked)


def test_a_folder_that_cannot_be_listed_is_named(acfun, folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(acfun.error, match="could not be made: Permission denied"):
        save_as(acfun, "monet")


def test_a_folder_from_extra_model_paths_is_used(acfun, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    folder_paths.folder_names_and_paths["acfun"] = ([str(other)], set())
    acfun.folder.register_folder()
    save_as(acfun, "monet")
    assert files_below(other) == ["monet_00001_.safetensors"]
    assert files_below(folder) == []
    load_file(acfun, "monet_00001_.safetensors")


@pytest.mark.parametrize(
    "name", ["portraits\\m\u00e9.safetensors", "portraits/me\u0301.safetensors"]
)
def test_a_name_of_another_system_finds_its_file(acfun, folder, content, name):
    (folder / "portraits").mkdir()
    (folder / "portraits" / "m\u00e9.safetensors").write_bytes(content)
    node = acfun.nodes["ACFunLoadStyle"]
    assert node.validate_inputs(name) is True
    assert node.fingerprint_inputs(name) == hashlib.sha256(content).hexdigest()
    assert acfun.bytes_of(load_file(acfun, name)) == content


@pytest.mark.parametrize("value", [None, 5, {"a": 1}])
def test_a_name_that_is_none_gets_a_sentence(acfun, folder, value):
    expected = f"style_file is {json.dumps(value)}; expected the name of a file below models/acfun."
    with pytest.raises(acfun.error, match=re.escape(expected)):
        load_file(acfun, value)
    with pytest.raises(acfun.error, match=r"filename_prefix is '.*'; expected a name"):
        save_as(acfun, value)
    # None may also stand for a link, which is not known yet.
    refused = acfun.nodes["ACFunLoadStyle"].validate_inputs(value)
    assert refused is True if value is None else expected in refused
    refused = acfun.nodes["ACFunSaveStyle"].validate_inputs(value)
    assert refused is True if value is None else "expected a name" in refused


def test_dates_are_put_in_as_the_page_does(acfun, folder, monkeypatch):
    moment = time.struct_time((2026, 3, 9, 17, 4, 5, 0, 68, 0))
    monkeypatch.setattr(time, "localtime", lambda *seconds: moment)
    save_as(acfun, "%date:yyyy-MM-dd%/monet %date:yy.M.d hh-mm-s%")
    assert files_below(folder) == ["2026-03-09/monet 26.3.9 17-04-5_00001_.safetensors"]
    for prefix in ("%date:hh:mm%", "a:b", "%date:yyyy"):
        with pytest.raises(acfun.error, match="without a colon"):
            save_as(acfun, prefix)


@pytest.mark.parametrize("prefix", ["画" * 78, "Ж" * 118, "x" * 236])
def test_long_names_of_any_script_are_saved_and_longer_ones_refused(acfun, folder, prefix):
    save_as(acfun, prefix)
    assert files_below(folder) == [f"{prefix}_00001_.safetensors"]
    with pytest.raises(acfun.error, match="could not be made: File name too long"):
        save_as(acfun, f"{prefix}{prefix[0]}")


def test_the_first_folder_that_can_be_written_is_used(acfun, folder, tmp_path):
    (tmp_path / "file").write_text("stands for a path that cannot be written")
    closed = tmp_path / "file" / "acfun"
    folder_paths.folder_names_and_paths["acfun"] = ([str(closed), str(folder)], {".safetensors"})
    acfun.train(seed=48)
    save_as(acfun, "monet")
    assert len(files_below(folder)) == 3  # With the training's style and history.
    folder_paths.folder_names_and_paths["acfun"] = ([str(closed)], {".safetensors"})
    with pytest.raises(acfun.error, match=r"No folder of models/acfun can be written .*file.acfun"):
        acfun.train(model=None)  # Refused before anything is looked at.
    assert "No folder" in acfun.nodes["ACFunSaveStyle"].validate_inputs("monet")


@pytest.fixture
def server_style(acfun, server, content):
    path = server.styles_dir / "given.safetensors"
    path.write_bytes(content)
    return path.name


def save_graph(style, prefix):
    return {
        "style": node("ACFunLoadStyle", style_file=style),
        "save_style": node("ACFunSaveStyle", style=["style", 0], filename_prefix=prefix),
    }


def test_the_server_lists_what_it_has_saved(server, server_style, content):
    history = server.run(save_graph(server_style, "portraits/listed"))
    path = saved_style(history)
    assert path == server.styles_dir / "portraits" / "listed_00001_.safetensors"
    assert path.stat().st_size >= len(content)
    inputs = server.object_info("ACFunLoadStyle")["ACFunLoadStyle"]["input"]["required"]
    assert "portraits/listed_00001_.safetensors" in str(inputs["style_file"])
    # A blank clears what an earlier run of the node has shown.
    texts = [text for text in server.messages(history).texts("save_style") if text.strip()]
    assert texts == history["outputs"]["save_style"]["text"]


def test_the_server_refuses_names_and_damaged_files(server, models_dir, server_style, content):
    error = server.run_failing(styled_graph(models_dir, "../given.safetensors"))
    assert "leads out of the folder of styles" in error
    error = server.run_failing(styled_graph(models_dir, "absent.safetensors"))
    assert "There is no style 'absent.safetensors'" in error
    error = server.run_failing(save_graph(server_style, "../../output/evil"))
    assert "filename_prefix is '../../output/evil'" in error
    assert not list(server.base.rglob("evil*"))
    (server.styles_dir / "short.safetensors").write_bytes(content[:-9])
    error = server.run_failing(styled_graph(models_dir, "short.safetensors"))
    assert "Node style (ACFunLoadStyle)" in error
    assert "short.safetensors is no usable ACFun style: it is no whole safetensors" in error


def test_the_server_says_why_it_cannot_save(server, server_style):
    (server.styles_dir / "blocked").write_text("a file where a folder should be")
    error = server.run_failing(save_graph(server_style, "blocked/style"))
    assert "A style 'blocked/style' in" in error
    assert "could not be made: Not a directory" in error


def test_a_bad_name_is_refused_before_a_training_runs_in_the_same_graph(server, models_dir):
    (server.styles_dir / "file").write_text("a file where a folder should be")
    graph = training_graph(server, models_dir, seed=47)
    for prefix in ("a:b", "file/b", "画" * 80):
        graph["save_style"]["inputs"]["filename_prefix"] = prefix
        with pytest.raises(PromptFailedError, match="Custom validation failed for node"):
            server.queue(graph)
