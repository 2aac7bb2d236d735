"""Pictures drawn from noise with a trained style."""
