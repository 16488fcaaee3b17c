"""The rules of the house: floors, no cycles, light imports, small files, links, and the public face."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import edgekit

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edgekit"
ROOMS = ("compress", "quantize", "converters", "runtimes", "models")
LINKED = ("converters", "runtimes", "models")

FLOORS = {
    0: ("cores", "errors", "hashing", "record", "spec"),
    1: (
        *("bundle", "staging"),
        *("datasets", "decoding", "feeds", "labels", "packages", "processing", "readers", "rows", "samples"),
        *("card", "converter", "environment", "family", "graph", "opening", "parity", "recipe"),
        *("lanes", "registry", "runtime", "target", "tracing", "trial", "validation", "worker"),
        *("about", "cache", "catalog", "hubs", "network", "ops", "weights", "wire"),
        *("metrics", "scoring", "sources"),
        *("batching", "deadline", "isolation", "pooling", "stateful", "streaming"),  # ways to drive a session
    ),
    2: ("plan", *ROOMS),
    3: (
        *(
            "comparison",
            "conversion",
            "diagnosis",
            "evaluation",
            "inspection",
            "loading",
            "optimization",
            "profiling",
            "verification",
        ),  # the verbs
        "reporting",
        *("choosing", "variants"),
        *("devices", "evaluating", "making", "measuring", "named_files", "optimizing", "serving", "training"),
    ),
    4: ("report",),
    5: ("__main__", "cli"),
    6: ("testing",),  # apart: shipped, but nothing of the package may need it
}
NEIGHBORS = {"converters": {"quantize", "compress"}}
"""Who on floor 2 may use what beside it: a writer renders a plan in its own form. Everybody else keeps apart."""
FACE = 7
"""The floor of ``edgekit`` itself: it reaches everything, lazily, and nothing below may import it."""

PUBLIC = {
    *("Artifact", "Bundle", "Recipe", "Session", "Signature", "Target", "TensorSpec"),
    *("compare", "convert", "evaluate", "inspect", "load", "optimize", "profile"),
    "errors",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40  # not counting the docstring
EXCEPTIONS: dict[str, str] = {}
"""``"edgekit.module"`` or ``"edgekit.module:function"`` beyond those limits, and why."""

LIGHT = {
    "edgekit.cli": {"click", "rich"},
    "edgekit.report": {"rich"},
    "edgekit.testing": {"pytest"},
}
"""What else than numpy and the standard library a folder may import at module level."""


@dataclass(frozen=True)
class Import:
    """One imported module, and where the statement stands."""

    module: str
    line: int
    at_module_level: bool


def modules() -> dict[str, Path]:
    """Every module of the package by its import name; links count as folders of the package."""
    folders = [PACKAGE, *(PACKAGE / room for room in LINKED)]
    paths = {path for folder in folders for path in folder.rglob("*.py")}
    named = {}
    for path in sorted(paths):
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


MODULES = modules()


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def floor(name: str) -> int:
    """The floor of a module; a KeyError says that FLOORS has no place for it yet."""
    if name == "edgekit":
        return FACE
    return {word: level for level, words in FLOORS.items() for word in words}[word(name)]


def word(name: str) -> str:
    """The module or folder of the package that `name` is or belongs to."""
    return f"{name}.".split(".")[1]


def imports(name: str) -> list[Import]:
    """All imports of a module except those for type checkers."""
    found = []
    for node, at_module_level in _statements(tree(name), True):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name != "edgekit" or not _only_asks_version(name)]
            found += [Import(module, node.lineno, at_module_level) for module in names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full != "edgekit.__version__":
                    found.append(Import(full if full in MODULES else base, node.lineno, at_module_level))
    return found


def _only_asks_version(name: str) -> bool:
    """Whether a module uses nothing of the face but its version, a constant that is there before anything else."""
    uses = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)]
    return {node.attr for node in uses if ast.unparse(node.value) == "edgekit"} <= {"__version__"}


def _statements(node: ast.AST, at_module_level: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other, at_module_level
            continue
        yield child, at_module_level
        inner = at_module_level and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _statements(child, inner)


def own_imports(name: str) -> list[Import]:
    return [found for found in imports(name) if found.module.split(".")[0] == "edgekit"]


def test_every_module_has_a_floor() -> None:
    homeless = []
    for name in MODULES:
        try:
            floor(name)
        except KeyError:
            homeless.append(name)
    assert not homeless, "FLOORS in this file has no place for these"


def test_imports_only_go_down() -> None:
    upward = [
        f"{name}:{found.line} (floor {floor(name)}) imports {found.module} (floor {floor(found.module)})"
        for name in MODULES
        if name != "edgekit"
        for found in own_imports(name)
        if floor(found.module) > floor(name)
    ]
    assert not upward


def test_what_stands_side_by_side_on_floor_2_keeps_apart() -> None:
    across = [
        f"{name}:{found.line} imports {found.module}"
        for name in MODULES
        if name != "edgekit" and floor(name) == 2
        for found in own_imports(name)
        if floor(found.module) == 2 and word(found.module) not in {word(name), *NEIGHBORS.get(word(name), ())}
    ]
    assert not across


def test_converters_runtimes_and_models_know_neither_one_another_nor_a_verb() -> None:
    verbs = {f"edgekit.{word}" for word in FLOORS[3]}
    across = [
        f"{name}:{found.line} imports {found.module}"
        for name in MODULES
        if word(name) in LINKED
        for found in own_imports(name)
        if found.module in verbs or (word(found.module) in LINKED and word(found.module) != word(name))
    ]
    assert not across


def test_there_are_no_cycles_not_even_through_functions() -> None:
    graph = {name: {found.module for found in own_imports(name)} - {name} for name in MODULES if name != "edgekit"}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_heavy_is_imported_at_module_level() -> None:
    heavy = []
    for name in MODULES:
        folder = ".".join(name.split(".")[:2])
        light = sys.stdlib_module_names | {"numpy", "edgekit"} | LIGHT.get(folder, set())
        heavy += [
            f"{name}:{found.line} imports {found.module}"
            for found in imports(name)
            if found.at_module_level and found.module.split(".")[0] not in light
        ]
    assert not heavy


def test_pytest_is_imported_by_the_shipped_batteries_only() -> None:
    """Not even inside a function: a device has no pytest."""
    users = {name for name in MODULES for found in imports(name) if found.module.split(".")[0] in {"pytest", "_pytest"}}
    assert all(name.startswith("edgekit.testing") for name in users), users


def test_import_edgekit_loads_numpy_and_the_standard_library_only() -> None:
    loaded = _modules_after("import edgekit, edgekit.errors, edgekit.spec, edgekit.runtime, edgekit.registry")
    extra = {name.split(".")[0] for name in loaded - _modules_after("import numpy")}
    assert "edgekit" in extra
    assert extra <= {"edgekit"} | sys.stdlib_module_names


def test_the_command_line_starts_without_engines() -> None:
    loaded = {name.split(".")[0] for name in _modules_after("import edgekit.cli")}
    assert not loaded & {"onnx", "onnx_ir", "onnxruntime", "openvino", "ai_edge_litert", "tensorflow", "keras", "scipy"}


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def _too_long() -> dict[str, int]:
    long = {}
    for name, path in MODULES.items():
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES:
            long[name] = lines
        for node in ast.walk(tree(name)):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and (lines := _code_lines(node)) > MAX_FUNCTION_LINES:
                long[f"{name}:{node.name}"] = lines
    return long


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def test_files_and_functions_are_small() -> None:
    long = _too_long()
    assert {what: lines for what, lines in long.items() if what not in EXCEPTIONS} == {}


def test_exceptions_are_still_needed() -> None:
    assert set(EXCEPTIONS) <= set(_too_long())


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    vague = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "handler"}
    assert [name for name in MODULES if vague & set(name.split("."))] == []


@pytest.mark.parametrize("room", LINKED)
def test_rooms_are_relative_links_at_the_top_level(room: str) -> None:
    link = PACKAGE / room
    assert link.is_symlink()
    assert link.readlink() == Path("..", room)
    assert (ROOT / room / "__init__.py").is_file()


def test_rooms_are_never_top_level_import_names() -> None:
    """They would collide with users' own packages."""
    folders = ("edgekit", *LINKED, "tests", "examples", "benchmarks")
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if any(name.split(".")[0] in LINKED for name in _imported_names(node))
    ]
    assert not offenders


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def test_the_public_face_is_what_the_design_lists() -> None:
    assert set(edgekit.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_are_there(name: str) -> None:
    value = getattr(edgekit, name)
    assert value.__doc__
    assert name in dir(edgekit)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_verb"):
        edgekit.no_such_verb  # noqa: B018 - the access is the test
