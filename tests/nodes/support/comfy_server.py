"""A ComfyUI server in its own process and folder, driven over HTTP as a browser does.

The module is not called `server`: ComfyUI has a top-level module of that name.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from comfy_messages import MessageListener, RunMessages, decode_image
from comfy_process import ComfyProcess
from PIL import Image

Graph = Mapping[str, Mapping[str, Any]]
History = dict[str, Any]

RUN_TIMEOUT = 300.0
EMPTY_IMAGE = {"width": 8, "height": 8, "batch_size": 1, "color": 0}


class PromptFailedError(RuntimeError):
    """A prompt was rejected, failed or was interrupted; the text names the node and the cause."""


class ComfyServer(ComfyProcess):
    """A running ComfyUI that prompt graphs in the API format are sent to."""

    client_id = ""
    _listener: MessageListener | None = None

    def _on_up(self) -> None:
        """Start to listen to the server's messages."""
        self.client_id = uuid.uuid4().hex
        self._listener = MessageListener(f"ws://{self.address}/ws?clientId={self.client_id}")
        self._listener.start()

    def _stop(self) -> None:
        try:
            if self._listener is not None:
                self._listener.stop()
        finally:
            super()._stop()

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """Return the description of all nodes, or of one: {} if ComfyUI does not know it."""
        return self.get_json("/object_info" if node is None else f"/object_info/{node}")

    def queue(self, graph: Graph, client_id: str | None = None) -> str:
        """Queue a prompt graph; return its id. Raises PromptFailedError if it is rejected.

        With another `client_id` the messages of the run go elsewhere.
        """
        body = {"prompt": graph, "client_id": client_id or self.client_id}
        try:
            return json.loads(self.request("/prompt", body))["prompt_id"]
        except urllib.error.HTTPError as error:
            raise PromptFailedError(_rejection_text(error.read().decode())) from error

    def wait(self, prompt_id: str, timeout: float = RUN_TIMEOUT) -> History:
        """Return the history entry of a prompt once it has ended, in whichever way."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            entry = self.get_json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                if _client_of(entry) == self.client_id:
                    self._running_listener().wait_for_end(prompt_id)
                return entry
            self.check_alive()
            time.sleep(0.05)
        raise TimeoutError(f"The prompt did not end in {timeout:.0f} s.\n{self.log_tail()}")

    def run(self, graph: Graph, timeout: float = RUN_TIMEOUT) -> History:
        """Run a prompt graph to its end; return its history entry.

        Raises PromptFailedError if the prompt is rejected, fails or is interrupted.
        """
        history = self.wait(self.queue(graph), timeout)
        failure = failure_text(history)
        if failure is not None:
            raise PromptFailedError(failure)
        return history

    def run_failing(self, graph: Graph, timeout: float = RUN_TIMEOUT) -> str:
        """Run a prompt graph that must fail; return the error's text."""
        try:
            self.run(graph, timeout)
        except PromptFailedError as error:
            return str(error)
        raise AssertionError("The prompt was expected to fail, but it succeeded.")

    def interrupt(self) -> None:
        """Ask the server to stop the prompt that runs, as the page's stop button does."""
        self.request("/interrupt", {})

    def forget(self) -> None:
        """Make the server drop all cached results and models, so that the next run computes all.

        The server does so between two prompts, hence the small prompt.
        """
        self.request("/free", {"unload_models": True, "free_memory": True})
        image = {"class_type": "EmptyImage", "inputs": EMPTY_IMAGE}
        preview = {"class_type": "PreviewImage", "inputs": {"images": ["image", 0]}}
        self.run({"image": image, "preview": preview})

    def images(self, history: History, node_id: str) -> list[np.ndarray]:
        """Return the images that an output node of a run has saved, as (h, w, 3) uint8."""
        files = history["outputs"][node_id]["images"]
        paths = ["/view?" + urllib.parse.urlencode(file) for file in files]
        return [decode_image(self.request(path)) for path in paths]

    def cached_nodes(self, history: History) -> set[str]:
        """Return the ids of the nodes whose results a run took from ComfyUI's cache."""
        messages = dict(history["status"]["messages"])
        return set(messages["execution_cached"]["nodes"])

    def executed_nodes(self, history: History) -> list[str]:
        """Return the ids of the nodes that a run executed, in order."""
        messages = self.messages(history).of_type("executing")
        return [str(message["node"]) for message in messages if message["node"] is not None]

    def messages(self, history: History) -> RunMessages:
        """Return the progress, preview and text messages of a run."""
        return self._running_listener().messages_of(history["prompt"][1])

    def wait_for_message(
        self, prompt_id: str, message_type: str, timeout: float = RUN_TIMEOUT
    ) -> None:
        """Return when a prompt has sent a message of a type, as "progress" or "executing"."""
        self._running_listener().wait_for(prompt_id, message_type, timeout)

    def add_input(self, name: str, image: np.ndarray) -> str:
        """Save an (h, w, 3) uint8 image where LoadImage finds it; return its name."""
        path = self.input_dir / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        return name

    def _running_listener(self) -> MessageListener:
        if self._listener is None:
            raise RuntimeError("The server is not started: use it in a with statement.")
        return self._listener


def failure_text(history: History) -> str | None:
    """Return why a run failed, or None if it succeeded."""
    if history["status"]["status_str"] == "success":
        return None
    messages = dict(history["status"]["messages"])
    if "execution_interrupted" in messages:
        node = messages["execution_interrupted"]
        return f"Interrupted in node {node['node_id']} ({node['node_type']})."
    error = messages["execution_error"]
    return (
        f"Node {error['node_id']} ({error['node_type']}): "
        f"{error['exception_type']}: {error['exception_message']}"
    )


def _rejection_text(body: str) -> str:
    """Return the errors of ComfyUI's answer to a prompt that it does not accept, one a line."""
    answer = json.loads(body)
    lines = [f"{answer['error']['message']}: {answer['error']['details']}"]
    for node_id, node in answer["node_errors"].items():
        for error in node["errors"]:
            lines.append(
                f"Node {node_id} ({node['class_type']}): {error['message']}: {error['details']}"
            )
    return "\n".join(lines)


def _client_of(history: History) -> str | None:
    return history["prompt"][3].get("client_id")
