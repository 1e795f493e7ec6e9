"""A real server with the pack and its miniature models, and ComfyUI's page of it in a real browser."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfyui_version
import pytest
import safetensors.torch
import torch
from comfy_support import motion_state_dict
from page_support import CLASSIC, NEWEST, VUE
from PIL import Image
from server_support import miniature_server

from animatediff_native.tools.chromium import find_chromium
from animatediff_native.tools.comfy_app import MODELS
from animatediff_native.tools.comfy_page import ComfyPage
from animatediff_native.tools.comfy_server import ComfyServer
from animatediff_native.tools.environment.downloads import COMFYUI_DEFAULT, newest_frontend

SCREENSHOTS = Path(os.environ.get("ADN_SCREENSHOTS", "")) if "ADN_SCREENSHOTS" in os.environ else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser these tests say why they did not run."""
    reason = None if find_chromium() else "no Chromium: install it with your system's package manager"
    if importlib.util.find_spec("playwright") is None:
        reason = "Playwright is not installed"
    if comfyui_version.__version__ != COMFYUI_DEFAULT:
        reason = "the page is the newest ComfyUI's"
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def miniature_comfyui(base: Path, *arguments: str) -> ComfyServer:
    """Return a server with files that do not fit and what old workflows name; not started yet."""
    modules = base / "models" / "animatediff_models"
    modules.mkdir(parents=True)
    write_unfit_files(modules)
    write_what_old_workflows_name(base)
    return miniature_server(base, arguments=("--preview-method", "latent2rgb", "--cache-lru", "200", *arguments))


@pytest.fixture(scope="session")
def pinned_server(tmp_path_factory) -> Iterator[ComfyServer]:
    """ComfyUI with the frontend that it asks for."""
    with miniature_comfyui(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory) -> Iterator[ComfyServer]:
    """ComfyUI with the newest frontend."""
    if not newest_frontend().is_dir():
        pytest.skip("the newest frontend is not there: `python tools/dev.py test` fetches it")
    with miniature_comfyui(tmp_path_factory.mktemp("newest"), "--front-end-root", str(newest_frontend())) as running:
        yield running


def write_unfit_files(folder: Path) -> None:
    """What people put into the folder of motion modules by mistake."""
    (folder / "truncated.safetensors").write_bytes(b"not a weights file")
    block = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
    lora = f"{block}.processor.to_q_lora"
    pair = {f"{lora}.up.weight": torch.zeros(320, 2), f"{lora}.down.weight": torch.zeros(2, 320)}
    safetensors.torch.save_file(pair, folder / "motion_lora.safetensors")
    module = motion_state_dict("v3", channels=(32, 64))
    safetensors.torch.save_file(module, folder / "other_base.safetensors")
    hint = {"controlnet_cond_embedding.conv_in.weight": torch.zeros(16, 4, 3, 3), **module}
    safetensors.torch.save_file(hint, folder / "sparse_control.safetensors")
    good = safetensors.torch.load_file(MODELS["animatediff_models"] / "miniature_motion.safetensors")
    large = {key: value.float() * 1e30 if "proj_out" in key else value for key, value in good.items()}
    safetensors.torch.save_file(large, folder / "too_large.safetensors")


def write_what_old_workflows_name(base: Path) -> None:
    """A VAE of its own, and a folder of pictures."""
    (base / "models" / "vae").mkdir()
    checkpoint = safetensors.torch.load_file(MODELS["checkpoints"] / "miniature.safetensors")
    prefix = "first_stage_model."
    vae = {key.removeprefix(prefix): value for key, value in checkpoint.items() if key.startswith(prefix)}
    safetensors.torch.save_file(vae, base / "models" / "vae" / "miniature_vae.safetensors")
    (base / "input" / "frames").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (64, 64), (30 * number, 60, 90)).save(base / "input" / "frames" / f"{number:03}.png")


@pytest.fixture(scope="session")
def chromium() -> str:
    return find_chromium() or ""


@pytest.fixture(scope="session", params=[CLASSIC, VUE, NEWEST])
def frontend(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def server(request, frontend) -> ComfyServer:
    return request.getfixturevalue("newest_server" if frontend == NEWEST else "pinned_server")


@dataclass
class Pages:
    """The page that is open, if any, by its frontend."""

    open: dict[str, ComfyPage] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        self.open.clear()
        self.stack.close()


PAGES = pytest.StashKey[Pages]()


@pytest.fixture
def page(request, server, frontend, chromium) -> ComfyPage:
    """One for all tests of a frontend: a browser that starts and loads ComfyUI's page takes many seconds."""
    pages = request.session.stash.setdefault(PAGES, Pages())
    if frontend not in pages.open:
        pages.close()
        settings = {"Comfy.VueNodes.Enabled": frontend != CLASSIC, "Comfy.Minimap.Visible": False}
        opened = ComfyPage(f"http://127.0.0.1:{server.port}", chromium, settings)
        pages.open[frontend] = pages.stack.enter_context(opened)
    return pages.open[frontend]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close the page before other tests: Playwright keeps an event loop running, in which no other can be run."""
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        item.session.stash.get(PAGES, Pages()).close()


@pytest.fixture
def picture(request, page) -> Iterator[Any]:
    """Keep what the page shows, for people to look at: in the folder that ADN_SCREENSHOTS names."""

    def keep(name: str = "", fit: bool = False) -> None:
        if SCREENSHOTS is not None:
            if fit:
                page.fit()
            title = "".join(c if c.isalnum() else "_" for c in f"{request.node.name} {name}".strip())
            page.screenshot(SCREENSHOTS / f"{title}.png")

    yield keep
