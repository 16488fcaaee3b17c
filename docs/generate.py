"""Writes the pages of docs/reference from the code; with --check says which are stale and writes nothing."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.update(COLUMNS="100", NO_COLOR="1")

import edgekit
from edgekit import errors
from edgekit.cli.group import GROUP, command_paths
from edgekit.ops import coverage, how_much, list_ops
from edgekit.processing import PRESETS, STEPS
from edgekit.recipe import ALIASES, NAMED
from edgekit.registry import CONVERTERS, MODELS, RUNTIMES
from edgekit.target import Target

FOLDER = Path(__file__).resolve().parent / "reference"
CATALOGUE = FOLDER.parent.parent / "tests" / "catalogue" / "results.json"
NOTICE = "<!-- Written by docs/generate.py (`make docs`): change the code, not this page. -->\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def first_line(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ").replace("``", "`")


def targets() -> str:
    rows, refusals = [], []
    for name in Target.names():
        if name == "host":
            continue  # what it is depends on the machine that writes this page
        target = Target.named(name)
        takes = "<br>".join(f"{format}: {', '.join(target.precisions[format])}" for format in target.formats)
        rows.append([f"`{name}`", target.title, takes, target.threads or "the engine's choice"])
        refusals += [
            f"- `{name}`, {format} {precision}: {why}"
            for format, reasons in target.refusals.items()
            for precision, why in reasons.items()
        ]
    text = "## Targets\n`host` is the one of these that this machine is.\n\n"
    text += table(["name", "what it is", "formats, best first, and precisions", "threads"], rows)
    return text + "\nRefused, with the reason:\n\n" + "\n".join(refusals) + "\n"


def runtimes() -> str:
    rows = [[f"`{name}`", ", ".join(engine.formats), first_line(type(engine).__doc__)] for name, engine in RUNTIMES]
    return "## Runtimes\n`edgekit doctor` says which work on a machine.\n\n" + table(["name", "opens", ""], rows)


def converters() -> str:
    rows = [
        [f"`{name}`", "yes" if converter.reads else "", converter.format if converter.writes else "", roads(converter)]
        for name, converter in CONVERTERS
    ]
    return "## Converters\n" + table(["name", "reads into the hub", "writes from the hub", "direct roads"], rows)


def roads(converter: object) -> str:
    return "<br>".join(f"{road.name}: {', '.join(road.precisions)}" for road in getattr(converter, "roads", ()))


def recipes() -> str:
    names = {name: ", ".join(f"`{alias}`" for alias, real in ALIASES.items() if real == name) for name in NAMED}
    rows = [[f"`{name}`", names[name], recipe.description] for name, recipe in NAMED.items()]
    return "## Recipes\n" + table(["name", "also", "what it is"], rows)


def models() -> str:
    rows = [[f"`{name}`", card.title, card.license, f"`{card.package}`"] for name, card in MODELS]
    text = "## Model cards\nA known model brings its processing and labels along.\n\n"
    return text + table(["name", "what it is", "license", "published as"], rows)


def processing() -> str:
    presets = table(["name", "what it does"], [[f"`{name}`", what] for name, what in PRESETS.items()])
    rows = [[f"`{name}`", arguments(maker), first_line(maker.__doc__)] for name, maker in STEPS]
    steps = table(["op", "arguments", "what it does"], rows)
    text = f"## Processing\nNamed (`--processing NAME`):\n\n{presets}"
    return f"{text}\nSteps of one's own (`--processing FILE.json`):\n\n{steps}"


def arguments(function: object) -> str:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    return f"`{', '.join(shown)}`" if shown else ""


def tables_page() -> str:
    sections = [targets(), runtimes(), converters(), recipes(), processing(), models()]
    return "# Targets, runtimes, recipes\n\n" + "\n".join(sections)


def command_page() -> str:
    from click.testing import CliRunner

    text = "# Command line\n"
    for name in command_paths():
        shown = CliRunner().invoke(GROUP, [*name.split(), "--help"], prog_name="edgekit").output
        text += f"\n## edgekit {name}".rstrip() + f"\n```text\n{shown.rstrip()}\n```\n"
    codes = re.findall(r"(\w+) +(\d)  (.+)", errors.__doc__ or "")
    text += "\n## Exit codes\n0 done, 2 wrong usage, 70 a bug of edgekit, 130 interrupted, and by error:\n\n"
    return text + table(["code", "error", "when"], [[code, f"`{name}`", when.strip()] for name, code, when in codes])


def python_page() -> str:
    text = "# Python\n\nAll public names are in `edgekit`; everything else may move.\n"
    for name in edgekit.__all__:
        value = getattr(edgekit, name)
        if name != "errors":
            text += f"\n## edgekit.{name}\n{described(name, value)}"
    return text


def described(name: str, value: object) -> str:
    """Signature and docstring, and for a class those of its methods."""
    text = f"```text\n{name}{inspect.signature(value)}\n```\n"  # type: ignore[arg-type]
    text += f"```text\n{inspect.getdoc(value)}\n```\n"
    if not inspect.isclass(value):
        return text
    for method, function in vars(value).items():
        plain = getattr(function, "__func__", function)
        if method.startswith("_") or not inspect.isfunction(plain) or not plain.__doc__:
            continue
        text += f"### {name}.{method}\n```text\n{method}{inspect.signature(plain)}\n\n{inspect.getdoc(plain)}\n```\n"
    return text


def ops_page() -> str:
    """What `make ops` measured: a row a format, then a row an operation."""
    measured = coverage()
    formats = measured["formats"]
    text = (
        f"# Operations\nONNX's own tests of single operations ({measured['source']}), through the hub, each writer and "
        "its engine. *Strict* is equal values, shape and dtype; *right* forgives another width of integer or float, a "
        "scalar as [1], and one step of 8 bits. What is not right is refused by the writer: no file is written that "
        "computes something else. `make ops` measures this again.\n\n"
    )
    rows = []
    for name, figures in formats.items():
        tests = figures["tests"]
        shares = [f"{figures[key]} of {tests} ({100 * figures[key] / tests:.1f} %)" for key in ("strict", "right")]
        rows.append([name, *shares, f"{figures['whole']} of {figures['ops']}"])
    text += table(["format", "strict", "right", "operations whole"], rows) + "\n"
    body = [
        [f"`{item['name']}`", item["tests"], *(how_much(item["right"][name], item["tests"]) for name in formats)]
        for item in list_ops()
    ]
    return text + table(["operation", "tests", *formats], body)


def catalogue_page() -> str:
    """What `make catalogue` measured: a row a source, then every refusal with its reasons."""
    outcomes = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    formats = list(next(iter(outcomes.values()))["formats"])
    text = (
        "# Catalogue\nReal trained models, out of pinned packages of the Python index, converted to fp32 in every "
        "format. *Parity* is the largest difference from the source, of the output's range: 1e-4 is the limit, but for "
        "sources in integers, which engines round differently, and for what the source's own answer moves by when the "
        "last bit of its input does. *Figures* are what the model is known to answer to a "
        "known picture, sound or text, asked of the file itself. `make catalogue` measures this again.\n\n"
    )
    rows, refusals = [], []
    for id, outcome in outcomes.items():
        rows.append([id, outcome["title"], *(outcome_words(outcome["formats"][name]) for name in formats)])
        refusals += refused_words(id, outcome["formats"])
    text += table(["source", "what it is", *formats], rows)
    return text + "\n## Refused, with every reason\n" + "".join(f"- {line}\n" for line in refusals)


def outcome_words(one: Mapping[str, Any]) -> str:
    if one["status"] != "written":
        return str(one["status"])
    held = sum(figure["holds"] for figure in one["figures"])
    figures = f"<br>{held} of {len(one['figures'])} figures" if one["figures"] else ""
    return f"{one['parity']:.0e}, {one['size_bytes'] / 1e6:.2f} MB{figures}<br>{one['road']}"


def refused_words(id: str, formats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each reason, with the formats it is for."""
    by_reason: dict[str, list[str]] = {}
    for name, one in formats.items():
        if one["status"] != "written":
            by_reason.setdefault(one["reason"], []).append(name)
    return [f"{id}, {', '.join(names)}: `{reason}`" for reason, names in by_reason.items()]


PAGES = {
    "tables.md": tables_page,
    "ops.md": ops_page,
    "catalogue.md": catalogue_page,
    "cli.md": command_page,
    "python.md": python_page,
}


def main() -> int:
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, NOTICE + page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    print(f"{'stale' if '--check' in sys.argv[1:] else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
