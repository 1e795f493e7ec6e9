"""Old workflows in the page: which nodes it lacks, and what makes them small enough for the miniature."""

from __future__ import annotations

from typing import Any

SMALL = {
    "ckpt_name": "miniature.safetensors",
    "motion_module": "miniature_motion.safetensors",
    "model_name": "miniature_motion.safetensors",
    "motion_lora": "miniature_pan.safetensors",
    "name": "miniature_pan.safetensors",
    "lora_name": "miniature_neon.safetensors",
    "vae_name": "miniature_vae.safetensors",
    "control_net_name": "miniature_outline.safetensors",
    "sparsectrl_name": "miniature_sparse_rgb.safetensors",
    "file": "moving_star.mp4",
    "steps": 2,
    "width": 64,
    "height": 64,
}


def unknown(page: Any) -> list[str]:
    """Types of nodes that the page does not have."""
    return page.browser.evaluate(
        "() => window.app.graph.nodes.map(node => node.type).filter(type => !(type in LiteGraph.registered_node_types))"
    )


def make_small(page: Any) -> None:
    """The miniature's models and few steps, so that a run takes seconds."""
    page.browser.evaluate(
        """values => {
            for (const node of window.app.graph.nodes)
                for (const widget of node.widgets ?? []) {
                    if (widget.name in values) widget.value = values[widget.name]
                    if (widget.name === 'batch_size') widget.value = Math.min(widget.value, 18)
                }
        }""",
        SMALL,
    )
