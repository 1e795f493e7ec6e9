"""ComfyUI's own nodes and the pack's, run as the server runs them, on the small models of comfy_support."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.ops
import comfy.sample
import comfy_extras.nodes_custom_sampler as sampler_nodes
import torch
from comfy_support import CONTEXT, CPU, make_model, randomise, unet_config
from torch import Tensor

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions

core_nodes: Any = importlib.import_module("nodes")  # ComfyUI's nodes.py; type checkers would see the pack's own folder

LEVELS, CHANNELS = 2, (32, 64)  # the second level has no attention, as SD1.5's last
FRAMES, SIZE = 6, 8


def run(node: Any, **inputs: Any) -> Any:
    """Run a node class, classic or V3, with defaults for required inputs; all outputs, or the only one."""
    if hasattr(node, "define_schema"):
        outputs = node_output(node, **inputs).result
    else:
        outputs = getattr(node(), node.FUNCTION)(**inputs)
    return outputs[0] if len(outputs) == 1 else outputs


def node_output(node: Any, **inputs: Any) -> Any:
    """Run a V3 node class with defaults for required inputs. What it returns may hold nodes that take its place."""
    widgets = [
        getattr(entry, "input_override", None) or entry for entry in node.GET_SCHEMA().inputs if not entry.optional
    ]
    defaults = {entry.id: getattr(entry, "default", None) for entry in widgets}
    return node.EXECUTE_NORMALIZED(**{k: v for k, v in defaults.items() if v is not None} | inputs)


def inputs_of(node_id: str) -> tuple[dict[str, tuple[Any, ...]], set[str]]:
    """Types and options of a node's inputs, and which of them it needs."""
    kinds = core_nodes.NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES()
    required = kinds.get("required", {})
    return required | kinds.get("optional", {}), set(required)


def small_model(seed: int = 0) -> Any:
    """Predicts noise of about unit variance, so that what changes the prediction shows in what is sampled."""
    model = make_model(LEVELS, seed)
    model.model.diffusion_model.out[2].weight.data *= 10
    return model


def prompt(seed: int, tokens: int = 77) -> list:
    return [[torch.randn(1, tokens, CONTEXT, generator=torch.Generator().manual_seed(seed)), {}]]


POSITIVE, NEGATIVE = prompt(5), prompt(6)


def empty_latent(frames: int = FRAMES) -> dict[str, Tensor]:
    return {"samples": torch.zeros(frames, 4, SIZE, SIZE)}


def noise_of(frames: int = FRAMES) -> Tensor:
    return torch.randn(frames, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))


def ksampler(model: Any, positive: list = POSITIVE, negative: list = NEGATIVE, **options: Any) -> Tensor:
    """What the KSampler node gives, (frames, 4, SIZE, SIZE)."""
    frames = options.pop("frames", FRAMES)
    settings = {"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"} | options
    sampled = run(
        core_nodes.KSampler,
        model=model,
        positive=positive,
        negative=negative,
        latent_image=empty_latent(frames),
        **settings,
    )
    return sampled["samples"]


def windowed(model: Any, length: int = 4, overlap: int = 2, **options: Any) -> Any:
    """Without FreeNoise, so that windows can be compared with clips that begin with the same noise."""
    return apply_sliding_context(model, ContextOptions(length, overlap, **{"free_noise": False, **options}))


def levels(model: Any, steps: int) -> Tensor:
    """The noise levels of the normal schedule."""
    return run(sampler_nodes.BasicScheduler, model=model, scheduler="normal", steps=steps, denoise=1.0)


def custom(model: Any, sampler: Any, sigmas: Tensor, add_noise: bool = True, **prompts: list) -> Tensor:
    """What SamplerCustom gives, (FRAMES, 4, SIZE, SIZE)."""
    torch.manual_seed(0)
    sampled, _ = run(
        sampler_nodes.SamplerCustom,
        model=model,
        add_noise=add_noise,
        noise_seed=3,
        cfg=2.0,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=empty_latent(),
        **{"positive": POSITIVE, "negative": NEGATIVE} | prompts,
    )
    return sampled["samples"]


def predict(model: Any, positive: list, noise: Tensor | None = None) -> Tensor:
    """The picture that the model sees in pure noise, for one prompt and without guidance: a single step of Euler,
    after which nothing but the prediction is left. A step with guidance is linear in such predictions."""
    noise = noise_of() if noise is None else noise
    latent = torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, 1, 1.0, "euler", "normal", positive, positive, latent, seed=3)


def guided(
    model: Any, positive: list, negative: list, cfg: float, noise: Tensor | None = None, steps: int = 1
) -> Tensor:
    """The same step, or several, with both prompts, however ComfyUI batches them."""
    noise = noise_of() if noise is None else noise
    latent = torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, steps, cfg, "euler", "normal", positive, negative, latent, seed=3)


def error(a: Tensor, b: Tensor) -> float:
    """Relative L2 distance."""
    return float((a - b).norm() / b.norm())


def interrupt() -> None:
    """What the page's button does: the next operation of a network raises."""
    comfy.model_management.interrupt_current_processing()


def fail() -> None:
    raise RuntimeError("another node's patch failed")


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("simulated")


FAILURES = {
    "interrupt": (interrupt, comfy.model_management.InterruptProcessingException),
    "exception": (fail, RuntimeError),
    "out of memory": (run_out_of_memory, torch.OutOfMemoryError),
}


def with_recorded_calls(model: Any) -> tuple[Any, list[int]]:
    """A clone of the model, and a list that grows by the number of prompts in each UNet call."""
    calls: list[int] = []

    def record(apply_model, call):
        calls.append(len(call["cond_or_uncond"]))
        return apply_model(call["input"], call["timestep"], **call["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(record)
    return model, calls


def make_controlnet(kind: type[comfy.controlnet.ControlNet] = comfy.controlnet.ControlNet, levels: int = LEVELS) -> Any:
    """A ControlNet for the small model, with random weights."""
    config = unet_config(LEVELS)
    operations = comfy.ops.disable_weight_init
    net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32, operations=operations).eval()
    randomise(net, seed=4)
    return kind(net, load_device=CPU)


class OneHintPerRow(comfy.controlnet.ControlNet):
    """An oracle: runs the network once for each row of the batch, with the hint of that row's frame."""

    hints: Tensor

    def set_cond_hint(self, cond_hint, *args, **kwargs):
        self.hints = cond_hint
        return super().set_cond_hint(cond_hint[:1], *args, **kwargs)

    def copy(self):
        copied = OneHintPerRow(self.control_model, load_device=self.load_device)
        self.copy_to(copied)
        return copied

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        frames = x_noisy.shape[0] // batched_number
        window = transformer_options.get("context_window")
        indices = window.index_list if window is not None else range(frames)
        rows = []
        for row in range(x_noisy.shape[0]):
            frame = indices[row % frames]
            self.cond_hint_original, self.cond_hint = self.hints[frame : frame + 1], None
            one = {"c_crossattn": cond["c_crossattn"][row : row + 1]}
            rows.append(super().get_control(x_noisy[row : row + 1], t[row : row + 1], one, 1, transformer_options))
        return {
            place: [
                None if parts[0] is None else torch.cat(parts) for parts in zip(*(r[place] for r in rows), strict=True)
            ]
            for place in rows[0]
        }


def accepts(node: Any, name: str) -> bool:
    """Whether this ComfyUI's version of a V3 node has an input of that name."""
    return name in inspect.signature(node.execute).parameters
