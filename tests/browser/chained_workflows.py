"""The workflows that draw with a saved style and other nodes of the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from page_setup import MODEL_FILES
from workflow_files import WorkflowFile
from workflow_graph import CHECKPOINT, EXAMPLES, STYLE, WOMAN, Graph

SD1 = "*Load Checkpoint*: of SD1.x, as the files below are."
ANY_IMAGE = f"*Image*: any image with a face. {EXAMPLES}"


def draw_over_image(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow of img2img at three strengths."""
    graph = Graph(
        "4 A style over an image",
        info,
        "A style over an image, at three strengths",
        CHECKPOINT,
        STYLE,
        ANY_IMAGE,
        text="The three KSamplers differ in **denoise** only: 0.3 keeps the image and takes on "
        "strokes and colours, 0.5 lets features change, 0.7 keeps little more than the layout.",
    )
    graph.load()
    photo = graph.load_image("acfun_face.jpg", "Image")
    latent = graph.encode_image(graph.scale_image(photo))
    graph.column("Apply the style")
    styled, positive, negative = graph.apply_halves()
    graph.column("Draw three times")
    shared = {"model": styled, "positive": positive, "negative": negative, "latent_image": latent}
    amounts = (0.3, 0.5, 0.7)
    drawn = [graph.sample(f"Denoise {d}", denoise=d, **shared) for d in amounts]
    graph.column("Decode")
    images = [graph.decode(latents) for latents in drawn]
    graph.column("Results")
    for image, amount in zip(images, amounts, strict=True):
        graph.save(image, f"At denoise {amount}")
    return graph


def draw_face(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that draws the face of a photo only."""
    graph = Graph(
        "5 Only the face of an image",
        info,
        "Draw only the face in the style",
        CHECKPOINT,
        STYLE,
        ANY_IMAGE,
        "*Face mask*: white where the style shall draw. For your own image: right-click *Image*, "
        "**Open in MaskEditor**, paint the face, and use its MASK instead.",
        text="Only what is white is drawn anew; all other pixels are those of the image. "
        "**denoise** of KSampler says how far the face may move away from the photo's.",
    )
    graph.load()
    photo = graph.load_image("acfun_face.jpg", "Image")
    mask = graph.load_mask("acfun_face_mask.png", "Face mask")
    graph.column("Apply the style")
    styled, positive, negative = graph.apply_halves()
    graph.column("Draw inside the mask")
    scaled = graph.scale_image(photo)
    latent = graph.encode_image(scaled)
    (masked,) = graph.add("SetLatentNoiseMask", samples=latent, mask=mask)
    latents = graph.sample(
        model=styled, positive=positive, negative=negative, latent_image=masked, denoise=0.8
    )
    graph.column("Result")
    (pasted,) = graph.add(
        "ImageCompositeMasked",
        destination=scaled,
        source=graph.decode(latents),
        x=0,
        y=0,
        resize_source=True,
        mask=mask,
    )
    graph.save(pasted)
    return graph


def guide_by_controlnet(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose composition comes from a ControlNet."""
    graph = Graph(
        "8 With a ControlNet",
        info,
        "Draw with a saved style and a ControlNet",
        SD1,
        STYLE,
        f"*Composition image*: only its edges are used. {EXAMPLES}",
        "*Load ControlNet Model*: Canny for SD1.x.",
        text="ControlNet acts on the conditioning and CFun on the model, so both work together, in "
        "either order.\n\nIf the edges press the style flat, lower the ControlNet's **strength** "
        "or **end_percent**. Make the image's shape and *Empty Latent Image* agree, or the edges "
        "are cropped.",
    )
    graph.load()
    composition = graph.load_image("acfun_other_face.jpg", "Composition image")
    latent = graph.empty_latent()
    graph.column("Apply the style")
    styled, positive, negative = graph.apply_halves()
    graph.column("Guide the composition")
    (edges,) = graph.add("Canny", image=composition, low_threshold=0.3, high_threshold=0.7)
    graph.add("PreviewImage", "Edges", images=edges)
    (control,) = graph.add("ControlNetLoader", control_net_name=MODEL_FILES["controlnet"])
    positive, negative = graph.add(
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=control,
        image=edges,
        vae=graph.vae,
        strength=0.7,
        end_percent=0.6,
    )
    graph.column("Draw")
    graph.save(graph.draw(styled, positive, negative, latent))
    return graph


def enlarge(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow with a LoRA, a second pass and an upscale model."""
    graph = Graph(
        "9 With a LoRA and upscaling",
        info,
        "Draw large, with a LoRA and a saved style",
        SD1,
        "*Load LoRA*: any LoRA for SD1.x in **models/loras**. To do without, bypass the node "
        "(Ctrl+B).",
        STYLE,
        "*Load Upscale Model*: any.",
        text="The LoRA changes model and CLIP first, the style acts on top. The image is drawn at "
        "512 pixels, enlarged 1.5 times as a latent and drawn over at half denoise with the same "
        "style, then enlarged by the upscale model.\n\nThe second pass may use weaker adapters: "
        "give it its own *Apply CFun Adapters* with a lower **strength**.",
    )
    graph.load()
    graph.model, graph.clip = graph.add(
        "LoraLoader",
        model=graph.model,
        clip=graph.clip,
        lora_name=MODEL_FILES["loras"],
        strength_model=0.6,
        strength_clip=0.6,
    )
    latent = graph.empty_latent()
    graph.column("Apply the style")
    styled, positive, negative = graph.apply_halves()
    graph.column("First pass")
    shared = {"model": styled, "positive": positive, "negative": negative}
    first = graph.sample("First pass", latent_image=latent, **shared)
    (larger,) = graph.add("LatentUpscaleBy", samples=first, upscale_method="bislerp", scale_by=1.5)
    graph.column("Second pass")
    second = graph.sample("Second pass", latent_image=larger, steps=20, denoise=0.5, **shared)
    image = graph.decode(second)
    graph.column("Enlarge")
    (model,) = graph.add("UpscaleModelLoader", model_name=MODEL_FILES["upscale_models"])
    (large,) = graph.add("ImageUpscaleWithModel", upscale_model=model, image=image)
    graph.save(large)
    return graph


def schedule(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose style and LoRA change in the course of sampling."""
    graph = Graph(
        "11 Scheduled by hooks",
        info,
        "Style and LoRA over the course of sampling",
        CHECKPOINT,
        STYLE,
        "*Create Hook LoRA (MO)*: any LoRA of the family in **models/loras**.",
        text="Until **end_percent** of *Timesteps Range* the plain prompt lays out the image; then "
        "the prompt with the style's abstract part takes over, and with it a LoRA that fades out "
        "over its keyframes. The adapters have a range and an ease of their own.",
    )
    graph.load()
    latent = graph.empty_latent()
    graph.column("Apply the style")
    positive = graph.apply_embedding()
    (plain,) = graph.add("CLIPTextEncode", "Plain prompt", clip=graph.clip, text=WOMAN)
    styled = graph.apply_adapters()
    negative = graph.negative()
    graph.column("Schedule")
    first, _, after = graph.add("ConditioningTimestepsRange", start_percent=0, end_percent=0.3)
    name = MODEL_FILES["loras"]
    (hook,) = graph.add("CreateHookLoraModelOnly", lora_name=name, strength_model=1)
    (keys,) = graph.add(
        "CreateHookKeyframesInterpolated", strength_start=1, strength_end=0, start_percent=0.3
    )
    (hooks,) = graph.add("SetHookKeyframes", hooks=hook, hook_kf=keys)
    graph.column("Combine")
    (early,) = graph.add("ConditioningSetProperties", cond_NEW=plain, strength=1, timesteps=first)
    (both,) = graph.add(
        "ConditioningSetPropertiesAndCombine",
        cond=early,
        cond_NEW=positive,
        strength=1,
        hooks=hooks,
        timesteps=after,
    )
    graph.column("Draw")
    graph.save(graph.draw(styled, both, negative, latent))
    return graph
