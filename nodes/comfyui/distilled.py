"""What a training says of models that may be distilled to sample in a few steps."""

from typing import Any

from ...acfun_ops.messages import Message
from .families import Network

# By family. Such a model has no guidance embedding; nor has the base of the last two.
_DISTILLED = {
    "flux": "Flux.1 schnell",
    "flux2": "Flux.2 klein (4 steps)",
    "zimage": "Z-Image-Turbo",
}


def base_model_notices(network: Network, config: Any) -> list[str]:
    """Return what to train on, if nothing tells a MODEL from one distilled for few steps.

    Turbo, Lightning and LCM models of other families have the settings of their base model.

    Args:
        network: of the MODEL.
        config: ComfyUI's ``model_config`` of it.
    """
    name = _DISTILLED.get(network.family)
    if name is None or config.unet_config.get("guidance_embed"):
        return []
    return [
        Message(
            "If this model is {name}, train on its base model instead: training unlearns the few "
            "steps that it is distilled for. The style can be applied to either.",
            name=name,
        )
    ]
