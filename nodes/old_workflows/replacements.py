"""Which node stands in for which of ComfyUI-AnimateDiff-Evolved's, once ComfyUI does not find that one.

The page offers the replacements of a workflow's missing nodes. It moves links by the names of inputs, and values by
their positions in the workflow, so `widgets` are in the order in which that pack's nodes have them.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from comfy_api.latest import ComfyAPI, io


class Replacement(NamedTuple):
    """Of the node `ADE_<old>`. Without `new` it is `ADN_Old<old>`; inputs keep their names."""

    old: str
    widgets: tuple[str, ...]
    sockets: tuple[str, ...] = ()
    new: str = ""
    unused: tuple[str, ...] = ()
    """Those of the widgets that the new node has not."""
    missing: dict[str, Any] = {}
    """Values for widgets that older workflows do not have yet."""
    outputs: int = 1

    @property
    def old_id(self) -> str:
        return f"ADE_{self.old}"

    @property
    def new_id(self) -> str:
        return self.new or f"ADN_Old{self.old}"

    @property
    def inputs(self) -> list[str]:
        return [name for name in (*self.sockets, *self.widgets) if name not in self.unused]

    def for_page(self) -> io.NodeReplace:
        """What comes later in the mapping wins."""
        values: list[Any] = [{"new_id": name, "set_value": value} for name, value in self.missing.items()]
        return io.NodeReplace(
            new_node_id=self.new_id,
            old_node_id=self.old_id,
            old_widget_ids=list(self.widgets),
            input_mapping=[*values, *({"new_id": name, "old_id": name} for name in self.inputs)],
            output_mapping=[{"new_idx": i, "old_idx": i} for i in range(self.outputs)],
        )

    def in_prompt(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The new node's inputs, from those of the old one in a prompt."""
        return self.missing | {name: inputs[name] for name in self.inputs if name in inputs}


BLEND = ("fuse_method", "use_on_equal_length", "start_percent", "guarantee_steps")
CONTEXTS = ("prev_context", "view_opts")
SAMPLING = ("noise_layers", "iteration_opts", "custom_cfg", "sigma_schedule", "image_inject", "ancestral_opts")
STRENGTH = ("motion_lora", "scale_multival", "effect_multival", "ad_keyframes", "per_block")

REPLACEMENTS = (
    Replacement(
        "AnimateDiffLoaderGen1",
        widgets=("model_name", "beta_schedule"),
        sockets=("model", "context_options", "sample_settings", "ad_settings", *STRENGTH),
    ),
    Replacement(
        "AnimateDiffLoaderWithContext",
        widgets=("model_name", "beta_schedule", "motion_scale", "apply_v2_models_properly"),
        sockets=("model", "context_options", "motion_lora", "ad_settings", "sample_settings", "ad_keyframes"),
    ),
    Replacement("LoadAnimateDiffModel", widgets=("model_name",), sockets=("ad_settings",)),
    Replacement("AnimateDiffLoRALoader", widgets=("name", "strength"), sockets=("prev_motion_lora",)),
    Replacement("MultivalDynamic", widgets=("float_val",), sockets=("mask_optional",)),
    Replacement("ApplyAnimateDiffModelSimple", widgets=(), sockets=("motion_model", *STRENGTH)),
    Replacement(
        "ApplyAnimateDiffModel",
        widgets=("start_percent", "end_percent"),
        sockets=("motion_model", "prev_m_models", *STRENGTH),
    ),
    Replacement(
        "UseEvolvedSampling",
        widgets=("beta_schedule",),
        sockets=("model", "m_models", "context_options", "sample_settings"),
    ),
    Replacement(
        "StandardStaticContextOptions", widgets=("context_length", "context_overlap", *BLEND), sockets=CONTEXTS
    ),
    Replacement(
        "StandardUniformContextOptions",
        widgets=("context_length", "context_stride", "context_overlap", *BLEND),
        sockets=CONTEXTS,
    ),
    Replacement(
        "LoopedUniformContextOptions",
        widgets=("context_length", "context_stride", "context_overlap", "closed_loop", *BLEND),
        sockets=CONTEXTS,
    ),
    Replacement(
        "AnimateDiffUniformContextOptions",
        widgets=("context_length", "context_stride", "context_overlap", "context_schedule", "closed_loop", *BLEND),
        sockets=CONTEXTS,
        new="ADN_OldLoopedUniformContextOptions",
        unused=("context_schedule",),
        missing={"fuse_method": "flat"},
    ),
    Replacement(
        "BatchedContextOptions",
        widgets=("context_length", "start_percent", "guarantee_steps"),
        sockets=("prev_context",),
    ),
    Replacement(
        "AnimateDiffSamplingSettings",
        widgets=("batch_offset", "noise_type", "seed_gen", "seed_offset", "adapt_denoise_steps"),
        sockets=("seed_override", *SAMPLING),
        unused=("adapt_denoise_steps",),
    ),
    Replacement(
        "PromptScheduling",
        widgets=("prompts", "print_schedule", "max_length", "tensor_interp"),
        sockets=("clip", "prepend_text", "append_text", "values_replace"),
        unused=("print_schedule",),
    ),
    Replacement(
        "PromptSchedulingLatents",
        widgets=("prompts", "print_schedule", "tensor_interp"),
        sockets=("clip", "latent", "prepend_text", "append_text", "values_replace"),
        unused=("print_schedule",),
        outputs=2,
    ),
    Replacement("EmptyLatentImageLarge", widgets=("width", "height", "batch_size"), new="EmptyLatentImage"),
)
BY_OLD_ID = {each.old_id: each for each in REPLACEMENTS}


async def register_replacements() -> None:
    """Tell ComfyUI's server, where there is one."""
    server: Any = getattr(sys.modules.get("server"), "PromptServer", None)
    if getattr(server, "instance", None) is None:
        return
    replacing = ComfyAPI().node_replacement
    for replacement in REPLACEMENTS:
        await replacing.register(replacement.for_page())
    server.instance.add_on_prompt_handler(replace_in_prompt)


def replace_in_prompt(request: dict[str, Any]) -> dict[str, Any]:
    """The same in prompts that come without the page. There ComfyUI's own replacement fails with a KeyError where an
    optional input is left out, so it gets no work."""
    known = sys.modules["nodes"].NODE_CLASS_MAPPINGS
    for node in request.get("prompt", {}).values():
        replacement = BY_OLD_ID.get(node.get("class_type"))
        if replacement is not None and replacement.old_id not in known:
            node |= {"class_type": replacement.new_id, "inputs": replacement.in_prompt(node["inputs"])}
    return request
