"""Functions run as tasks on Ray: on this machine, or on a cluster that is already there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Ray reads it when it is imported; nothing is reported to anyone.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

try:
    import ray
except ModuleNotFoundError:  # The command's help does without.
    ray = None

from ..errors import ACFunError, first_line

RETRIES = 3
"""How often a task whose worker died is started again."""

_PACKAGE = Path(__file__).resolve().parents[1]
_PASSED_ON = ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY")
_STORE_BYTES = 80 * 2**20  # Tasks pass sentences, not pictures; Ray takes no less than 75 MiB.


class Cluster:
    """Tasks on Ray; use it in a ``with`` block.

    Each task takes one GPU where the cluster has any and they are wanted, else CPU cores.

    Args:
        address: of a running cluster; None starts one on this machine for as long as the block.
        use_gpus: whether tasks may compute on GPUs.
        cpus: cores of each task where it takes no GPU.

    Raises:
        ACFunError: there is no usable cluster at the address, or too few cores are asked for.
    """

    def __init__(self, address: str | None, use_gpus: bool, cpus: int) -> None:
        if ray is None:
            raise ModuleNotFoundError("ray is not installed.", name="ray")
        if cpus < 1:
            raise ACFunError(f"--cpus-per-task is {cpus}; expected 1 or more.")
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }
        environment: dict[str, Any] = {
            "env_vars": {n: os.environ[n] for n in _PASSED_ON if n in os.environ}
        }
        if address is not None:
            environment["py_modules"] = [str(_PACKAGE)]
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ACFunError(
                f"There is no Ray cluster to use at {address or 'this machine'}: "
                f"{first_line(error)}. Start one with 'ray start --head', or leave --address out."
            ) from error
        total = ray.cluster_resources()
        self.gpus, self.cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
        self.on_gpus = use_gpus and self.gpus > 0
        if not self.on_gpus and self.cpus < cpus:
            ray.shutdown()
            raise ACFunError(
                f"A task may have {cpus} CPU cores, but the cluster has {self.cpus}. Lower "
                "--cpus-per-task."
            )
        self.resources = {"num_gpus": 1} if self.on_gpus else {"num_cpus": cpus}
        self.tasks: dict[ray.ObjectRef, Any] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        ray.shutdown()

    def start(self, key: object, function: Callable[..., Any], *arguments: object) -> None:
        """Queue ``function(*arguments)`` under a key."""
        task = ray.remote(function).options(max_retries=RETRIES, **self.resources)
        self.tasks[task.remote(*arguments)] = key

    def collect(self, timeout: float) -> Iterator[tuple[Any, Any]]:
        """Yield key and result of the tasks that end within a time in seconds.

        The result of a task that raised, died or was cancelled is the exception.
        """
        ready, _ = ray.wait(list(self.tasks), timeout=timeout)
        for task in ready:
            key = self.tasks.pop(task)
            try:
                yield key, ray.get(task)
            except ray.exceptions.RayError as error:
                yield key, error

    def cancel(self) -> None:
        """Drop what waits; what runs gets a Ctrl-C."""
        for task in self.tasks:
            ray.cancel(task)


def is_cancelled(error: object) -> bool:
    """Tell whether a task's result says that it was cancelled."""
    return isinstance(error, ray.exceptions.TaskCancelledError)


def reason_of(error: object) -> str:
    """Return why a task has no result, in a sentence or two."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return (
            "The machine's memory ran out. Give each training more --cpus-per-task, or use a GPU."
        )
    if isinstance(error, ray.exceptions.RayTaskError):
        return f"It failed: {first_line(error.cause)}"
    return (
        f"Its worker died {RETRIES + 1} times ({type(error).__name__}). The machine's memory may "
        "be too small, or it was switched off; start the command again to go on."
    )
