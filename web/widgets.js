// Widgets of our nodes: those for few are hidden until asked for, and a preset shows its numbers.
import { app } from "../../scripts/app.js";
import { inPageLanguage } from "./translation.js";

export const isLinked = (node, name) =>
  node.inputs?.some(({ widget, link }) => widget?.name === name && link != null);

const specsOf = (node) => {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  return { ...required, ...optional };
};

// Calls `after` each time that the page has called a method of an object.
export function follow(object, method, after) {
  const before = object[method];
  object[method] = function (...values) {
    const result = before?.apply(this, values);
    after(...values);
    return result;
  };
}

// Nodes 2.0 hides advanced widgets by itself; classic nodes show them. There a hidden one takes no
// room, and one that does not hold its default stays in sight.
function hideAdvanced(node) {
  const specs = specsOf(node);
  const advanced = (node.widgets ?? []).filter(({ name }) => specs[name]?.[1]?.advanced);
  if (!advanced.length) return () => {};
  const show = () => {
    for (const widget of advanced) {
      const isDefault = widget.value === (specs[widget.name][1].default ?? widget.value);
      widget.hidden = !node.showAdvanced && isDefault && !isLinked(node, widget.name);
    }
    const shown = { template: "Show advanced", values: {} };
    const hidden = { template: "Hide advanced", values: {} };
    button.label = inPageLanguage(node.showAdvanced ? hidden : shown);
  };
  const press = () => {
    node.showAdvanced = !node.showAdvanced;
    show();
    node.setSize([node.size[0], node.computeSize()[1]]);
    node.setDirtyCanvas(true, true);
  };
  const options = { serialize: false, canvasOnly: true };
  const button = node.addWidget("button", "advanced", null, press, options);
  button.serialize = false;
  show();
  node.setSize([node.size[0], node.computeSize()[1]]);
  follow(node, "onConfigure", show);
  follow(node, "onConnectionsChange", show);
  return show;
}

// Choosing a preset shows its numbers; editing one of them turns it to custom, the last of the list.
function showPreset(node, show) {
  const { presets, options } = specsOf(node).preset?.[1] ?? {};
  if (!presets) return;
  const widgets = Object.fromEntries(node.widgets.map((widget) => [widget.name, widget]));
  follow(widgets.preset, "callback", () => {
    for (const [name, value] of Object.entries(presets[widgets.preset.value] ?? {}))
      if (!isLinked(node, name)) widgets[name].value = value;
    show();
  });
  for (const name of new Set(Object.values(presets).flatMap(Object.keys)))
    follow(widgets[name], "callback", () => {
      const number = presets[widgets.preset.value]?.[name];
      if (number !== undefined && number !== widgets[name].value)
        widgets.preset.value = options.at(-1);
    });
}

app.registerExtension({
  name: "ACFun.Widgets",
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("ACFun")) showPreset(node, hideAdvanced(node));
  },
});
