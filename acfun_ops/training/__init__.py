"""Training a style on one pair."""
