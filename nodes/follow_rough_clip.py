"""Follow Rough Clip: let a clip move as a roughly animated one does."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..sampling.cut_outs import check_masks
from ..sampling.per_frame import check_count
from ..sampling.rough_clip import follow_noise_levels, noise_levels
from .schema import Schema

INSIDE, OUTSIDE = 0.6, 0.8


class FollowRoughClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_FollowRoughClip",
            display_name="Follow Rough Clip",
            category="AnimateDiff",
            description="Lets the sampler's clip move as a rough one does: a dragged cut-out, a 3D preview or a warped "
            "video. What the masks mark follows it closely, and the rest loosely.",
            search_aliases=["time-to-move", "ttm", "dual clock", "drag", "trajectory", "differential diffusion"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. Works before or after Apply AnimateDiff."),
                io.Image.Input("images", tooltip="The rough clip, from Drag Cut-out or elsewhere."),
                io.Mask.Input("masks", tooltip="What must follow the clip closely: one mask, or one per frame."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                io.Float.Input(
                    "inside",
                    default=INSIDE,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Noise on the rough clip inside the masks, from which the sampler works. Lower values keep "
                    "its shape, colour and place; higher ones redraw more.",
                ),
                io.Float.Input(
                    "outside",
                    default=OUTSIDE,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Noise outside the masks, not less than inside. 1 leaves the surroundings to the prompt, "
                    "but for a hint of their colours.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, for any sampler."),
                io.Latent.Output(tooltip="The rough clip with its noise levels, for the same sampler."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, images: Tensor, masks: Tensor, vae: Any, inside: float = INSIDE, outside: float = OUTSIDE
    ) -> io.NodeOutput:
        if images.ndim != 4 or not len(images):
            raise ValueError("The rough clip has no frames: connect a batch of images.")
        masks = masks.reshape(-1, *masks.shape[-2:])
        check_count(len(masks), "masks", len(images))
        check_masks(images, masks)
        if inside > outside:
            raise ValueError(
                f"inside is {inside:g} but outside only {outside:g}: set outside to at least as much, or invert the "
                "masks."
            )
        if vae is None:
            raise ValueError("This checkpoint has no VAE: connect Load VAE to 'vae' instead.")
        if min(images.shape[1:3]) < vae.spacial_compression_encode():
            raise ValueError(f"The clip is only {images.shape[2]} x {images.shape[1]} pixels: enlarge it.")
        samples = vae.encode(images[..., :3].expand(-1, -1, -1, 3))
        # The VAE cuts the edges off frames that are no multiple of 8 pixels.
        masks = vae.vae_encode_crop_pixels(masks[..., None].expand(-1, -1, -1, 3))[..., 0]
        levels = noise_levels(masks, samples.shape[-2:], inside=inside, outside=outside)
        return io.NodeOutput(follow_noise_levels(model), {"samples": samples, "noise_mask": levels})
