"""What Train ACFun Style makes of its inputs, each of which it gets as a list."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...acfun_ops.errors import ACFunError
from ...acfun_ops.messages import Message
from ...acfun_ops.training.config import PRESETS, TrainConfig, describe_preset, with_preset
from .node_status import check_connected

CUSTOM = "custom: the numbers on this node"
_OLD_CUSTOM = "as set below"


class OfferedPresets(list[str]):
    """What is offered; prompts saved before may hold an older name of the last one."""

    @override
    def __contains__(self, name: object) -> bool:
        return name == _OLD_CUSTOM or super().__contains__(name)


def choose_config(inputs: dict[str, Any], hidden: Any) -> tuple[TrainConfig, list[str]]:
    """Return the configuration, and what to say of its preset; a linked number wins over it.

    Args:
        inputs: the node's options by name; without ``preset`` they are taken as they are.
        hidden: the node's hidden inputs, which tell what is linked.

    Raises:
        ACFunError: a value is out of range, or there is no such preset.
    """
    preset = inputs.get("preset", CUSTOM)
    given = TrainConfig(**{name: value for name, value in inputs.items() if name != "preset"})
    if preset in (CUSTOM, _OLD_CUSTOM):
        return given, []
    node = (hidden.prompt or {}).get(hidden.unique_id, {"inputs": {}})
    linked = [
        name for name in PRESETS.get(preset, ()) if isinstance(node["inputs"].get(name), list)
    ]
    config = with_preset(given, preset, linked)
    notices = [] if config == given else [describe_preset(preset, config)]
    if linked:
        names = ", ".join(linked)
        notices.append(
            Message(
                "{names}: the linked number wins over the preset {preset}.",
                names=names,
                preset=preset,
            )
        )
    return config, notices


def check_images(socket: str, pictures: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the batches that a socket brings.

    Raises:
        ACFunError: there is none.
    """
    found = [batch for batch in pictures if batch is not None]
    check_connected(**{socket: found[0] if found else None})
    return found


def single_value(socket: str, values: list[Any]) -> Any:
    """Return the one value of an input; a list of equal ones is taken for one.

    Raises:
        ACFunError: there is none, or some differ.
    """
    if not values:
        raise ACFunError(
            "The socket {socket} brings an empty list. Connect one {socket}.", socket=socket
        )
    first = values[0]
    plain = isinstance(first, str | float | int)
    if any(value != first if plain else value is not first for value in values):
        raise ACFunError(
            "The socket {socket} brings a list of {count} that differ, and all pictures "
            "together train one style. Connect one {socket}.",
            socket=socket,
            count=len(values),
        )
    return first
