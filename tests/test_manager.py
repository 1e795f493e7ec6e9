"""ComfyUI-Manager, the package comfyui-manager, installs the pack from a git address; no other network is needed."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import subprocess
import threading
from collections.abc import Iterator

import pytest
from server_support import ROOT, fetch, four_frames, frames_of, miniature_server

from animatediff_native.tools.comfy_app import PACKS
from animatediff_native.tools.comfy_server import ComfyServer

NAME = "animatediff-native"
# Nothing is looked up elsewhere, and addresses that no list knows are allowed, as for a user who ticks that option.
CONFIGURATION = "[default]\nnetwork_mode = offline\nallow_git_url_install = true\nfile_logging = false\n"
MANAGER = ("--enable-manager", "--enable-manager-legacy-ui")  # the page with "Install via Git URL"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("comfyui_manager") is None,
    reason="comfyui-manager is not installed: see manager_requirements.txt of ComfyUI",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """Of a git repository with what is committed here, served on this machine."""
    folder = tmp_path_factory.mktemp("git")
    repository = folder / f"{NAME}.git"
    clone = ["git", "clone", "--quiet", "--bare", "--no-local", str(ROOT), str(repository)]
    answer = subprocess.run(clone, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"The pack is no git repository here: {answer.stderr.strip()}")
    subprocess.run(["git", "-C", str(repository), "update-server-info"], check=True)
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/{repository.name}"
        running.shutdown()


@pytest.fixture
def comfyui(tmp_path, monkeypatch) -> ComfyServer:
    """With the Manager and without the pack."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # git would ask a proxy for this machine
    configuration = tmp_path / "user" / "__manager" / "config.ini"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    return miniature_server(tmp_path, {"comfyui-miniature": PACKS["comfyui-miniature"]}, MANAGER)


def test_the_manager_installs_it_from_a_git_address(comfyui, address):
    with comfyui as server:
        assert "ADN_ApplyAnimateDiff" not in server.object_info()
        fetch(server, "/v2/customnode/install/git_url", address.encode())
    with comfyui as server:
        installed = json.loads(fetch(server, "/v2/customnode/installed"))
        assert installed[NAME]["enabled"]
        files = server.output_files(server.submit(four_frames(server.object_info())))
        assert sorted(file.suffix for file in files) == [".mp4", ".webp"]
        assert {frames_of(file)[0] for file in files} == {4}
