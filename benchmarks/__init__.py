"""Speed, memory and quality figures; never imported by the product."""
