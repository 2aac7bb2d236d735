"""Figures of identity, style and strokes."""
