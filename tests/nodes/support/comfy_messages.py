"""The messages that a ComfyUI server sends over its websocket while a prompt runs."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

# ComfyUI's numbers for binary messages.
PREVIEW_IMAGE = 1
TEXT = 3
CONNECT_TIMEOUT = END_TIMEOUT = 60.0  # A loaded machine is slow.


@dataclass(frozen=True)
class Message:
    """One message: its type, the prompt it belongs to, and what it carries.

    ComfyUI's own types keep their names ("progress", "executing", ...). Binary messages become
    "preview" with an "image", and "text" with a "node" and a "text".
    """

    type: str
    prompt_id: str | None
    data: dict[str, Any]

    @property
    def ends_prompt(self) -> bool:
        """Return whether this is the last message of a prompt."""
        return self.type == "executing" and self.data["node"] is None


@dataclass(frozen=True)
class RunMessages:
    """The messages of one run, in the order they came."""

    all: tuple[Message, ...]

    def of_type(self, message_type: str) -> list[dict[str, Any]]:
        """Return what the messages of a type carry."""
        return [message.data for message in self.all if message.type == message_type]

    def progress(self, node_id: str) -> list[tuple[int, int]]:
        """Return the steps that a node reported: (done, of how many)."""
        steps = [data for data in self.of_type("progress") if data["node"] == node_id]
        return [(step["value"], step["max"]) for step in steps]

    def previews(self) -> list[np.ndarray]:
        """Return the preview images, (h, w, 3) uint8."""
        return [data["image"] for data in self.of_type("preview")]

    def texts(self, node_id: str) -> list[str]:
        """Return the texts that a node showed on itself."""
        return [data["text"] for data in self.of_type("text") if data["node"] == node_id]


class MessageListener:
    """A websocket client in a thread that keeps all messages of one client id."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._messages: list[Message] = []
        self._changed = threading.Condition()
        self._running_prompt: str | None = None
        self._loop = asyncio.new_event_loop()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Connect. Raises ConnectionError if the server does not accept."""
        self._thread.start()
        if not self._connected.wait(CONNECT_TIMEOUT):
            raise ConnectionError(f"No websocket at {self._url} after {CONNECT_TIMEOUT:.0f} s.")

    def stop(self) -> None:
        """Disconnect, and wait for the thread to end."""
        if self._socket is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._socket.close(), self._loop).result(5)
        self._thread.join(5)

    def messages_of(self, prompt_id: str) -> RunMessages:
        """Return the messages of a prompt that have come so far."""
        with self._changed:
            return RunMessages(tuple(m for m in self._messages if m.prompt_id == prompt_id))

    def wait_for(self, prompt_id: str, message_type: str, timeout: float) -> None:
        """Return when a prompt has sent a message of a type. Raises TimeoutError."""
        self._wait(lambda m: m.prompt_id == prompt_id and m.type == message_type, timeout)

    def wait_for_end(self, prompt_id: str) -> None:
        """Return when the last message of a prompt has come. Raises TimeoutError."""
        self._wait(lambda m: m.prompt_id == prompt_id and m.ends_prompt, END_TIMEOUT)

    def _wait(self, is_awaited: Any, timeout: float) -> None:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: any(is_awaited(message) for message in self._messages), timeout
            )
        if not arrived:
            raise TimeoutError(f"The awaited message did not come in {timeout:.0f} s.")

    def _listen(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._receive())
        self._loop.close()

    async def _receive(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=0) as socket,
        ):
            self._socket = socket
            self._connected.set()
            async for frame in socket:
                if frame.type == aiohttp.WSMsgType.TEXT:
                    self._keep_json(json.loads(frame.data))
                elif frame.type == aiohttp.WSMsgType.BINARY:
                    self._keep_binary(frame.data)

    def _keep_json(self, body: dict[str, Any]) -> None:
        data = body["data"]
        if body["type"] == "execution_start":
            self._running_prompt = data["prompt_id"]
        self._keep(Message(body["type"], data.get("prompt_id"), data))

    def _keep_binary(self, body: bytes) -> None:
        """Keep a preview or a text, which carry no prompt id: they belong to what runs now."""
        (kind,) = struct.unpack_from(">I", body)
        if kind == PREVIEW_IMAGE:
            image = decode_image(body[8:])  # After the kind comes the image format.
            self._keep(Message("preview", self._running_prompt, {"image": image}))
        elif kind == TEXT:
            (length,) = struct.unpack_from(">I", body, 4)
            node, text = body[8 : 8 + length].decode(), body[8 + length :].decode()
            self._keep(Message("text", self._running_prompt, {"node": node, "text": text}))

    def _keep(self, message: Message) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()


def decode_image(encoded: bytes) -> np.ndarray:
    """Return a PNG or JPEG file as (h, w, 3) uint8."""
    return np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))
