"""The workflows in which masks say where a style acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saved_workflows import OTHER_STYLE
from workflow_files import WorkflowFile
from workflow_graph import CHECKPOINT, EXAMPLES, MAN, STYLE, TEXT, Graph

PAINT = (
    "For your own image take the MASK of any segmentation node, or right-click *Image*, choose "
    "**Open in MaskEditor**, and use its MASK."
)


def background_and_face(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose background is styled more than its face."""
    graph = Graph(
        "6 Background more than the face",
        info,
        "Style the background more than the face",
        CHECKPOINT,
        STYLE,
        f"*Image*: any image with a face. {EXAMPLES}",
        f"*Face mask*: white on the face. {PAINT}",
        text="Two *Apply ACFun Style*, one for each part, with a **strength** of their own: 1 for "
        "the background, 0.3 for the face. The same works for eyes, a mouth, a hand.",
    )
    graph.load()
    photo = graph.load_image("acfun_face.jpg", "Image")
    mask = graph.load_mask("acfun_face_mask.png", "Face mask")
    graph.column("Prepare")
    (others,) = graph.add("InvertMask", "All else", mask=mask)
    latent = graph.encode_image(graph.scale_image(photo))
    negative = graph.negative()
    graph.column("Apply the style")
    styled, positive = graph.apply_style("Background", text=TEXT, mask=others)
    styled, positive = graph.apply_style(
        "Face", text=TEXT, strength=0.3, mask=mask, model=styled, outside=positive
    )
    graph.column("Draw over the image")
    graph.save(graph.draw(styled, positive, negative, latent, denoise=0.7))
    return graph


def two_people(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow of two people, each under their own style and prompt."""
    graph = Graph(
        "7 Two people in two styles",
        info,
        "Two people, each in a style",
        CHECKPOINT,
        "*Left style*: a file of **models/acfun**.",
        OTHER_STYLE.format("Right"),
        text="The second *Apply ACFun Style* takes the first one's model, and at **outside** its "
        "conditioning. The masks are halves here; any masks of your own do, and what none of them "
        "covers is drawn plain.",
    )
    graph.load("Left style")
    right_style = graph.load_style("Right style")
    latent = graph.empty_latent(768)
    graph.column("Who stands where")
    (black,) = graph.add("SolidMask", "Whole image", value=0, width=768, height=512)
    (white,) = graph.add("SolidMask", "Half of it", value=1, width=384, height=512)
    (left,) = graph.add(
        "MaskComposite", "Left", destination=black, source=white, x=0, y=0, operation="add"
    )
    (right,) = graph.add("InvertMask", "Right", mask=left)
    graph.column("Apply the styles")
    styled, positive = graph.apply_style("Left person", text=TEXT, mask=left)
    graph.style = right_style
    styled, positive = graph.apply_style(
        "Right person", text=f"{MAN} in S* style", mask=right, model=styled, outside=positive
    )
    graph.column("Draw")
    negative = graph.negative()
    graph.save(graph.draw(styled, positive, negative, latent))
    return graph
