"""What training and drawing need of a model, and the diffusers side of it."""
