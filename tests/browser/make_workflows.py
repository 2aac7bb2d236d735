"""Writes the pack's workflows and its blueprint.

python tests/browser/make_workflows.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "browser"), str(ROOT)]

from blueprint import style_face  # noqa: E402
from chained_workflows import (  # noqa: E402
    draw_face,
    draw_over_image,
    enlarge,
    guide_by_controlnet,
    schedule,
)
from masked_workflows import background_and_face, two_people  # noqa: E402
from saved_workflows import apply_halves, apply_saved, blend, sheet  # noqa: E402
from trained_workflows import (  # noqa: E402
    style_a_face,
    train,
    train_on_klein,
    train_on_spliced_face,
    train_on_zimage,
)
from workflow_prompts import WORKFLOWS_DIR  # noqa: E402

from evaluation.comfyui_host import new_server  # noqa: E402

MADE = (
    train,
    apply_saved,
    apply_halves,
    draw_over_image,
    draw_face,
    background_and_face,
    two_people,
    guide_by_controlnet,
    enlarge,
    blend,
    schedule,
    train_on_spliced_face,
    sheet,
    style_a_face,
    train_on_zimage,
    train_on_klein,
)


def main() -> None:
    """Write all of them with a running ComfyUI's description of its nodes."""
    with tempfile.TemporaryDirectory() as folder, new_server(Path(folder)) as server:
        info = server.object_info()
    for make in MADE:
        make(info).write(WORKFLOWS_DIR)
    style_face(info).write(ROOT / "subgraphs")


if __name__ == "__main__":
    main()
