// Shows what a training's last run said, also when ComfyUI took the run from its cache: nothing
// runs then, but the page is sent the node's kept text, which it shows on Preview Any only.
import { api } from "../../scripts/api.js";

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

api.addEventListener("executed", ({ detail }) => {
  if (!detail.output?.acfun) return;
  const text = escaped(detail.output.text.join("\n"));
  // As if the node had said it now, so that the page shows it where it shows all such texts.
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId: detail.node, text } }));
});
