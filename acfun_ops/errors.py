"""The one exception for mistakes that a user can make."""


class ACFunError(ValueError):
    """A mistake a user can correct.

    The message says what happened, what was expected, what was found and what to do.
    """
