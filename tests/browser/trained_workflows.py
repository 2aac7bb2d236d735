"""The workflows that train a style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from page_setup import MODEL_FILES
from workflow_files import Slot, WorkflowFile
from workflow_graph import EXAMPLES, FORM, TEXT, Graph

VISION = "*Load CLIP Vision*: CLIP ViT-L/14."
ENCODER = "qwen_3_4b.safetensors"
NARROW = 248  # Six columns in the view of a laptop.
PICTURES = f"*Style picture* and *Face photo*: the centred square of each is used. {EXAMPLES}"
DESCRIBE = (
    "*Train ACFun Style* and *Apply ACFun Style*: describe the face in a few words and keep "
    "**S\\***, the word for the style."
)
FACE = "A painting of a woman with long red hair in S* style"


def train(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that trains a style and applies it."""
    graph = Graph(
        "1 Train a style and apply it",
        info,
        "Train a style, then draw with it",
        "*Load Checkpoint*: SD1.x, SD2.x or SDXL. For SDXL set *Empty Latent Image* to 1024 x "
        "1024.",
        VISION,
        PICTURES,
        DESCRIBE,
        text="Training comes first and shows previews, then the image is drawn. Run again with "
        "another text, strength or seed: the style is **not** trained again.\n\n**Stop** keeps "
        "what was learnt, and Run goes on from there. The style is saved to **models/acfun**.\n\n"
        "More style: raise **style_weight**. Closer likeness: lower it.",
        width=NARROW,
    )
    vision = _load_models(graph)
    return _train_and_draw(graph, vision, graph.empty_latent())


def train_on_spliced_face(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that trains on a face put together from two photos."""
    graph = Graph(
        "12 Train on a face spliced from two",
        info,
        "A face spliced from two photos",
        "*Load Checkpoint*: SD1.x, SD2.x or SDXL.",
        VISION,
        f"*Style picture*, *First face*, *Second face*: both photos cropped alike. {EXAMPLES}",
        "*Face mask*: white where the second face shows. For your own photos, paint it with "
        "**Open in MaskEditor**.",
        text="The second face is put into the head of the first one, and the style is trained on "
        "that: one coherent face is to come out, as in the paper's appendix C.1. *Previews* and "
        "*Plot Loss Graph* show how the training went.",
    )
    vision = _load_models(graph)
    latent = graph.empty_latent()
    negative = graph.negative()
    style_image = graph.load_image("acfun_style.jpg", "Style picture")
    graph.column("Splice")
    first = graph.load_image("acfun_face.jpg", "First face")
    second = graph.load_image("acfun_other_face.jpg", "Second face")
    mask = graph.load_mask("acfun_face_mask.png", "Face mask")
    (face,) = graph.add(
        "ImageCompositeMasked",
        destination=first,
        source=second,
        x=0,
        y=0,
        resize_source=True,
        mask=mask,
    )
    graph.column("Train the style")
    graph.add("PreviewImage", "Spliced face", images=face)
    trained, loss, previews = _train(graph, vision, style_image, face, prompt=FACE)
    graph.column("How it went")
    graph.add("PreviewImage", "Previews, first to last", images=previews)
    graph.add("LossGraphNode", loss=loss, filename_prefix="acfun_loss")
    graph.column("Save and apply the style")
    (graph.style,) = graph.add("ACFunSaveStyle", style=trained, filename_prefix="spliced")
    positive = graph.apply_embedding(FACE)
    styled = graph.apply_adapters()
    graph.column("Draw")
    graph.save(graph.draw(styled, positive, negative, latent))
    return graph


def style_a_face(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the app: checkpoint, two images, a prompt, Run."""
    graph = Graph(
        "14 A face in a style.app",
        info,
        "A face in a style",
        "*Load Checkpoint*: SD1.x, SD2.x or SDXL. For SDXL set *Empty Latent Image* to 1024 x "
        "1024.",
        f"*Style picture* and *Face photo*. {EXAMPLES}",
        "*Prompt*: describe the face in a few words and keep **S\\***.",
        text="In the **App** tab these are all that is shown.",
        width=NARROW,
    )
    vision = _load_models(graph)
    latent = graph.empty_latent()
    negative = graph.negative()
    graph.column("Images")
    style_image = graph.load_image("acfun_style.jpg", "Style picture")
    face = graph.load_image("acfun_face.jpg", "Face photo")
    graph.column("Train the style")
    (prompt,) = graph.add("PrimitiveString", "Prompt", value=TEXT)
    graph.style, _, _ = _train(graph, vision, style_image, face, prompt=prompt)
    graph.column("Apply the style")
    styled, positive = graph.apply_style(text=prompt)
    graph.column("Draw")
    graph.save(graph.draw(styled, positive, negative, latent))
    widgets = {
        ("CheckpointLoaderSimple", None): ("ckpt_name", "Checkpoint"),
        ("LoadImage", "Style picture"): ("image", "Style picture"),
        ("LoadImage", "Face photo"): ("image", "Face photo"),
        ("PrimitiveString", "Prompt"): ("value", "Prompt, with S* for the style"),
    }
    shown = []
    for node in graph.nodes:
        key = node["type"], node.get("title")
        if key in widgets:
            name, label = widgets[key]
            kind = "STRING" if name == "value" else "COMBO"
            slot = {"name": name, "type": kind, "widget": {"name": name}, "label": label}
            node["inputs"].append({**slot, "link": None})
            shown.append([node["id"], name])
    results = [node["id"] for node in graph.nodes if node["type"] == "SaveImage"]
    graph.extra = {"linearMode": True, "linearData": {"inputs": shown, "outputs": results}}
    return graph


def train_on_zimage(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that trains on Z-Image."""
    graph = _transformer("15 Train on Z-Image", info, "Z-Image", "Z-Image, not Turbo", (11, 8))
    graph.load_parts("z_image_bf16.safetensors", ENCODER, "lumina2", "ae.safetensors")
    sampling = {"steps": 25, "cfg": 4, "sampler_name": "res_multistep", "scheduler": "simple"}
    return _train_from_noise(graph, "EmptySD3LatentImage", **sampling)


def train_on_klein(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that trains on Flux.2 klein."""
    wanted = "Flux.2 klein **base** 4B, not the one of 4 steps"
    graph = _transformer("16 Train on Flux.2 klein", info, "Flux.2 klein", wanted, (8, 5))
    network = "flux-2-klein-base-4b.safetensors"
    graph.load_parts(network, ENCODER, "flux2", "flux2-vae.safetensors")
    return _train_from_noise(graph, "EmptyFlux2LatentImage", steps=20, cfg=5, scheduler="simple")


def _transformer(
    name: str, info: Mapping[str, Any], family: str, network: str, memory: tuple[int, int]
) -> Graph:
    """Return the beginning of a workflow on a family that is an experiment."""
    graph = Graph(
        name,
        info,
        f"Train on {family} (experimental)",
        f"*Load Diffusion Model*: {network}.",
        VISION,
        PICTURES,
        DESCRIBE,
        text="**Experimental: nobody has run this on real weights**, and whether such a model "
        f"keeps style and face apart is not known. [Show us]({FORM}) what comes out.\n\nTrain on "
        "the base model: training unlearns the few steps of a distilled one. The style can be "
        f"applied to either.\n\nTraining takes about {memory[0]} GB of the card at 1024 pixels and "
        f"{memory[1]} GB at 512 (**resolution**): counted with **weight_dtype** fp8_e4m3fn, not "
        "measured.",
        width=NARROW,
    )
    graph.column("Models")
    return graph


def _train_from_noise(graph: Graph, latent: str, **sampling: Any) -> Graph:
    """Add an empty latent of a kind, CLIP Vision and the rest to a transformer's loaders."""
    noise = graph.add(latent)[0]
    return _train_and_draw(graph, _load_vision(graph), noise, **sampling)


def _load_models(graph: Graph) -> Slot:
    """Add the loaders of the models; return CLIP Vision."""
    graph.column("Models")
    graph.load_checkpoint()
    return _load_vision(graph)


def _load_vision(graph: Graph) -> Slot:
    return graph.add("CLIPVisionLoader", clip_name=MODEL_FILES["clip_vision"])[0]


def _train_and_draw(graph: Graph, vision: Slot, latent: Slot, **sampling: Any) -> Graph:
    """Add images, training, saving, applying and drawing to the loaders."""
    graph.column("Images")
    style_image = graph.load_image("acfun_style.jpg", "Style picture")
    face = graph.load_image("acfun_face.jpg", "Face photo")
    graph.column("Train the style")
    trained, _, _ = _train(graph, vision, style_image, face, prompt=TEXT)
    graph.column("Save and apply the style")
    (graph.style,) = graph.add("ACFunSaveStyle", style=trained)
    styled, positive = graph.apply_style(text=TEXT)
    negative = graph.negative()
    graph.column("Draw")
    graph.save(graph.draw(styled, positive, negative, latent, **sampling))
    return graph


def _train(
    graph: Graph, vision: Slot, style: Slot, face: Slot, *, prompt: str | Slot
) -> list[Slot]:
    """Add Train ACFun Style; return style, loss and previews."""
    models = {"model": graph.model, "clip": graph.clip, "vae": graph.vae, "clip_vision": vision}
    images = {"style_image": style, "face_image": face}
    return graph.add("ACFunTrainStyle", **models, **images, prompt=prompt)
