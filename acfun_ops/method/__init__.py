"""The method of the paper: pure tensors, no files, no configuration."""
