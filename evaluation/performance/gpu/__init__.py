"""What ``evaluation/performance/gpu/__main__.py`` measures, row by row."""
