"""What ComfyUI's page is opened with: its size and settings, and the files that workflows name."""

# Animations are drawn by the processor: with them a template takes twice as long to open.
PAGE = {"viewport": {"width": 1920, "height": 1080}, "reduced_motion": "reduce"}
LAPTOP_VIEW = {"width": 1366, "height": 768}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What the workflows name; the page only asks whether the files are there.
MODEL_FILES = {
    "checkpoints": "v1-5-pruned-emaonly-fp16.safetensors",
    "clip_vision": "clip-vit-large-patch14.safetensors",
    "controlnet": "control_v11p_sd15_canny_fp16.safetensors",
    "loras": "add_detail.safetensors",
    "upscale_models": "RealESRGAN_x4plus.safetensors",
}
STYLE_FILE = "acfun_style_00001_.safetensors"  # Of the example picture.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Canvas.SelectionToolbox": True,
    "Comfy.Minimap.Visible": False,  # It may lie over a node.
}
