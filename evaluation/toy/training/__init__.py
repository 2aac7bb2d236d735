"""Training of the toy prior and of the reader."""
