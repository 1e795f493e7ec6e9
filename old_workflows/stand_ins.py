"""Touches comfy. Nodes that stand in for those of ComfyUI-AnimateDiff-Evolved in the workflows that people have.

ComfyUI's page replaces a missing node by exactly one other (`replacements.py`), and that pack's graphs have another
shape than ours: settings come in from the side, and its loaders apply at once. So each of these nodes has the name and
the inputs of one of its nodes, and does what ours do. They are hidden from the search; new graphs do without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from comfy_api.latest import io

from ..nodes.model_files import MOTION_LORAS, MOTION_MODULES
from . import stand_in_models as models
from . import stand_in_prompts as prompts
from .old_nodes import OLD_NODES, stand_in_id
from .stand_in_contexts import context_options, looped
from .stand_in_noise import sample_settings
from .table import Input, OldNode, OldOutput

FOLDERS = {folder.name: folder for folder in (MOTION_MODULES, MOTION_LORAS)}
WIDGETS: dict[str, Any] = {
    "INT": io.Int,
    "FLOAT": io.Float,
    "BOOLEAN": io.Boolean,
    "STRING": io.String,
    "COMBO": io.Combo,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "ADE_AnimateDiffLoaderGen1": models.loader,
    "ADE_AnimateDiffLoaderWithContext": models.legacy_loader,
    "ADE_LoadAnimateDiffModel": models.load,
    "ADE_AnimateDiffLoRALoader": models.add_lora,
    "ADE_MultivalDynamic": models.multival,
    "ADE_ApplyAnimateDiffModelSimple": models.apply,
    "ADE_ApplyAnimateDiffModel": models.apply,
    "ADE_UseEvolvedSampling": models.evolved,
    "ADE_StandardStaticContextOptions": partial(context_options, "static"),
    "ADE_StandardUniformContextOptions": partial(context_options, "uniform"),
    "ADE_LoopedUniformContextOptions": looped,
    "ADE_BatchedContextOptions": partial(context_options, "batched"),
    "ADE_AnimateDiffSamplingSettings": sample_settings,
    "ADE_PromptScheduling": prompts.schedule,
    "ADE_PromptSchedulingLatents": prompts.schedule_latent,
}


def stand_in(old_id: str, function: Callable[..., Any]) -> type[io.ComfyNode]:
    """Return the node class that stands in for an old node. `function` takes its inputs by name and returns its
    output, or a NodeOutput of several."""
    old = OLD_NODES[old_id]

    class StandInNode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return schema(old_id, old)

        @classmethod
        def execute(cls, **inputs) -> io.NodeOutput:
            refuse(old, inputs)
            result = function(**inputs)
            return result if isinstance(result, io.NodeOutput) else io.NodeOutput(result)

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
    """Raise ValueError if an input is linked that is not carried over."""
    for entry in old.inputs:
        if entry.instead and entry.name in inputs:
            raise ValueError(
                f"{entry.name} is not carried over from old workflows: disconnect it, and {entry.instead}."
            )


STAND_INS = [stand_in(old_id, function) for old_id, function in FUNCTIONS.items()]
