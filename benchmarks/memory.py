"""Memory of a training on a card, counted on a simulated one.

    python benchmarks/memory.py

Full-size SD1.5 at 512 and SDXL at 1024 are trained by the real code for four steps, in which the
pseudo-word moves once, on a card that computes shapes only, see ``tests/comfyui/simulated_card.py``.
Each ComfyUI runs in a process of its own: ``$COMFYUI_PATH`` or ``~/comfy/ComfyUI``, and
``$COMFYUI_OLD_PATH`` or ``~/comfy/ComfyUI-0.3.64`` if it is there. The table goes to
``benchmarks/results/memory.json``.

What is counted is what tensors occupy, weights included; workspaces of kernels, the driver's own
memory and what an allocator wastes come on top.
"""
