"""What ``benchmarks/on_a_gpu.py`` measures, row by row."""
