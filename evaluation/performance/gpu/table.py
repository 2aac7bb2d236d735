"""The table of the rows, as JSON and as Markdown."""

import json
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
MEMORY = {
    "counted": "counted, GiB",
    "measured": "peak, GiB",
    "ratio": "measured / counted",
    "weights": "weights on the card, GiB",
    "torch held": "torch held at most, GiB",
    "beside torch": "beside torch, GiB",
}


def write_table(rows: Path, out: Path) -> str:
    """Write what is measured so far, as JSON and beside it as Markdown; return the latter.

    Args:
        rows: of :func:`run`.
        out: the JSON file.
    """
    lines = rows.read_text(encoding="utf-8").split("\n")
    entries = [json.loads(line) for line in lines[:-1]]  # The last may be half-written.
    machine = next((e["result"] for e in entries if e["row"] == "machine" and "result" in e), {})
    entries = [entry for entry in entries if entry["row"] != "machine" or "error" in entry]
    out.parent.mkdir(parents=True, exist_ok=True)
    table = {"machine": machine, "rows": entries}
    out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = "\n".join(_markdown(machine, entries)) + "\n"
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def _markdown(machine: Entry, entries: list[Entry]) -> list[str]:
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        "# On a GPU",
        "",
        "Written by `python -m evaluation.performance.gpu`; see there.",
        "",
        facts,
    ]
    memory = [entry for entry in entries if MEMORY["measured"] in entry.get("result", {})]
    if memory:
        lines += ["", "## Memory of a training, GiB", ""]
        lines += ["| training | " + " | ".join(MEMORY) + " | good |", "| --- " * 8 + "|"]
        for entry in memory:
            figures = [str(entry["result"].get(key, "")) for key in MEMORY.values()]
            lines.append(f"| {entry['row']} | {' | '.join(figures)} | {_good(entry)} |")
    rest = [entry for entry in entries if entry not in memory]
    if rest:
        lines += ["", "## All else", "", "| what | good | seconds | figures |", "| --- " * 4 + "|"]
        lines += [
            f"| {e['group']}: {e['row']} | {_good(e)} | {e.get('seconds', '')} | {_figures(e)} |"
            for e in rest
        ]
    return lines


def _good(entry: Entry) -> str:
    return {True: "yes", False: "**no**"}.get(entry.get("good"), "not run")


def _figures(entry: Entry) -> str:
    parts = [f"{name}: {_short(value)}" for name, value in entry.get("result", {}).items()]
    parts += [f"**{entry['error']}**"] if "error" in entry else []
    return "; ".join(parts).replace("|", "/").replace("\n", " ")


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return str(value)
