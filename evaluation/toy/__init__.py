"""The toy model of drawn portraits: its images, its training and its gate."""

from pathlib import Path

PRIOR = Path(__file__).parent / "prior"
