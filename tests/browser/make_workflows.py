"""Writes the workflows that show a style with the rest of the graph, but 1, 2, 9 and 10.

python tests/browser/make_workflows.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "nodes" / "support"), str(ROOT / "tests" / "browser"), str(ROOT)]

from conftest import MODEL_FILES  # noqa: E402
from masked_workflows import background_and_face, eyes, two_people  # noqa: E402
from workflow_files import WorkflowFile  # noqa: E402
from workflow_graph import CHECKPOINT, EXAMPLES, TEXT, WOMAN, Graph  # noqa: E402
from workflow_prompts import WORKFLOWS_DIR  # noqa: E402

from evaluation.comfyui_host import new_server  # noqa: E402


def freeu(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow with FreeU behind the adapters."""
    graph = Graph("11 With FreeU", info, "FreeU on top of a style")
    graph.say(
        "FreeU strengthens the U-Net's backbone features and weakens its skip connections; the "
        "style's adapters act inside the same blocks, in either order. If strokes get too smooth, "
        "bring **s1** and **s2** nearer to 1, or raise **encoder_strength**."
    )
    graph.load()
    latent = graph.empty()
    graph.column("Apply the style")
    positive = graph.prompt()
    negative, styled = graph.apply()
    graph.column("FreeU and draw")
    (free,) = graph.add("FreeU_V2", "FreeU", model=styled)
    latents = graph.sample(
        model=free, positive=positive, negative=negative, latent_image=latent, seed=0
    )
    graph.column("Result")
    graph.save(latents)
    return graph


def inpaint(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that draws the face of a photo only."""
    graph = Graph(
        "5 Only the face of a picture",
        info,
        "Draw only the face in the style",
        "*Picture*: any picture with a face. " + EXAMPLES,
        "*Face mask*: white where the style shall draw. For your own picture: right-click "
        "*Picture*, **Open in MaskEditor**, paint the face, and use its MASK instead.",
    )
    graph.say(
        "Only what is white is drawn anew; all other pixels are those of the picture. **denoise** "
        "of KSampler says how far the face may move away from the photo's."
    )
    graph.load()
    photo = graph.picture("acfun_face.jpg", "Picture")
    (mask,) = graph.add("LoadImageMask", "Face mask", image="acfun_face_mask.png", channel="red")
    graph.column("Apply the style")
    positive = graph.prompt()
    negative, styled = graph.apply()
    graph.column("Draw inside the mask")
    (latent,) = graph.add("VAEEncode", pixels=photo, vae=graph.vae)
    (masked,) = graph.add("SetLatentNoiseMask", samples=latent, mask=mask)
    latents = graph.sample(
        model=styled, positive=positive, negative=negative, latent_image=masked, seed=0, denoise=0.8
    )
    graph.column("Result")
    (drawn,) = graph.add("VAEDecode", samples=latents, vae=graph.vae)
    (pasted,) = graph.add(
        "ImageCompositeMasked",
        destination=photo,
        source=drawn,
        x=0,
        y=0,
        resize_source=True,
        mask=mask,
    )
    graph.add("SaveImage", "Styled picture", images=pasted, filename_prefix="ACFun")
    return graph


def over_a_picture(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow of img2img at three strengths."""
    graph = Graph(
        "4 A style over a picture",
        info,
        "A style over a picture, at three strengths",
        "*Picture*: any picture. " + EXAMPLES,
    )
    graph.say(
        "The three KSamplers differ in **denoise** only: 0.3 keeps the picture and takes on "
        "strokes and colours, 0.5 lets features change, 0.7 keeps little more than the layout."
    )
    graph.load()
    photo = graph.picture("acfun_face.jpg", "Picture")
    (latent,) = graph.add("VAEEncode", pixels=photo, vae=graph.vae)
    graph.column("Apply the style")
    positive = graph.prompt()
    negative, styled = graph.apply()
    graph.column("Draw three times")
    shared = {"model": styled, "positive": positive, "negative": negative, "latent_image": latent}
    drawn = [graph.sample(f"Denoise {d}", seed=0, denoise=d, **shared) for d in (0.3, 0.5, 0.7)]
    graph.column("Result")
    graph.save(graph.batch(drawn))
    return graph


def prompts(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow with three prompts and one seed."""
    graph = Graph("3 Several prompts in one style", info, "One style, several prompts")
    graph.say(
        "The three pictures share seed and style and differ in the prompt only. **S\\*** stands "
        "for the style in each. Copy *Apply AFun Embedding* and a KSampler for more."
    )
    graph.load()
    latent = graph.empty()
    graph.column("Apply the style")
    texts = (f"{WOMAN} wearing a hat in S* style", "A painting of a man with beard in S* style")
    positives = [graph.prompt(text) for text in (TEXT, *texts)]
    negative, styled = graph.apply()
    graph.column("Draw three times")
    shared = {"model": styled, "negative": negative, "latent_image": latent}
    drawn = [graph.sample(positive=positive, seed=0, **shared) for positive in positives]
    graph.column("Result")
    graph.save(graph.batch(drawn))
    return graph


def scheduled(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow whose style and LoRA change in the course of sampling."""
    graph = Graph(
        "12 Scheduled by hooks",
        info,
        "Style and LoRA over the course of sampling",
        "*Create Hook LoRA (MO)*: any LoRA of the family in **models/loras**.",
    )
    graph.say(
        "Until **end_percent** of *Timesteps Range* the plain prompt lays out the picture; "
        "then the prompt with the style's abstract part takes over, and with it a LoRA that fades "
        "out over its keyframes. The adapters have a range and an ease of their own."
    )
    graph.load()
    latent = graph.empty()
    graph.column("Apply the style")
    positive = graph.prompt()
    (plain,) = graph.add("CLIPTextEncode", "Plain prompt", clip=graph.clip, text=WOMAN)
    negative, styled = graph.apply()
    graph.column("Schedule")
    first, _, after = graph.add("ConditioningTimestepsRange", start_percent=0, end_percent=0.3)
    name = MODEL_FILES["loras"]
    (hook,) = graph.add("CreateHookLoraModelOnly", lora_name=name, strength_model=1)
    (keys,) = graph.add(
        "CreateHookKeyframesInterpolated", strength_start=1, strength_end=0, start_percent=0.3
    )
    (hooks,) = graph.add("SetHookKeyframes", hooks=hook, hook_kf=keys)
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
    latents = graph.sample(
        model=styled, positive=both, negative=negative, latent_image=latent, seed=0
    )
    graph.save(latents)
    return graph


def spliced(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that trains on a face put together from two photos."""
    note = (
        "# A face spliced from two photos\n\n**Choose before you run**\n\n"
        f"{CHECKPOINT}2. *Load CLIP Vision*: CLIP ViT-L/14.\n3. *Style picture*, *First face*, "
        f"*Second face*. {EXAMPLES}\n4. *Face mask*: white where the second face shows. For "
        "your own photos, paint it with **Open in MaskEditor**.\n\n**Then press Run.** The second "
        "face is put into the head of the first one, and the style is trained on that: "
        "one coherent face comes out, as in the paper's appendix C.1. Both photos should be "
        "cropped alike."
    )
    graph = Graph("13 Train on a face spliced from two", info, "")
    graph.nodes[0]["widgets_values"] = [note]
    graph.column("Models and pictures")
    name = MODEL_FILES["checkpoints"]
    graph.model, graph.clip, graph.vae = graph.add("CheckpointLoaderSimple", ckpt_name=name)
    (vision,) = graph.add("CLIPVisionLoader", clip_name=MODEL_FILES["clip_vision"])
    style_picture, _ = graph.add("LoadImage", "Style picture", image="acfun_style.jpg")
    first, _ = graph.add("LoadImage", "First face", image="acfun_face.jpg")
    graph.column("Splice")
    second, _ = graph.add("LoadImage", "Second face", image="acfun_other_face.jpg")
    (mask,) = graph.add("LoadImageMask", "Face mask", image="acfun_face_mask.png", channel="red")
    (face,) = graph.add(
        "ImageCompositeMasked",
        destination=first,
        source=second,
        x=0,
        y=0,
        resize_source=True,
        mask=mask,
    )
    graph.add("PreviewImage", "Spliced face", images=face)
    graph.column("Train and save the style")
    trained, _, _ = graph.add(
        "ACFunTrainStyle",
        model=graph.model,
        clip=graph.clip,
        vae=graph.vae,
        clip_vision=vision,
        style_image=style_picture,
        face_image=face,
        prompt="A painting of a woman with long red hair in S* style",
    )
    (graph.style,) = graph.add("ACFunSaveStyle", style=trained, filename_prefix="spliced")
    graph.column("Apply the style")
    positive = graph.prompt("A painting of a woman with long red hair in S* style")
    negative, styled = graph.apply()
    latent = graph.empty()
    graph.column("Draw")
    latents = graph.sample(
        model=styled, positive=positive, negative=negative, latent_image=latent, seed=0
    )
    graph.save(latents)
    return graph


MADE = (
    prompts,
    over_a_picture,
    inpaint,
    background_and_face,
    eyes,
    two_people,
    freeu,
    scheduled,
    spliced,
)


def main() -> None:
    """Write all of them with a running ComfyUI's description of its nodes."""
    with tempfile.TemporaryDirectory() as folder, new_server(Path(folder)) as server:
        info = server.object_info()
    for make in MADE:
        make(info).write(WORKFLOWS_DIR)


if __name__ == "__main__":
    main()
