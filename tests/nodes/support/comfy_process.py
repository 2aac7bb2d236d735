"""ComfyUI as a process with its own folder: started, asked over HTTP, stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

START_TIMEOUT = 600.0  # Seconds; a minute on an idle machine.
REQUEST_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
LOG_TAIL = 4000  # Characters of the log that an error message shows.
# Model folders that servers share; every other folder is the server's own.
SHARED_MODEL_FOLDERS = (
    "checkpoints",
    "clip_vision",
    "controlnet",
    "diffusion_models",
    "loras",
    "text_encoders",
    "upscale_models",
    "vae",
)
TEMPLATES_PACKAGE = "comfyui_workflow_templates"

Process = TypeVar("Process", bound="ComfyProcess")


class ComfyProcess:
    """A context manager around `python main.py` of one ComfyUI folder, on the CPU unless told.

    `models` is a folder in ComfyUI's layout whose model folders are linked in, so that files
    added later appear as well. `pack`, if given, is linked into custom_nodes as `pack_name`.
    Nothing but byte code is written into the ComfyUI folder.
    """

    def __init__(
        self,
        comfyui: Path,
        models: Path,
        pack: Path | None = None,
        pack_name: str = "acfun",
        arguments: Sequence[str] = (),
        cpu: bool = True,
    ) -> None:
        self.comfyui = comfyui
        self.port = free_port()
        self._arguments = [*(["--cpu"] if cpu else []), *arguments]
        # The address is this machine: a proxy in the environment must not be asked for it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="comfyui-test-")
        self.base = Path(self._folder.name)
        self._lay_out(models, pack, pack_name)

    @property
    def address(self) -> str:
        """Return host and port, as in 127.0.0.1:8188."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Return the id of the server's process."""
        return self._running_process().pid

    @property
    def input_dir(self) -> Path:
        """Return the folder that LoadImage reads."""
        return self.base / "input"

    @property
    def output_dir(self) -> Path:
        """Return the folder that SaveImage writes."""
        return self.base / "output"

    @property
    def styles_dir(self) -> Path:
        """Return the server's own models/acfun."""
        return self.base / "models" / "acfun"

    def add_pack(self, folder: Path) -> None:
        """Link a folder of custom nodes in, which the next start loads."""
        link = self.base / "custom_nodes" / folder.name
        link.symlink_to(folder, target_is_directory=True)

    def __enter__(self: Process) -> Process:
        """Start ComfyUI; return when it answers."""
        self._start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop ComfyUI and remove its folder."""
        self.close()

    def close(self) -> None:
        """Stop ComfyUI and remove its folder. May be called again."""
        self._stop()
        self._folder.cleanup()

    def restart(self) -> None:
        """Stop ComfyUI and start it again in its folder, as a user does from day to day."""
        self._stop()
        self._start()

    def log(self) -> str:
        """Return what ComfyUI has written to its log so far."""
        return (self.base / "comfyui.log").read_text(errors="replace")

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return the answer to a GET of a path, or to a POST of a body as JSON.

        Raises urllib.error.HTTPError for a status of 400 or more.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data)
        with self._opener.open(request, timeout=REQUEST_TIMEOUT) as response:
            return response.read()

    def get_json(self, path: str) -> Any:
        """Return the JSON that ComfyUI answers on a path."""
        return json.loads(self.request(path))

    def check_alive(self) -> None:
        """Raise RuntimeError with the end of the log if ComfyUI has ended by itself."""
        status = self._running_process().poll()
        if status is not None:
            raise RuntimeError(f"ComfyUI ended with status {status}.\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of the log, for error messages."""
        return self.log()[-LOG_TAIL:]

    def _start(self) -> None:
        with (self.base / "comfyui.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.comfyui,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_up()
            self._on_up()
        except BaseException:
            self.close()
            raise

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _on_up(self) -> None:
        """Do what must follow the start; for subclasses."""

    def _lay_out(self, models: Path, pack: Path | None, pack_name: str) -> None:
        """Make the base folder: own folders, links to the models, the pack and nothing else."""
        for folder in ("input", "output", "temp", "user", "custom_nodes", "models/acfun"):
            (self.base / folder).mkdir(parents=True)
        for folder in SHARED_MODEL_FOLDERS:
            (models / folder).mkdir(parents=True, exist_ok=True)
            (self.base / "models" / folder).symlink_to(models / folder, target_is_directory=True)
        if pack is not None:
            link = self.base / "custom_nodes" / pack_name
            link.symlink_to(pack, target_is_directory=True)

    def _command(self) -> list[str]:
        database = self.base / "user" / "comfyui.db"
        return [
            *(sys.executable, "main.py", "--port", str(self.port)),
            *("--base-directory", str(self.base), "--database-url", f"sqlite:///{database}"),
            *("--disable-auto-launch", "--disable-api-nodes"),
            *self._arguments,
        ]

    def _environment(self) -> dict[str, str]:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if lacks_templates_folder(self.comfyui):
            package = self.base / "python" / TEMPLATES_PACKAGE
            (package / "templates").mkdir(parents=True)
            (package / "__init__.py").touch()
            paths = [str(package.parent), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return environment

    def _wait_until_up(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            self.check_alive()
            try:
                self.request("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise TimeoutError(f"ComfyUI did not come up in {START_TIMEOUT} s.\n{self.log_tail()}")

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("The server is not started: use it in a with statement.")
        return self._process


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def lacks_templates_folder(comfyui: Path) -> bool:
    """Return whether this ComfyUI insists on a folder that the installed packages lack."""
    source = (comfyui / "app" / "frontend_management.py").read_text()
    spec = importlib.util.find_spec(TEMPLATES_PACKAGE)
    if "iter_templates" in source or spec is None or spec.origin is None:
        return False
    return not (Path(spec.origin).parent / "templates").is_dir()
