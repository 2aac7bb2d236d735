"""How good the stylized faces are, and what they cost; never imported by the product.

    python -m evaluation --help

It is run from the repository root; README.md in this folder says how to read the results.
"""
