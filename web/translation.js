// What our nodes say, in the page's language. The server sends each message as its English template
// and the values in it; `messages/<language>.json` holds what stands for a template.
import { app } from "../../scripts/app.js";

const LANGUAGES = ["zh", "ja"];

let translations = {};

// Returns a message in another language: a text, or {template, values} whose values are messages.
// What has no translation stays: a name, a number, what another program says.
export function translated(message, known) {
  if (typeof message === "string") return Object.hasOwn(known, message) ? known[message] : message;
  const text = translated(message.template, known);
  return text.replaceAll(/\{(\w+)\}/g, (hole, name) =>
    Object.hasOwn(message.values, name) ? translated(message.values[name], known) : hole,
  );
}

export function inPageLanguage(message) {
  return translated(message, translations);
}

async function load() {
  const language = app.extensionManager.setting.get("Comfy.Locale");
  const address = new URL(`messages/${language}.json`, import.meta.url);
  translations = LANGUAGES.includes(language) ? await (await fetch(address)).json() : {};
}

app.registerExtension({
  name: "ACFun.Translation",
  async setup() {
    app.ui.settings.addEventListener("Comfy.Locale.change", load);
    await load();
  },
});
