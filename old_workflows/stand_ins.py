"""Touches comfy. Nodes that stand in for those of ComfyUI-AnimateDiff-Evolved, and for Advanced-ControlNet's that use
SparseCtrl, in the workflows that people have.

ComfyUI's page replaces a missing node by exactly one other (`replacements.py`), and that pack's graphs have another
shape than ours: settings come in from the side, and its loaders apply at once. So each of these nodes has the name and
the inputs of one of its nodes. Those that only set something hand it on; the others expand into the nodes that the
converter writes for them, or act on what it reads in the graph and a running node does not see. They are hidden from
the search; new graphs do without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from comfy.utils import common_upscale
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..nodes.model_files import MOTION_LORAS, MOTION_MODULES, SPARSE_CTRL_MODELS
from ..sampling.keyframes import KeyframeImages, parse_positions
from ..sampling.prompt_schedule import parse
from ..sampling.sparse_control import SparseCtrlSettings, load_sparse_control
from .expansion import Expansion, Settings, converted, expansion
from .inputs import INPUTS
from .keyframes import frames_of
from .node_types import SAMPLE_SETTINGS, USE_EVOLVED_SAMPLING
from .old_nodes import OLD_NODES, stand_in_id
from .old_sampling import LatentKeyframes, WholeClips, closed_loops, set_schedule_and_seeds, whole_clips
from .prompt_ranges import as_prompt_schedule
from .table import Input, OldNode, OldOutput

FOLDERS = {folder.name: folder for folder in (MOTION_MODULES, MOTION_LORAS, SPARSE_CTRL_MODELS)}
WIDGETS: dict[str, Any] = {
    "INT": io.Int,
    "FLOAT": io.Float,
    "BOOLEAN": io.Boolean,
    "STRING": io.String,
    "COMBO": io.Combo,
}


def node_output(expanded: Expansion) -> io.NodeOutput:
    if not expanded.nodes:  # all is as it was
        return io.NodeOutput(*expanded.outputs)
    return io.NodeOutput(*expanded.outputs, expand=expanded.nodes)


def apply(settings: Settings) -> io.NodeOutput:
    """Return the model with everything that a loader or Use Evolved Sampling does to it."""
    inputs = settings.inputs
    if isinstance(inputs.get("context_options"), WholeClips):
        return io.NodeOutput(whole_clips(inputs["model"], inputs["context_options"]))
    expanded = expansion(settings, GraphBuilder.alloc_prefix())
    if expanded.nodes and {node["class_type"] for node in expanded.nodes.values()} <= {
        USE_EVOLVED_SAMPLING,
        SAMPLE_SETTINGS,
    }:
        sample_settings = inputs.get("sample_settings")
        return io.NodeOutput(set_schedule_and_seeds(inputs["model"], inputs["beta_schedule"], sample_settings))
    if loops := closed_loops(inputs.get("context_options")):
        last = {"model": expanded.outputs[0], "beta_schedule": "use existing", "context_options": loops}
        id = f"{GraphBuilder.alloc_prefix()}1"
        expanded.nodes[id] = {"class_type": USE_EVOLVED_SAMPLING, "inputs": last}
        expanded = Expansion(expanded.nodes, [[id, 0]])
    return node_output(expanded)


def schedule(settings: Settings) -> io.NodeOutput:
    inputs = dict(settings.inputs)
    if not inputs.get("max_length") and "latent" not in inputs:
        inputs["max_length"] = last_frame(as_prompt_schedule(inputs["prompts"])) + 1
    return expand(Settings(settings.old_id, inputs))


def expand(settings: Settings) -> io.NodeOutput:
    return node_output(expansion(settings, GraphBuilder.alloc_prefix()))


def sparse_ctrl(settings: Settings) -> io.NodeOutput:
    """Return a SparseCtrl model that knows the frames of its pictures, which reach it without them."""
    c, old = converted(settings)
    values = {"positions": parse_positions(str(frames_of(c, old))), **c.placed[old].values}
    path = SPARSE_CTRL_MODELS.path(values.pop("sparse_ctrl"))
    return io.NodeOutput(load_sparse_control(path, SparseCtrlSettings(**values)))


def follow_latents(settings: Settings) -> io.NodeOutput:
    """Return the settings with keyframes in place of latents, whose pictures are not known any more."""
    keyframes = LatentKeyframes(settings.inputs["ref_latent"]["samples"])
    inputs = {**settings.inputs, "keyframes": KeyframeImages.of(keyframes, keyframes.images)}
    return io.NodeOutput(Settings(settings.old_id, inputs))


def scale_and_encode(settings: Settings) -> io.NodeOutput:
    """Return the latent of pictures in the size of another latent."""
    image, vae, latent, method, crop = (settings.inputs[entry.name] for entry in OLD_NODES[settings.old_id].inputs)
    height, width = latent["samples"].shape[-2:]
    scaled = common_upscale(image.movedim(-1, 1), 8 * width, 8 * height, method, crop).movedim(1, -1)
    return io.NodeOutput({"samples": vae.encode(scaled[..., :3].expand(-1, -1, -1, 3))})


def last_frame(prompts: str) -> int:
    """Return the last frame that has a prompt. Raises ValueError if that depends on the length of the clip, or lies
    beyond the longest one."""
    keys, longest = parse(prompts), INPUTS["max_length"].settings["max"]
    ends = [key.last for key in keys]
    for key in keys:
        if key.last.number >= longest:
            raise key.place.error(f"this frame lies beyond the {longest} that a clip can have: write a smaller one.")
    if any(end.relative or end.number < 0 for end in ends):
        raise ValueError(
            "Frames such as 0.5 or -1 depend on the length of the clip: set max_length to the number of frames."
        )
    return int(max(end.number for end in ends))


ACTIONS: Mapping[str, Callable[[Settings], io.NodeOutput]] = {
    "ADE_AnimateDiffLoaderGen1": apply,
    "ADE_AnimateDiffLoaderWithContext": apply,
    "ADE_UseEvolvedSampling": apply,
    "ADE_PromptScheduling": schedule,
    "ADE_PromptSchedulingLatents": schedule,
    "ADE_ApplyAnimateLCMI2VModel": follow_latents,
    "ADE_UpscaleAndVAEEncode": scale_and_encode,
    "ACN_SparseCtrlLoaderAdvanced": sparse_ctrl,
    "ACN_SparseCtrlRGBPreprocessor": expand,
    "ACN_AdvancedControlNetApply": expand,
    "ACN_AdvancedControlNetApply_v2": expand,
}


def stand_in(old_id: str, old: OldNode) -> type[io.ComfyNode]:
    """Return the node class that stands in for an old node."""

    class StandInNode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return schema(old_id, old)

        @classmethod
        def execute(cls, **inputs) -> io.NodeOutput:
            refuse(old, inputs)
            return ACTIONS.get(old_id, io.NodeOutput)(Settings(old_id, inputs))

        @classmethod
        def fingerprint_inputs(cls, **inputs):
            files = (entry for entry in old.inputs if entry.folder)
            return [FOLDERS[entry.folder].fingerprint(inputs.get(entry.name)) for entry in files]

    return StandInNode


def schema(old_id: str, old: OldNode) -> io.Schema:
    assert old.stand_in is not None
    return io.Schema(
        node_id=stand_in_id(old_id),
        display_name=f"{old.stand_in.title} (old workflow)",
        category="AnimateDiff/old workflows",
        description=f"From an old workflow. In new graphs, {old.stand_in.today}.",
        inputs=[schema_input(entry) for entry in old.carried],
        outputs=[schema_output(output) for output in old.stand_in.outputs],
        is_deprecated=True,
        enable_expand=old_id in ACTIONS,
    )


def schema_input(entry: Input) -> io.Input:
    settings = {**entry.settings, "tooltip": entry.tooltip, "optional": entry.optional}
    if entry.folder:
        settings["options"] = FOLDERS[entry.folder].choices()
    elif entry.is_widget:
        settings["default"] = entry.default
    kind = WIDGETS.get(entry.type) or io.Custom(entry.type)
    return kind.Input(entry.name, **settings)


def schema_output(output: OldOutput) -> io.Output:
    return io.Custom(output.type).Output(display_name=output.name or output.type, tooltip=output.tooltip)


def refuse(old: OldNode, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError if an input is linked, or has a value, that is not carried over."""
    for entry in old.inputs:
        if entry.instead and entry.name in inputs:
            raise ValueError(
                f"{entry.name} is not carried over from old workflows: disconnect it, and {entry.instead}."
            )
    if inputs.get("noise_type") == "empty":
        raise ValueError("The noise type 'empty' is not carried over from old workflows: choose another.")
    if isinstance(inputs.get("seed_override"), (list, tuple)):
        raise ValueError("A list of seeds is not carried over from old workflows: give seed_override one number.")
    if isinstance(inputs.get("float_val"), (list, tuple)) and "mask_optional" in inputs:
        raise ValueError("A list of values and a mask are not carried over together: disconnect one of them.")


STAND_INS = [stand_in(old_id, old) for old_id, old in OLD_NODES.items() if old.stand_in is not None]
