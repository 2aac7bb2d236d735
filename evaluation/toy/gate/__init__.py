"""The quality gate of the toy prior."""
