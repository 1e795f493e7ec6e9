"""Lets ComfyUI load the miniature checkpoint with its stock nodes.

ComfyUI recognises Stable Diffusion 1.5 by its 320 model channels. The miniature has the same blocks with 64, a text
encoder that knows a few dozen words, and latents of its own. This companion of the demo adds one entry to ComfyUI's
list of models. The node pack itself does nothing of the kind.
"""

import json
from pathlib import Path

import comfy.clip_model
import comfy.latent_formats
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base

from .words import TEXT_ENCODER, TOKENS, WordTokenizer

NODE_CLASS_MAPPINGS = {}
COLOURS = json.loads((Path(__file__).parent / "preview_colours.json").read_text(encoding="utf-8"))


class Tokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            tokenizer_path="",
            tokenizer_class=WordTokenizer,  # type: ignore[arg-type]
            max_length=TEXT_ENCODER["max_position_embeddings"],
            embedding_directory=embedding_directory,
            embedding_size=TEXT_ENCODER["hidden_size"],
            tokenizer_data=tokenizer_data or {},
        )


class TextModel(comfy.clip_model.CLIPTextModel):
    """CLIP's text model with the miniature's vocabulary; ComfyUI fixes CLIP's at 49408 tokens."""

    def __init__(self, config, dtype, device, operations):
        super().__init__(config, dtype, device, operations)
        size = (config["vocab_size"], config["hidden_size"])
        self.set_input_embeddings(operations.Embedding(*size, dtype=dtype, device=device))


class TextEncoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            max_length=TEXT_ENCODER["max_position_embeddings"],
            textmodel_json_config=dict(TEXT_ENCODER),
            model_class=TextModel,
            special_tokens={"start": TOKENS["<start>"], "end": TOKENS["<end>"], "pad": TOKENS["<end>"]},
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class MiniatureTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=Tokenizer)


class MiniatureClip(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=TextEncoder)  # type: ignore[arg-type]


class MiniatureLatents(comfy.latent_formats.SD15):
    """Stable Diffusion 1.5's scale with the miniature's colours in previews; demo/preview_colours.py fits them."""

    def __init__(self):
        super().__init__()
        self.latent_rgb_factors, self.latent_rgb_factors_bias = COLOURS["factors"], COLOURS["bias"]
        self.taesd_decoder_name = None  # the small decoder of Stable Diffusion's latents would show other colours


class Miniature(comfy.supported_models.SD15):
    latent_format = MiniatureLatents
    unet_config = {**comfy.supported_models.SD15.unet_config, "context_dim": 64, "model_channels": 64}
    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}

    def clip_target(self, state_dict=None):
        return comfy.supported_models_base.ClipTarget(MiniatureTokenizer, MiniatureClip)


comfy.supported_models.models.append(Miniature)
