"""The published models that the example workflows name."""

from .graph import Model

HUGGING_FACE = "https://huggingface.co"
A1111 = f"{HUGGING_FACE}/conrevo/AnimateDiff-A1111/resolve/main"
ANIMATE_LCM = f"{HUGGING_FACE}/wangfuyun/AnimateLCM/resolve/main"
ARCHIVE = f"{HUGGING_FACE}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main"
ORIGINAL = f"{HUGGING_FACE}/guoyww/animatediff/resolve/main"
CONTROLNET = f"{HUGGING_FACE}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main"


def model(directory: str, address: str) -> Model:
    return Model(address.rsplit("/", 1)[1], address, directory)


SD15 = model("checkpoints", f"{ARCHIVE}/v1-5-pruned-emaonly-fp16.safetensors")
SDXL = model(
    "checkpoints", f"{HUGGING_FACE}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"
)
V2 = model("animatediff_models", f"{A1111}/motion_module/mm_sd15_v2.safetensors")
V3 = model("animatediff_models", f"{A1111}/motion_module/mm_sd15_v3.safetensors")
MOTION_SDXL = model("animatediff_models", f"{A1111}/motion_module/mm_sdxl_v10_beta.safetensors")
LCM = model("animatediff_models", f"{ANIMATE_LCM}/AnimateLCM_sd15_t2v.ckpt")
PAN_LEFT = model("animatediff_motion_lora", f"{ORIGINAL}/v2_lora_PanLeft.ckpt")
V3_ADAPTER = model("loras", f"{A1111}/lora/mm_sd15_v3_adapter.safetensors")
LCM_LORA = model("loras", f"{ANIMATE_LCM}/AnimateLCM_sd15_t2v_lora.safetensors")
CANNY = model("controlnet", f"{CONTROLNET}/control_v11p_sd15_canny_fp16.safetensors")
SPARSE_RGB = model("controlnet", f"{ORIGINAL}/v3_sd15_sparsectrl_rgb.ckpt")
SPARSE_SCRIBBLE = model("controlnet", f"{ORIGINAL}/v3_sd15_sparsectrl_scribble.ckpt")
