"""How often each of several pictures is looked at in a training."""

import math

from ..errors import ACFunError


def picture_weights(text: str, count: int, option: str) -> tuple[float, ...] | None:
    """Return the weights of pictures, None if all count alike.

    Args:
        text: one number of 0 or more for each picture, as "1, 0.5"; empty if all count alike.
        count: of the pictures.
        option: its name, for the message.

    Raises:
        ACFunError: these are no numbers, negative, all 0, or not one for each picture.
    """
    words = text.replace(",", " ").split()
    if not words:
        return None
    try:
        weights = tuple(float(word) for word in words)
    except ValueError as error:
        raise ACFunError(
            f"{option} is '{text[:80]}'; expected numbers such as '1, 0.5', one for each picture."
        ) from error
    if len(weights) != count:
        raise ACFunError(
            f"{option} has {len(weights)} numbers, and {count} pictures are connected. Give one "
            "number for each picture, or none."
        )
    return checked_weights(weights, text, option)


def checked_weights(weights: tuple[float, ...], text: str, option: str) -> tuple[float, ...] | None:
    """Return weights, None if all count alike; ``text`` and ``option`` are for the message.

    Raises:
        ACFunError: one is negative or infinite, or all are 0.
    """
    if not all(0 <= weight < math.inf for weight in weights) or sum(weights) == 0:
        raise ACFunError(
            f"{option} is '{text[:80]}'; expected numbers of 0 or more, one of them above 0."
        )
    return None if len(set(weights)) == 1 else weights
