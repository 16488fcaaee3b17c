"""Documentation that cannot go stale: every block of every page and every ``--help`` example is executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.group import COMMANDS, GROUP, command_paths
from tests import assets

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
LANGUAGES = {"sh", "console", "python"}
TIMEOUT_S = 600


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its language, its lines, and why it is not run where it is not."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page; a comment right above a block says why it is not run."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside, reason, start, language = False, "", 0, ""
    for number, line in enumerate(lines):
        if line.startswith("```"):
            if inside:
                yield Block(page, start + 1, language, "\n".join(lines[start + 1 : number]), reason)
                reason = ""
            else:
                start, language = number, line.removeprefix("```").strip()
            inside = not inside
        elif not inside and (match := NOT_RUN.fullmatch(line.strip())):
            reason = match[1]
        elif not inside and line.strip():
            reason = ""
    assert not inside, f"{page}:{start + 1} opens a block that is never closed"


def run_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in LANGUAGES and not block.not_run]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """This process's environment with this Python's folder first and no color."""
    folder = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"], "NO_COLOR": "1", "COLUMNS": "120"}


@pytest.fixture
def workplace(tmp_path: Path, faces: Path, face_image: Path, emotion_model: Path) -> Path:
    """A folder with what the pages start from: emotion_model.hdf5, faces/, face.png, expressions/, and the examples."""
    shutil.copytree(faces, tmp_path / "faces")
    shutil.copyfile(face_image, tmp_path / "face.png")
    (tmp_path / "expressions" / "happy").mkdir(parents=True)
    shutil.copyfile(face_image, tmp_path / "expressions" / "happy" / "face.png")
    shutil.copyfile(emotion_model, tmp_path / "emotion_model.hdf5")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def command_of(block: Block) -> list[str]:
    if block.language == "python":
        return [sys.executable, "-c", block.text]
    shell = block.text
    if block.language == "console":
        shell = "\n".join(line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))
    return ["bash", "-euo", "pipefail", "-c", shell]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if run_blocks(p)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_blocks_run_as_written(page: Path, workplace: Path, environment: dict[str, str]) -> None:
    """In the order of the page, in one folder, each in a process of its own."""
    for block in run_blocks(page):
        done = run(command_of(block), workplace, environment)
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert done.returncode == 0, f"{where} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        if block.language == "console":
            check_shown_output(block, done.stdout, where)


def check_shown_output(block: Block, output: str, where: str) -> None:
    """Every output line a page shows must be printed, up to numbers and spacing; ``...`` stands for anything."""
    printed = {blurred(line) for line in output.splitlines()}
    shown = [line for line in block.text.splitlines() if line.strip() and not line.startswith("$ ")]
    stale = [line for line in shown if line.strip() != "..." and blurred(line) not in printed]
    assert not stale, f"{where} shows lines that are not printed (any more):\n" + "\n".join(stale) + f"\n---\n{output}"


def blurred(line: str) -> str:
    """A line without what differs from machine to machine: numbers, and the width of columns."""
    return re.sub(r"[\s─━]+", " ", re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "0", line)).strip()


def test_a_page_that_shows_another_output_is_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "console", "$ echo 12 apples\n7 apples\n...", "")
    check_shown_output(block, "12 apples\n", "here")
    with pytest.raises(AssertionError, match="7 pears"):
        check_shown_output(Block(block.page, 1, "console", "$ echo\n7 pears", ""), "12 apples\n", "here")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = [
        target
        for target in targets
        if target and "://" not in target and "NNNN" not in target and not (page.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_that_are_not_run_are_rare_and_say_why(page: Path) -> None:
    left_out = [block for block in blocks(page) if block.language in LANGUAGES and block.not_run]
    assert all(len(block.not_run.split()) >= 3 for block in left_out)


def test_generated_pages_are_fresh() -> None:
    done = run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], ROOT, {**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links between pages and to headings are checked by the generator, which reads what the reader will see."""
    done = run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(tmp_path)], ROOT, {**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tutorial.html" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_every_page_is_found_from_the_first() -> None:
    first = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    hidden = [
        page for page in pages if not page.startswith("decisions/") and page != "README.md" and f"({page})" not in first
    ]
    assert not hidden


def help_pages() -> dict[str, str]:
    """What ``--help`` prints, for the program and for each command, those of groups too."""
    runner = CliRunner()
    typed = {name: [*name.split(), "--help"] for name in command_paths()}
    return {name: runner.invoke(GROUP, words, prog_name="edgekit").output for name, words in typed.items()}


@pytest.mark.parametrize("name", command_paths())
def test_help_begins_with_an_example_that_works_as_typed(
    name: str, workplace: Path, emotion_bundle: Path, environment: dict[str, str]
) -> None:
    first, example, *_ = help_pages()[name].splitlines()
    assert first == "Example:"
    words = ["edgekit", *(name or "convert").split()]
    assert example.split()[: len(words)] == words
    if example.split()[1] != "convert":
        shutil.copytree(emotion_bundle, workplace / "emotion.edge")
    done = run(["bash", "-euo", "pipefail", "-c", example], workplace, environment)
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()


def test_every_word_of_the_makefile_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    for word in phony[1].split():
        assert re.search(rf"^{word}:.*## \S", makefile, re.MULTILINE), word


def test_commands_named_in_pages_exist() -> None:
    """Also those in prose and in blocks that are not run."""
    for page in PAGES:
        code = "\n".join(block.text for block in blocks(page) if block.language in LANGUAGES)
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        commands = re.findall(r"^(?:\$ )?edgekit ([a-z-]+)", code, re.MULTILINE) + re.findall(
            r"`edgekit ([a-z-]+)", prose
        )
        unknown = [word for word in commands if not word.startswith("-") and word not in COMMANDS]
        assert not unknown, page


def test_no_asset_is_in_the_repository() -> None:
    assert ROOT / ".cache" in assets.shared.CACHE.parents
    assert ".cache/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
