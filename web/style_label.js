// Load ACFun Style shows a style's facts and picture as soon as it is chosen, as after a run.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { follow, isLinked } from "./widgets.js";

const CHOICE = "style_file";

const choiceOf = (node) =>
  isLinked(node, CHOICE) ? undefined : node.widgets.find(({ name }) => name === CHOICE);

async function showLabel(node) {
  const name = choiceOf(node)?.value;
  // Inside a subgraph the page knows a node by another id, so there the run shows it.
  if (!name || node.graph !== app.graph) return;
  const answer = await api.fetchApi(`/acfun/style?name=${encodeURIComponent(name)}`);
  const output = await answer.json();
  if (choiceOf(node)?.value !== name) return; // Chosen again in the meantime.
  node.imgs = undefined; // Of the style that was chosen before.
  const detail = { node: String(node.id), output: output };
  api.dispatchEvent(new CustomEvent("executed", { detail }));
}

app.registerExtension({
  name: "ACFun.StyleLabel",
  nodeCreated(node) {
    if (node.comfyClass !== "ACFunLoadStyle") return;
    follow(choiceOf(node), "callback", () => showLabel(node));
    // Once a graph that is being opened has set the name.
    follow(node, "onAdded", () => setTimeout(() => showLabel(node)));
  },
});
