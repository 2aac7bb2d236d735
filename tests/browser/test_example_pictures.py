"""The templates' example pictures come into ComfyUI's input folder, and the page says so if not."""

from __future__ import annotations

import pytest

PACK_NAME = "acfun"
TEMPLATE = "1 Train a style and apply it"
NAMES = {"acfun_style.jpg", "acfun_face.jpg"}
ANSWERS = {
    "refuses": lambda route: route.fulfill(status=413),
    "says yes and keeps nothing": lambda route: route.fulfill(status=200, body="{}"),
    "cuts off": lambda route: route.abort(),
}


@pytest.fixture
def folder(page_server):
    """Return ComfyUI's input folder, without our pictures."""
    path = page_server.base / "input"
    for name in NAMES:
        (path / name).unlink(missing_ok=True)
    return path


def toast(opened, severity):
    return opened.page.locator(f".p-toast-message-{severity}").last


def test_missing_pictures_are_put_there(comfy_page, folder):
    comfy_page.open_template(PACK_NAME, TEMPLATE)
    assert "Put into ComfyUI's input folder: " in toast(comfy_page, "info").inner_text()
    assert {path.name for path in folder.iterdir()} >= NAMES


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_picture_that_the_server_does_not_take_is_named(comfy_page, folder, answer):
    comfy_page.page.route("**/upload/image", answer)
    try:
        comfy_page.open_template(PACK_NAME, TEMPLATE)
        text = toast(comfy_page, "error").inner_text()
    finally:
        comfy_page.page.unroute("**/upload/image")
    assert text.startswith("ACFun\nComfyUI did not take acfun_")
    assert all(name in text for name in NAMES)
    assert "web/examples" in text
