"""AnimateDiff Native: motion modules for ComfyUI, through its wrappers and PyTorch forward hooks."""

import os

import folder_paths
from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "web"  # the nodes' help pages, and mends of the page's "Replace All" and of nodes that are too high


class AnimateDiffExtension(ComfyExtension):
    async def on_load(self) -> None:
        for name in ("animatediff_models", "animatediff_motion_lora"):
            register_folder(name)
            saved = os.path.join(folder_paths.get_output_directory(), name)
            folder_paths.add_model_folder_path(name, saved)  # as ComfyUI does for its own kinds
        from .old_workflows.replacements import register_replacements

        await register_replacements()

    async def get_node_list(self) -> list[type]:
        from .nodes import NODES
        from .nodes.checks import checked
        from .old_workflows.stand_ins import STAND_INS

        return [checked(node) for node in (*NODES, *STAND_INS)]


def register_folder(name: str) -> None:
    """Add models/<name>, without losing what extra_model_paths.yaml or another pack has set for that name."""
    folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
    folders, extensions = folder_paths.folder_names_and_paths[name]  # another pack may use its set elsewhere too
    folder_paths.folder_names_and_paths[name] = folders, {*extensions, *folder_paths.supported_pt_extensions}


async def comfy_entrypoint() -> ComfyExtension:
    return AnimateDiffExtension()
