"""Makes the project, and the test harness in tests/comfyui, importable from every test.

Both stand last on sys.path. Tests write `import tiny_models` or `from comfy_server import ...`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "comfyui"), str(ROOT)]
