"""ComfyUI glue: all that knows ComfyUI's internals; no node and no schema."""
