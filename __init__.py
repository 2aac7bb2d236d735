"""ACFun facial stylization for ComfyUI (Ji, Wei, Zhang, Deng, NeurIPS 2024)."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
