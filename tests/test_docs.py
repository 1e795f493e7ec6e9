"""README and docs/: their links lead somewhere, and their commands start something."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *DOCS]
PACK = ("nodes", "motion_models", "sampling", "training", "evaluation", "old_workflows")
VARIABLE = r"\.\.\.|\b[NM]\b|\b\d[\d/.]*| / "  # what differs from one message of its kind to the next
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"(?:python|launch) -m ([\w.]+)(.*)")
SCRIPT = re.compile(r"python (tools/\w+\.py)(.*)")
DEV_COMMANDS = set(re.findall(r"\badd\((\w+),", (ROOT / "tools" / "dev.py").read_text(encoding="utf-8")))


def for_each(documents: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", documents, ids=lambda file: file.relative_to(ROOT).as_posix())


def listed(*options: str) -> set[str]:
    """Return the files that git tracks, with `options` only those that they choose."""
    answer = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", *options], capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"git says: {answer.stderr.strip()}")
    return set(filter(None, answer.stdout.split("\0")))


def headings(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def targets(document: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each link within the repository."""
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        if not re.match(r"https?://|mailto:", link):
            path, _, anchor = link.partition("#")
            yield (document.parent / path).resolve() if path else document, anchor


def test_the_readme_is_read_in_five_minutes():
    assert len(README.read_text(encoding="utf-8").split()) <= 1000


@for_each(DOCUMENTS)
def test_links_lead_somewhere(document):
    for file, anchor in targets(document):
        assert file.is_relative_to(ROOT)
        assert file.exists(), file
        assert not anchor or anchor in headings(file), (file, anchor)


@for_each(DOCS)
def test_docs_link_nothing_that_the_archive_leaves_out(document):
    """The README may, for its pictures."""
    left_out = {ROOT / name for name in listed("--cached", "--ignored", "--exclude-from=.comfyignore")}
    assert left_out
    assert not {file for file, _ in targets(document)} & left_out


def test_every_document_of_docs_is_reached_from_the_readme():
    reached, waiting = set(), [README]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        waiting += [file for file, _ in targets(document) if file.suffix == ".md" and file not in reached]
    assert set(DOCS) <= reached


@for_each(DOCUMENTS)
def test_commands_name_what_exists(document):
    text = document.read_text(encoding="utf-8")
    for module, words in MODULE.findall(text):
        check_options(words, source_of(module))
    for script, words in SCRIPT.findall(text):
        source = ROOT / script
        assert source.is_file(), script
        if script == "tools/dev.py":
            source = check_dev_command(words.split("#")[0].split(), source)
        if " -- " not in words:
            check_options(words, source)


def source_of(module: str) -> Path:
    """Return the file that `python -m` runs: by the pack's name, or for two modules in the pack's folder."""
    name = module.removeprefix("animatediff_native.")
    assert name != module or name in ("training", "evaluation"), f"{module} runs as animatediff_native.{module} alone"
    file = ROOT.joinpath(*name.split("."))
    file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    assert file.is_file(), module
    return file


def check_dev_command(words: list[str], source: Path) -> Path:
    """Assert that tools/dev.py has the command, and return the file that reads its options."""
    words = [word.strip("`.,;:") for word in words]
    if not words or words[0].isupper():
        return source
    assert words[0] in DEV_COMMANDS, words
    if words[0] == "bench" and words[1:] and not words[1].startswith("-"):
        source = ROOT / "benchmarks" / f"{words[1]}.py"
        assert source.is_file(), words
    if words[0] == "test":
        assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests")), words
    return source


def check_options(words: str, source: Path) -> None:
    """Assert that each --option in a command's words stands in the source, or in the folder that it starts."""
    folder = source.parent if source.name == "__main__.py" else None
    text = "".join(file.read_text(encoding="utf-8") for file in (folder.glob("*.py") if folder else [source]))
    for option in re.findall(r"(?<!\S)--[a-z][\w-]*", words.split("`")[0].split("#")[0]):
        assert option == "--help" or f'"{option}"' in text, (option, source)


@pytest.mark.parametrize("name", ["README.md", "docs/old_workflows.md"])
def test_as_many_old_workflows_are_converted_as_it_says(name):
    corpus = list((ROOT / "tests" / "old_workflows" / "corpus").glob("*.json"))
    assert f"The tests convert {len(corpus)} " in (ROOT / name).read_text(encoding="utf-8")


def test_the_house_in_contributing_is_this_one():
    rows = re.findall(r"^    ([\w.]+/?)  ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    folders = {name.split("/")[0] + "/" for name in listed() if "/" in name and not name.startswith(".")}
    assert folders == {row for row in rows if row.endswith("/")}
    assert all((ROOT / row).exists() for row in rows)


def test_the_picture_of_the_graph_shows_todays_workflow():
    """If not: python tools/dev.py run -- python -m animatediff_native.tools.build.graph_picture"""
    from animatediff_native.tools.build.graph_picture import OUTPUT, WORKFLOW, picture_size

    with Image.open(OUTPUT) as picture:
        assert picture.size == picture_size(json.loads(WORKFLOW.read_text(encoding="utf-8")))


def test_quoted_messages_are_ones_that_the_pack_writes():
    """Numbers, names and `...` stand for what a message is about."""
    text = "".join(file.read_text(encoding="utf-8") for file in (README, ROOT / "docs" / "troubleshooting.md"))
    cells = re.findall(r"^\| (\*.+?\*) ", text, re.MULTILINE)
    messages = [message for cell in cells for message in re.findall(r"\*([^*]+)\*", cell)]
    fixed = [part.strip(' :,()"') for message in messages for part in re.split(VARIABLE, message)]
    written = "\n".join(texts_of_the_pack())
    assert [part for part in fixed if len(part.split()) > 1 and part not in written] == []
    assert len(messages) > 20


def texts_of_the_pack() -> Iterator[str]:
    """Yield the text between the variables of every string in the pack."""
    for name in listed("*.py"):
        if name.split("/")[0] in PACK:
            for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
