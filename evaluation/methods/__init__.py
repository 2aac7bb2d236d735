"""ACFun and its peers, as methods that an evaluation runs."""
