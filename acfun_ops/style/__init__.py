"""A trained style, its facts and its safetensors form."""
