"""ACFun (Ji, Wei, Zhang, Deng, NeurIPS 2024) in plain torch; knows nothing of ComfyUI."""

__version__ = "0.3.0"
