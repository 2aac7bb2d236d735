"""How good the stylized faces are: ACFun, its ablations and its peers, by one command.

    python -m benchmarks.quality --help

It is run from the repository root; README.md beside this file says how to read the results.
"""
