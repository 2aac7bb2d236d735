// Shows what a training's last run said, also when ComfyUI took the run from its cache: nothing
// runs then, but the page is sent the node's kept text, which it shows on Preview Any only.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { inPageLanguage } from "./translation.js";

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

function escaped(text) {
  return text.replaceAll(/[&<>]/g, (sign) => ENTITIES[sign]);
}

function unescaped(text) {
  const signs = Object.fromEntries(Object.entries(ENTITIES).map(([sign, name]) => [name, sign]));
  return text.replaceAll(/&(amp|lt|gt);/g, (name) => signs[name]);
}

// Inside subgraphs the server writes a node's id as a path: 12:5.
function isOurs(path) {
  let node;
  let graph = app.graph.rootGraph ?? app.graph;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(Number(id));
    graph = node?.subgraph;
  }
  return Boolean(node?.comfyClass?.startsWith("ACFun"));
}

api.addEventListener("progress_text", (event) => {
  const { detail } = event;
  if (!isOurs(detail.nodeId)) return;
  const text = escaped(inPageLanguage(unescaped(detail.text)));
  if (text === detail.text) return;
  event.stopImmediatePropagation(); // Or the page might show this text after the other.
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { ...detail, text } }));
});

api.addEventListener("executed", ({ detail }) => {
  if (!detail.output?.acfun) return;
  const text = escaped(detail.output.text.join("\n"));
  // As if the node had said it now, so that the page shows it where it shows all such texts.
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId: detail.node, text } }));
});

// The templates name example pictures. Load Image looks for them in ComfyUI's input folder, where
// the page puts the missing ones as if the user had chosen the files, and says so.
const EXAMPLES = /^acfun_(style|face|other_face)\.jpg$|^acfun_(face|eyes)_mask\.png$/;

async function bringExamples(graph) {
  const named = (graph?.nodes ?? []).flatMap(({ widgets_values }) => widgets_values ?? []);
  const wanted = new Set(named.filter((value) => EXAMPLES.test(value)));
  if (!wanted.size) return;
  const { LoadImage } = await (await api.fetchApi("/object_info/LoadImage")).json();
  const [values, options] = LoadImage.input.required.image;
  const present = Array.isArray(values) ? values : options.options;
  const missing = [...wanted].filter((name) => !present.includes(name));
  if (!missing.length) return;
  for (const name of missing) {
    const picture = await fetch(new URL(`examples/${name}`, import.meta.url));
    const body = new FormData();
    body.append("image", await picture.blob(), name);
    await api.fetchApi("/upload/image", { method: "POST", body });
  }
  await app.refreshComboInNodes();
  const detail = inPageLanguage(`Put into ComfyUI's input folder: ${missing.join(", ")}`);
  app.extensionManager.toast.add({ severity: "info", summary: "ACFun", detail, life: 10000 });
}

app.registerExtension({ name: "ACFun.ExamplePictures", beforeConfigureGraph: bringExamples });

// ComfyUI lists a pack's templates in the order of the disk. Ours are numbered.
const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const byNumber = (one, other) => parseInt(one) - parseInt(other);
const allTemplates = api.getWorkflowTemplates.bind(api);
api.getWorkflowTemplates = async () => {
  const names = await allTemplates();
  names[PACK]?.sort(byNumber);
  return names;
};
