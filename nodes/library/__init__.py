"""Styles and training runs on disk, in ComfyUI's folder ``models/acfun``."""
