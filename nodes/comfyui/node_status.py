"""What stands on a node that patches a MODEL: its own notice, and what the samplings say."""

from typing import Any

from comfy_execution.utils import get_executing_context

from ..schema import log, show


class SamplingNotices:
    """Notices on a node that ComfyUI runs once and takes from its cache in later runs of the graph.

    Each run of the graph says anew what its samplings find, once, however many they are; what an
    earlier run said goes when a later one samples.

    Args:
        node_id: the node that they stand on.
        own: what the node itself has to say, which stays.
    """

    def __init__(self, node_id: str, own: str = "") -> None:
        self.node_id = node_id
        self._own = own
        self._said: list[str] = []
        self._run = _run()

    @property
    def text(self) -> str:
        """All that is to be read on the node."""
        return "\n".join(filter(None, [self._own, *self._said]))

    def begin(self, *_: Any) -> None:
        """Take back what was said in an earlier run of the graph."""
        run = _run()
        if run is not None and run == self._run:
            return  # Another sampling of this run may have said it.
        self._run = run
        if self._said:
            self._said.clear()
            self.show()

    def say(self, text: str) -> None:
        """Log a sentence and show it below the others, once a run."""
        if text not in self._said:
            self._said.append(text)
            log.info(text)
            self.show()

    def show(self, doing: str = "") -> None:
        """Show all notices, and below them what is being done."""
        show(self.node_id, f"{self.text}\n{doing}".strip() or " ")


def _run() -> str | None:
    """Return what names this run of the graph, None outside of ComfyUI's executor."""
    context = get_executing_context()
    return None if context is None else context.prompt_id
