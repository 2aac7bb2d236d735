"""``acfun`` or ``python -m acfun_ops``: train, train-many, generate, inspect, demo."""

import io
import os
import sys
from collections.abc import Sequence

from .cli.parser import parse_arguments
from .errors import ACFunError, is_out_of_memory, library_error

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 is done, 1 a training that could not finish, 2 a mistake of the user, 130 Ctrl-C.
    """
    try:
        options = parse_arguments(arguments)
        return int(options.run(options))
    except ACFunError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("Interrupted.", 130)
    except (ImportError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return _fail("Out of memory. Use a smaller size or resolution, or --device cpu.", 1)
        library = None if isinstance(error, MemoryError) else library_error(error)
        if library is None:
            raise
        return _fail(str(library), 2)


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return code


def console() -> int:
    """Run the command line as a process of its own and return its exit code."""
    os.environ.update(_QUIET)  # The libraries read it when they are imported.
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name or prompt that the terminal's encoding lacks must not end what has succeeded.
        sys.stdout.reconfigure(errors="backslashreplace")
    return main()


if __name__ == "__main__":
    sys.exit(console())
