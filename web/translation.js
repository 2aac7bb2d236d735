// What our nodes say, in the page's language. The server says it in English, as it stands in the
// log, because it knows no language of the user who reads. `messages/<language>.json` holds each
// English message of the pack with its holes, {0} and so on, and what stands for it.
import { app } from "../../scripts/app.js";

const LANGUAGES = ["zh", "ja"];

let templates = [];

// What a hole may hold: at first no end of a sentence, unless nothing comes after the hole.
const STRICT = String.raw`(?:(?!\. [A-Z]).)*`;
const LOOSE = ".*";
const MOST_SENTENCES = 4; // In one message.

// Returns every message as {parts, strict, loose, translation}, the longest text first.
export function compiled(messages) {
  const plain = (text) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  const pattern = (parts, inside) => {
    const hole = (n) => (n === 1 && parts[0] === "" ? `(${inside})` : `(${inside}?)`);
    const last = parts.at(-1) === "" ? parts.length - 1 : 0;
    const before = (n) => (n === 0 ? "" : n === last ? `(${LOOSE})` : hole(n));
    return new RegExp(`^${parts.map((part, n) => before(n) + plain(part)).join("")}$`, "s");
  };
  return Object.entries(messages)
    .map(([english, translation]) => ({ parts: english.split(/\{\d+\}/), translation }))
    .map((message) => ({
      ...message,
      strict: pattern(message.parts, STRICT),
      loose: pattern(message.parts, LOOSE),
    }))
    .sort((a, b) => b.parts.join("").length - a.parts.join("").length);
}

// Returns what stands for a text that is one of the messages, undefined if it is none.
function matched(text, messages, kind) {
  for (const { parts, translation, [kind]: pattern } of messages) {
    const found = parts.every((part) => text.includes(part)) && text.match(pattern);
    if (!found) continue;
    const value = (_, hole) => translated(found[Number(hole) + 1], messages);
    return translation.replaceAll(/\{(\d+)\}/g, value);
  }
  return undefined;
}

// Returns a text of lines and sentences in another language. What is no message stays: a name, a
// number, what another program says.
export function translated(text, messages) {
  const [line, ...lines] = text.split("\n");
  const sentences = text.split(/(?<=\.) /);
  for (const kind of ["strict", "loose"]) {
    const known = lines.length && matched(line, messages, kind);
    if (known) return `${known}\n${translated(lines.join("\n"), messages)}`;
    const whole = matched(text, messages, kind);
    if (whole !== undefined) return whole;
    for (let count = 1; count < Math.min(sentences.length, MOST_SENTENCES); count += 1) {
      const first = matched(sentences.slice(0, count).join(" "), messages, kind);
      const rest = sentences.slice(count).join(" ");
      if (first !== undefined) return `${first} ${translated(rest, messages)}`;
    }
  }
  const [first, between] = lines.length ? [line, "\n"] : [sentences[0], " "];
  const rest = text.slice(first.length + 1);
  return first === text ? text : first + between + translated(rest, messages);
}

export function inPageLanguage(text) {
  return templates.length ? translated(text, templates) : text;
}

async function load() {
  const language = app.extensionManager.setting.get("Comfy.Locale");
  const address = new URL(`messages/${language}.json`, import.meta.url);
  templates = LANGUAGES.includes(language) ? compiled(await (await fetch(address)).json()) : [];
}

app.registerExtension({
  name: "ACFun.Translation",
  async setup() {
    app.ui.settings.addEventListener("Comfy.Locale.change", load);
    await load();
  },
});
