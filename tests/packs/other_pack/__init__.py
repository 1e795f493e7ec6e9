"""A pack as others write them, to stand beside ours: it changes sampling through each of ComfyUI's extension points.

It logs a line for each call, so that a test can count them.
"""

import logging
import os

import comfy.context_windows
import comfy.ldm.modules.attention
import folder_paths
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, SpatialTransformer
from comfy.patcher_extension import WrappersMP

# The same folder as ours, with a place and a kind of file of its own.
folder_paths.add_model_folder_path("animatediff_models", os.path.join(folder_paths.models_dir, "other_motion"))
folder_paths.folder_names_and_paths["animatediff_models"][1].add(".motion")


def log_call(where):
    logging.info(f"Other pack: {where}")


def add_wrapper(where, change_noise=False):
    """A wrapper that scales what comes out, or the noise that goes in."""

    def patch(model, gain):
        def wrapper(executor, *args, **kwargs):
            log_call(where)
            if change_noise:
                return executor(args[0] * gain, *args[1:], **kwargs)
            out = executor(*args, **kwargs)
            return [each * gain for each in out] if isinstance(out, list) else out * gain

        model.add_wrapper_with_key(where, "other_pack", wrapper)

    return patch


def patch_layers(model, gain):
    def transformer(layer, x, emb, context, options, *args):
        log_call("timestep_embed")
        x = layer(x, context, options)
        options["transformer_index"] += 1
        return x * gain

    def res_block(layer, x, emb, *args):
        log_call("timestep_embed")
        return layer(x, emb) * gain

    model.set_model_forward_timestep_embed_patch((SpatialTransformer, transformer))
    model.set_model_forward_timestep_embed_patch((ResBlock, res_block))


def patch_self_attention(model, gain):
    def patch(q, k, v, options):
        log_call("attn1_patch")
        return q, k, v * gain

    model.set_model_attn1_patch(patch)


def replace_cross_attention(model, gain):
    def attention(q, k, v, options):
        log_call("attn2_replace")
        heads, precision = options["n_heads"], options["attn_precision"]
        return comfy.ldm.modules.attention.optimized_attention(q, k, v * gain, heads=heads, attn_precision=precision)

    model.set_model_attn2_replace(attention, "input", 1)


def replace_guidance(model, gain):
    def guidance(args):
        log_call("sampler_cfg_function")
        return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"] * gain

    model.set_model_sampler_cfg_function(guidance)


def replace_model_sampling(model, gain):
    class ScaledSampling(type(model.get_model_object("model_sampling"))):
        def calculate_denoised(self, sigma, model_output, model_input):
            log_call("model_sampling")
            return super().calculate_denoised(sigma, model_output, model_input) * gain

    model.add_object_patch("model_sampling", ScaledSampling(model.model.model_config))


def wrap_unet(model, gain):
    def wrapper(apply_model, call):
        log_call("unet_function_wrapper")
        return apply_model(call["input"], call["timestep"], **call["c"]) * gain

    model.set_model_unet_function_wrapper(wrapper)


def in_tiles(at_once):
    """Left and right half of the pictures, one after the other or in one batch."""

    def patch(model, gain):
        def wrapper(apply_model, call):
            log_call("tiles")
            tiles, t, c = call["input"].chunk(2, dim=-1), call["timestep"], call["c"]
            if at_once:
                c = {**c, "c_crossattn": c["c_crossattn"].repeat(2, 1, 1)}
                return torch.cat(apply_model(torch.cat(tiles), t.repeat(2), **c).chunk(2), dim=-1) * gain
            return torch.cat([apply_model(tile, t, **c) for tile in tiles], dim=-1) * gain

        model.set_model_unet_function_wrapper(wrapper)

    return patch


def divide_batch(model, gain):
    """One half of the batch after the other, of which the model is not told."""

    def wrapper(apply_model, call):
        log_call("divide_batch")
        halves = [each.chunk(2) for each in (call["input"], call["timestep"], call["c"]["c_crossattn"])]
        outs = [apply_model(x, t, **{**call["c"], "c_crossattn": c}) for x, t, c in zip(*halves, strict=True)]
        return torch.cat(outs) * gain

    model.set_model_unet_function_wrapper(wrapper)


EFFECTS = {
    "outer_sample": add_wrapper(WrappersMP.OUTER_SAMPLE, change_noise=True),
    "sampler_sample": add_wrapper(WrappersMP.SAMPLER_SAMPLE),
    "predict_noise": add_wrapper(WrappersMP.PREDICT_NOISE),
    "calc_cond_batch": add_wrapper(WrappersMP.CALC_COND_BATCH),
    "apply_model": add_wrapper(WrappersMP.APPLY_MODEL),
    "diffusion_model": add_wrapper(WrappersMP.DIFFUSION_MODEL),
    "timestep_embed": patch_layers,
    "attn1_patch": patch_self_attention,
    "attn2_replace": replace_cross_attention,
    "sampler_cfg_function": replace_guidance,
    "model_sampling": replace_model_sampling,
    "unet_function_wrapper": wrap_unet,
    "tile_by_tile": in_tiles(at_once=False),
    "tiles_at_once": in_tiles(at_once=True),
    "divide_batch": divide_batch,
}


class Effect:
    CATEGORY, RETURN_TYPES, FUNCTION = "other", ("MODEL",), "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "where": (list(EFFECTS),), "strength": ("FLOAT", {"default": 1.0})}}

    def apply(self, model, where, strength):
        model = model.clone()
        EFFECTS[where](model, 1.0 + 0.1 * strength)
        return (model,)


class OtherHandler(comfy.context_windows.IndexListContextHandler):
    def execute(self, *args, **kwargs):
        log_call("context_handler")
        return super().execute(*args, **kwargs)


class Windows:
    CATEGORY, RETURN_TYPES, FUNCTION = "other", ("MODEL",), "apply"

    @classmethod
    def INPUT_TYPES(cls):
        numbers = {"length": ("INT", {"default": 4}), "overlap": ("INT", {"default": 0})}
        return {"required": {"model": ("MODEL",), **numbers}}

    def apply(self, model, length, overlap):
        model = model.clone()
        schedule = comfy.context_windows.get_matching_context_schedule("standard_static")
        fuse = comfy.context_windows.get_matching_fuse_method("pyramid")
        model.model_options["context_handler"] = OtherHandler(schedule, fuse, length, overlap, dim=0)
        return (model,)


NODE_CLASS_MAPPINGS = {"Other_Effect": Effect, "Other_Windows": Windows}
