"""A small prior on drawn portraits: drawing them, training on them, reading them back."""
