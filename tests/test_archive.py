"""The archive that the registry serves: what is in it, and that a ComfyUI with nothing else of the pack runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_support import NODES, ROOT, WORKFLOWS, fetch, four_frames, frames_of, miniature_server

from animatediff_native.tools.comfy_app import PACKS
from animatediff_native.tools.comfy_server import ComfyServer

NAME = "animatediff-native"
DEVELOPMENT = {".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "CONTRIBUTING.md"}
DEVELOPMENT |= {"benchmarks", "demo", "tests", "tools"}
FOR_USERS = {"tools/convert_workflow.py"}
LOCALES = sorted(path.name for path in (ROOT / "locales").glob("*"))


TRACKED = "--cached", "--others", "--exclude-standard"  # or not yet, but not ignored either


def listed(*options: str) -> set[str]:
    answer = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", *options], capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"The archive is made of the files that git tracks, and git says: {answer.stderr.strip()}")
    return set(filter(None, answer.stdout.split("\0")))


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """As comfy-cli's `comfy node pack` makes it: the files that git tracks, but for those that .comfyignore names."""
    path = tmp_path_factory.mktemp("archive") / "node.zip"
    left_out = listed("--cached", "--others", "--ignored", "--exclude-from=.comfyignore")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in sorted(listed(*TRACKED) - left_out):
            if (ROOT / name).is_file():
                zipped.write(ROOT / name, name)
    return path


@pytest.fixture(scope="module")
def base(archive, tmp_path_factory) -> Path:
    """A ComfyUI's base directory in which the archive is unpacked and nothing else."""
    base = tmp_path_factory.mktemp("comfyui")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(base / "custom_nodes" / NAME)
    return base


@pytest.fixture(scope="module")
def server(base) -> Iterator[ComfyServer]:
    packs = {"comfyui-miniature": PACKS["comfyui-miniature"]}  # it only reads the miniature's checkpoints
    with miniature_server(base, packs) as running:
        yield running


def test_it_is_smaller_than_one_megabyte(archive):
    assert archive.stat().st_size < 1e6


def test_it_holds_what_users_need_and_nothing_else(archive):
    wanted = {name for name in listed(*TRACKED) if name in FOR_USERS or name.split("/")[0] not in DEVELOPMENT}
    assert set(zipfile.ZipFile(archive).namelist()) == {name for name in wanted if (ROOT / name).is_file()}


def test_what_comfy_cli_packs_is_the_same(archive, tmp_path, monkeypatch):
    files = pytest.importorskip("comfy_cli.file_utils", reason="comfy-cli is not installed")
    monkeypatch.chdir(ROOT)
    files.zip_files(str(tmp_path / "node.zip"))
    packed = set(zipfile.ZipFile(tmp_path / "node.zip").namelist())
    assert packed == set(zipfile.ZipFile(archive).namelist()) & listed()


def test_comfy_cli_reads_the_metadata_without_a_warning(capsys):
    registry = pytest.importorskip("comfy_cli.registry.config_parser", reason="comfy-cli is not installed")
    config = registry.extract_node_configuration(str(ROOT / "pyproject.toml"))
    assert config.project.name == NAME
    assert config.project.supported_os == ["OS Independent"]
    assert config.project.supported_comfyui_version
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.one_version
def test_the_registrys_security_rules_find_nothing(tmp_path):
    """The rules of `comfy node validate`, over everything that is in the repository."""
    rules = ["--select", "S102,S307,E702", "--cache-dir", str(tmp_path)]
    answer = subprocess.run([sys.executable, "-P", "-m", "ruff", "check", "-q", *rules, str(ROOT)], capture_output=True)
    assert answer.stdout == b""


def test_it_loads_without_a_complaint(server):
    log = [line for line in server.log_tail(lines=100000).splitlines() if "custom_nodes" in line]
    assert any(NAME in line for line in log)
    assert not [line for line in log if re.search("IMPORT FAILED|Cannot import|Error while", line)]
    assert set(NODES) <= set(server.object_info())


def test_every_template_is_offered_with_its_thumbnail(server):
    offered = json.loads(fetch(server, "/workflow_templates"))[NAME]
    assert sorted(offered) == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        assert fetch(server, f"/api/workflow_templates/{NAME}/{path.name}") == path.read_bytes()
        assert fetch(server, f"/api/workflow_templates/{NAME}/{path.stem}.jpg").startswith(b"\xff\xd8")


@pytest.mark.parametrize("node_id", NODES)
def test_every_help_page_is_served(server, node_id):
    assert fetch(server, f"/extensions/{NAME}/docs/{node_id}.md").startswith(b"# ")


@pytest.mark.parametrize("language", LOCALES)
def test_every_translation_is_served(server, language):
    assert set(NODES) <= set(json.loads(fetch(server, "/i18n"))[language]["nodeDefs"])


def test_it_renders_a_clip(server):
    files = server.output_files(server.submit(four_frames(server.object_info())))
    assert sorted(file.suffix for file in files) == [".mp4", ".webp"]
    assert {frames_of(file)[0] for file in files} == {4}


@pytest.mark.one_version
@pytest.mark.parametrize("command", ["-m training", "-m evaluation", "tools/convert_workflow.py"])
def test_its_commands_start(base, command):
    """In the pack's folder, as the README says."""
    words = [sys.executable, *command.split(), "--help"]
    answer = subprocess.run(words, cwd=base / "custom_nodes" / NAME, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("usage:")
