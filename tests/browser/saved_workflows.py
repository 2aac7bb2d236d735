"""The workflows that draw with saved styles, by stock nodes of the core alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_files import WorkflowFile
from workflow_graph import CHECKPOINT, FORM, STYLE, TEXT, WOMAN, Graph

OTHER_STYLE = "*{} style*: another one, of a training of your own."


def apply_saved(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that draws with a saved style."""
    graph = Graph(
        "2 Apply a saved style",
        info,
        "Draw with a saved style",
        CHECKPOINT,
        STYLE,
        "*Apply ACFun Style*, **text**: any prompt. **S\\*** stands for the style.",
        text="No images are needed here: the style file holds all.\n\n**strength** says how much "
        "style. **balance** 0: the abstract part in the prompt alone; 0.5: both in full; 1: the "
        "concrete part in the model's features alone.\n\nSeveral prompts with one seed: copy "
        "*Apply ACFun Style*, *KSampler* and what follows, once for each.",
    )
    graph.load()
    latent = graph.empty_latent()
    graph.column("Apply the style")
    styled, positive = graph.apply_style(text=f"{WOMAN} wearing a hat in S* style")
    negative = graph.negative()
    graph.column("Draw")
    image = graph.draw(styled, positive, negative, latent)
    graph.column("Result")
    graph.save(image)
    return graph


def apply_halves(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that applies both halves of a style apart."""
    graph = Graph(
        "3 Both halves apart",
        info,
        "The prompt's half and the model's half",
        CHECKPOINT,
        STYLE,
        text="*Apply AFun Embedding* is the prompt's half: deformation, layout, atmosphere. *Apply "
        "CFun Adapters* is the model's half: **encoder_strength** is strokes and texture, "
        "**decoder_strength** structure and pose of the face, and colours.\n\nBypass one (Ctrl+B) "
        "to see the other alone. If the pose of the style picture comes along, try a lower "
        "**decoder_strength** or a **start_percent** of 0.2.",
    )
    graph.load()
    latent = graph.empty_latent()
    graph.column("Apply both halves")
    positive = graph.apply_embedding()
    styled = graph.apply_adapters()
    graph.column("Draw")
    negative = graph.negative()
    image = graph.draw(styled, positive, negative, latent)
    graph.column("Result")
    graph.save(image)
    return graph


def blend(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that draws in a blend of two styles."""
    graph = Graph(
        "10 Blend two styles",
        info,
        "A style between two",
        CHECKPOINT,
        "*First style*: a file of **models/acfun**.",
        OTHER_STYLE.format("Second"),
        text="**ratio** 0 is the first style, 1 the second. The other mode takes the prompt's half "
        "of the first and the model's half of the second.",
    )
    graph.load("First style")
    second = graph.load_style("Second style")
    latent = graph.empty_latent()
    graph.column("Blend and apply")
    (graph.style,) = graph.add("ACFunBlendStyles", style_a=graph.style, style_b=second)
    styled, positive = graph.apply_style(text=TEXT)
    negative = graph.negative()
    graph.column("Draw")
    image = graph.draw(styled, positive, negative, latent)
    graph.column("Result")
    graph.save(image)
    return graph


def sheet(info: Mapping[str, Any]) -> WorkflowFile:
    """Return the workflow that shows what each half of a style does."""
    graph = Graph(
        "13 Show us a sheet of strengths",
        info,
        "What each half of a style does",
        CHECKPOINT,
        STYLE,
        "*ACFun Style Sheet*, **text**: any prompt with **S\\***.",
        text="Each row is a seed; the columns are the model without the style, the prompt's half, "
        "the adapters of the encoder, those of the decoder, and the whole style.\n\n"
        "**Show us** what your checkpoint does: put the saved sheet and the sheet's text "
        f"(settings, versions, card, times; no image) into [this form]({FORM}).",
    )
    graph.load()
    graph.column("Draw the sheet")
    models = {"model": graph.model, "clip": graph.clip, "vae": graph.vae, "style": graph.style}
    drawn, _ = graph.add("ACFunStyleSheet", **models, text=TEXT)
    graph.column("Result")
    graph.save(drawn, "Sheet")
    return graph
