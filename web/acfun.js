// Shows what our nodes say in the page's language, and what a training's last run said also when
// ComfyUI took the run from its cache: nothing runs then, but the page is sent the node's kept text,
// which it shows on Preview Any only.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { inPageLanguage } from "./translation.js";

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

// Some versions of the page take a node's text for HTML.
function escaped(text) {
  return text.replaceAll(/[&<>]/g, (sign) => ENTITIES[sign]);
}

// The message that each node's next text is of, sent before the text; by node id.
const messages = new Map();

api.addEventListener("acfun.message", ({ detail }) => messages.set(detail.node, detail));

api.addEventListener("progress_text", (event) => {
  const { detail } = event;
  const sent = messages.get(String(detail.nodeId));
  if (sent?.text !== detail.text) return;
  const text = escaped(inPageLanguage(sent.message));
  if (text === detail.text) return;
  event.stopImmediatePropagation(); // Or the page might show this text after the other.
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { ...detail, text } }));
});

api.addEventListener("executed", ({ detail }) => {
  if (!detail.output?.acfun) return;
  const text = escaped(inPageLanguage(detail.output.acfun[0]));
  // As if the node had said it now, so that the page shows it where it shows all such texts.
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId: detail.node, text } }));
});

// The templates name example pictures. Load Image looks for them in ComfyUI's input folder, where
// the page puts the missing ones as if the user had chosen the files, and says so.
const PUT = { template: "Put into ComfyUI's input folder: {names}" };
const REFUSED = {
  template: "ComfyUI did not take {names}. Copy them from the folder web/examples of this pack into ComfyUI's input folder and press R.",
};
const EXAMPLES = /^acfun_(style|face|other_face)\.jpg$|^acfun_face_mask\.png$/;

async function bringExamples(graph) {
  const named = (graph?.nodes ?? []).flatMap(({ widgets_values }) => widgets_values ?? []);
  const wanted = new Set(named.filter((value) => EXAMPLES.test(value)));
  if (!wanted.size) return;
  const before = await inputPictures();
  const missing = [...wanted].filter((name) => !before.includes(name));
  if (!missing.length) return;
  const taken = await Promise.all(missing.map(isTaken));
  await app.refreshComboInNodes();
  const after = await inputPictures();
  const isThere = (name, number) => taken[number] && after.includes(name);
  tell("info", PUT, missing.filter(isThere));
  tell("error", REFUSED, missing.filter((name, number) => !isThere(name, number)));
}

async function inputPictures() {
  const { LoadImage } = await (await api.fetchApi("/object_info/LoadImage")).json();
  const [values, options] = LoadImage.input.required.image;
  return Array.isArray(values) ? values : options.options;
}

// Returns whether the server has taken a picture: it may be full, refuse or cut the upload off.
async function isTaken(name) {
  try {
    const picture = await fetch(new URL(`examples/${name}`, import.meta.url));
    const body = new FormData();
    body.append("image", await picture.blob(), name);
    return picture.ok && (await api.fetchApi("/upload/image", { method: "POST", body })).ok;
  } catch {
    return false;
  }
}

function tell(severity, message, names) {
  if (!names.length) return;
  const detail = inPageLanguage({ ...message, values: { names: names.join(", ") } });
  app.extensionManager.toast.add({ severity, summary: "ACFun", detail, life: 10000 });
}

app.registerExtension({ name: "ACFun.ExamplePictures", beforeConfigureGraph: bringExamples });

// ComfyUI lists a pack's templates in the order of the disk. Ours are numbered.
const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const byNumber = (one, other) => parseInt(one) - parseInt(other);
const allTemplates = api.getWorkflowTemplates?.bind(api);
if (allTemplates) {
  api.getWorkflowTemplates = async () => {
    const names = await allTemplates();
    if (Array.isArray(names?.[PACK])) names[PACK].sort(byNumber);
    return names;
  };
}
