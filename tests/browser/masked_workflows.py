"""The workflows in which masks say where a style acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_files import Slot, WorkflowFile
from workflow_graph import AGAINST, EXAMPLES, TEXT, Graph

FACE_MASK, EYES_MASK = "acfun_face_mask.png", "acfun_eyes_mask.png"
MAN = "A painting of a man with beard in S* style"
PAINT = (
    "For your own picture take the MASK of any segmentation node, or right-click *Picture*, choose "
    "**Open in MaskEditor**, and use its MASK."
)
OTHER_STYLE = "*Right style*: another one than at the left, of a training of your own."


def background_and_face(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose background is styled more than its face."""
    graph = Graph(
        "6 Background more than the face",
        info,
        "Style the background more than the face",
        "*Picture*: any picture with a face. " + EXAMPLES,
        f"*Face mask*: white on the face. {PAINT}",
    )
    graph.say(
        "Two *Apply ACFun Style*, one for each part, with a **strength** of their own: 1 for the "
        "background, 0.3 for the face. Turn them round for a styled face on a plain background."
    )
    return _two_strengths(graph, ("Face", FACE_MASK), "Background")


def eyes(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose eyes are styled less than the rest."""
    graph = Graph(
        "7 Eyes less than the rest",
        info,
        "Style the eyes less than the rest",
        "*Picture*: any picture with a face. " + EXAMPLES,
        f"*Eyes mask*: white on the eyes. {PAINT}",
    )
    graph.say(
        "The same works for any feature: a mouth, a hand. **strength** of *Eyes* at 0 keeps "
        "the style away, but for what the surroundings bring in."
    )
    return _two_strengths(graph, ("Eyes", EYES_MASK), "Rest")


def two_people(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow of two people, each under their own style and prompt."""
    graph = Graph("8 Two people in two styles", info, "Two people, each in a style", OTHER_STYLE)
    graph.say(
        "The second *Apply ACFun Style* takes the first one's model, and at **outside** its "
        "conditioning. The masks are halves here; any masks of your own do, and what none of them "
        "covers is drawn plain."
    )
    graph.load("Left style")
    right_style = graph.load_style("Right style")
    graph.column("Who stands where")
    (black,) = graph.add("SolidMask", "Whole picture", value=0, width=768, height=512)
    (white,) = graph.add("SolidMask", "Half of it", value=1, width=384, height=512)
    (left,) = graph.add(
        "MaskComposite", "Left", destination=black, source=white, x=0, y=0, operation="add"
    )
    (right,) = graph.add("InvertMask", "Right", mask=left)
    (latent,) = graph.add("EmptyLatentImage", width=768, height=512)
    graph.column("Apply the styles")
    styled, positive = graph.apply_style("Left person", text=TEXT, mask=left)
    graph.style = right_style
    styled, positive = graph.apply_style(
        "Right person", text=MAN, mask=right, model=styled, outside=positive
    )
    return _drawn(graph, styled, positive, latent, denoise=1)


def _two_strengths(graph: Graph, part: tuple[str, str], rest: str) -> WorkflowFile:
    """Add all of a picture whose part is styled less than its rest."""
    title, file = part
    graph.load()
    photo = graph.picture("acfun_face.jpg", "Picture")
    (mask,) = graph.add("LoadImageMask", f"{title} mask", image=file, channel="red")
    graph.column("Apply the style")
    (others,) = graph.add("InvertMask", "All else", mask=mask)
    styled, positive = graph.apply_style(rest, text=TEXT, mask=others)
    styled, positive = graph.apply_style(
        title, text=TEXT, strength=0.3, mask=mask, model=styled, outside=positive
    )
    graph.column("Draw over the picture")
    (latent,) = graph.add("VAEEncode", pixels=photo, vae=graph.vae)
    return _drawn(graph, styled, positive, latent, denoise=0.7)


def _drawn(
    graph: Graph, styled: Slot, positive: Slot, latent: Slot, *, denoise: float
) -> WorkflowFile:
    """Add the negative prompt, the KSampler and the result."""
    (negative,) = graph.add("CLIPTextEncode", "Negative prompt", clip=graph.clip, text=AGAINST)
    latents = graph.sample(
        model=styled,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=0,
        denoise=denoise,
    )
    graph.column("Result")
    graph.save(latents)
    return graph
