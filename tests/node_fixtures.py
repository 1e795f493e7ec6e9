"""The pack's nodes by id, and the folder that Load Motion Module looks into."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import safetensors.torch
from comfy_support import motion_state_dict
from node_support import CHANNELS, core_nodes, run, small_model

from animatediff_native.__init__ import comfy_entrypoint

__all__ = ["adn", "animated", "apply", "installed", "load_motion", "model", "motion", "motion_folder"]


@pytest.fixture(scope="session")
def adn() -> dict[str, Any]:
    """Node class by id, from the pack's entry point."""

    async def node_list():
        extension = await comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(node_list())}


@pytest.fixture
def motion_folder(adn, tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty folder, the only one where motion modules are looked for."""
    extensions = folder_paths.folder_names_and_paths["animatediff_models"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], extensions))
    folder_paths.filename_list_cache.pop("animatediff_models", None)
    yield tmp_path
    folder_paths.filename_list_cache.pop("animatediff_models", None)


@pytest.fixture
def load_motion(adn, motion_folder):
    """Write a random motion module of a family and load it through the node."""

    def load(family: str = "v2", seed: int = 1) -> Any:
        name = f"{family}_{seed}.safetensors"
        safetensors.torch.save_file(motion_state_dict(family, seed, channels=CHANNELS), motion_folder / name)
        return run(adn["ADN_LoadMotionModule"], motion_module=name)

    return load


@pytest.fixture
def motion(load_motion) -> Any:
    return load_motion("v2")


@pytest.fixture
def model() -> Any:
    return small_model()


@pytest.fixture
def apply(adn):
    """The Apply AnimateDiff node as a function."""
    return lambda model, motion, **settings: run(
        adn["ADN_ApplyAnimateDiff"], model=model, motion_module=motion, **settings
    )


@pytest.fixture
def animated(apply, model, motion) -> Any:
    return apply(model, motion)


@pytest.fixture
def installed(adn, monkeypatch) -> None:
    """ComfyUI's list of nodes with the pack's."""
    for node_id, node in adn.items():
        monkeypatch.setitem(core_nodes.NODE_CLASS_MAPPINGS, node_id, node)
