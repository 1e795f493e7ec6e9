"""Touches comfy. A SparseCtrl model as one of ComfyUI's ControlNets, which Apply ControlNet takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import comfy.controlnet
import comfy.latent_formats
import comfy.model_management
import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion_models.loader import convert_weights
from ..motion_models.sparse_ctrl import SparseControlNet, load_sparse_ctrl
from ..motion_models.unet import channels_of_levels, unet_slots
from .calls import ATTENTION_WINDOWS, CallFrames
from .keyframes import Keyframes, keyframes_of_hint
from .keyframes_in_windows import NEAREST, keyframes_in_window
from .progress import show_keyframes
from .timeline import Position


@dataclass(frozen=True)
class SparseCtrlSettings:
    """Settings with which a SparseCtrl model is loaded."""

    strength: float = 1.0
    """Scales what its own motion modules add to its features."""
    motion_scale: float = 1.0
    """Multiplies the keys of their attention."""
    far_keyframes: str = NEAREST
    """What a context window without a keyframe sees; see `keyframes_in_window`."""
    positions: tuple[Position, ...] = ()
    """Of pictures that come without their frames; none at all spreads those evenly."""


def load_sparse_control(path: str, settings: SparseCtrlSettings = SparseCtrlSettings()) -> SparseControl:
    """Load a SparseCtrl file. ValueError, one sentence for the user, if it holds something else."""
    network, device = load_sparse_ctrl(path), comfy.model_management.get_torch_device()
    cast_to = comfy.model_management.unet_manual_cast(network.dtype, device)
    control = SparseControl(network, settings, load_device=device, manual_cast_dtype=cast_to)
    patcher = control.control_model_wrapped
    if not patcher.is_dynamic():
        convert_weights(network, patcher.offload_device, path)
    return control


class SparseControl(comfy.controlnet.ControlNet):
    """A ControlNet that sees keyframes in the context of the clip.

    ComfyUI's own hint, which has a picture for every frame, is made anew for each call.
    """

    control_model: SparseControlNet

    def __init__(
        self,
        network: SparseControlNet | None,
        settings: SparseCtrlSettings,
        load_device: torch.device | None,
        manual_cast_dtype: torch.dtype | None,
    ) -> None:
        super().__init__(network, load_device=load_device, manual_cast_dtype=manual_cast_dtype)
        self.settings = settings
        self.keyframes: Keyframes | None = None
        self.pictures: Tensor | None = None
        """The keyframes as the network sees them, (n, c + 1, h, w), since this run's first call."""
        if network is not None:
            self.compression_ratio = 1 if network.config.takes_latents else 8

    def set_cond_hint(
        self, cond_hint: Tensor, strength=1.0, timestep_percent_range=(0.0, 1.0), vae=None, extra_concat=()
    ) -> SparseControl:
        """Take keyframes, (n, c, h, w), as Apply ControlNet hands them on. ValueError if a VAE is missing."""
        keyframes = keyframes_of_hint(cond_hint, vae)
        self.keyframes = replace(keyframes, positions=keyframes.positions or self.settings.positions)
        if self.control_model.config.takes_latents and self.keyframes.vae is None:
            raise ValueError(
                f"{self.control_model.name} sees pictures as latents: connect the checkpoint's VAE to Keyframe Images "
                "or Apply ControlNet."
            )
        super().set_cond_hint(None, strength, timestep_percent_range)
        return self

    def pre_run(self, model: Any, percent_to_timestep_function) -> None:
        check_base(self.control_model, model)
        super().pre_run(model, percent_to_timestep_function)

    def get_control(self, x_noisy: Tensor, t, cond, batched_number: int, transformer_options) -> Any:
        """Return what to add to the UNet's features for x_noisy, (b f) c h w, with what ControlNets before this add."""
        call = CallFrames.of_control(len(x_noisy) // batched_number, transformer_options)
        windows = None
        if call.length == call.clip and ATTENTION_WINDOWS in transformer_options:
            windows = transformer_options[ATTENTION_WINDOWS](x_noisy.device)
        limit, frames = self.control_model.config.motion.pe_length, windows.length if windows else call.length
        if frames > limit:
            raise ValueError(
                f"{frames} frames at once are more than the {limit} that {self.control_model.name} was made for: "
                f"set the context length of Sliding Context to {limit} or less."
            )
        hint = self.hint(x_noisy, call)
        self.cond_hint = hint.repeat(len(x_noisy) // len(hint), 1, 1, 1)
        amounts = (self.settings.strength, self.settings.motion_scale)
        self.extra_args = {"frames": call.length, "amounts": amounts, "windows": windows}
        return super().get_control(x_noisy, t, cond, batched_number, transformer_options)

    def hint(self, x: Tensor, call: CallFrames) -> Tensor:
        """Return pictures and mask for the frames of a call, (f, c + 1, h, w); zeros where there is no keyframe."""
        assert self.keyframes is not None
        frames, keyframes = call.indices or range(call.clip), self.keyframes.frames_of(call.clip)
        size = (x.shape[-2] * self.compression_ratio, x.shape[-1] * self.compression_ratio)
        if self.pictures is None or self.pictures.shape[-2:] != size:
            self.pictures = self.prepare(*size)
            show_keyframes(self.keyframes, call.clip)
        pictures = self.pictures.to(x.device, self.manual_cast_dtype or self.control_model.dtype)
        hint = pictures.new_zeros(len(frames), *pictures.shape[1:])
        loop_of = call.clip if call.loop else 0
        for start in range(0, len(frames), call.length):
            window = frames[start : start + call.length]
            places = keyframes_in_window(window, keyframes, far=self.settings.far_keyframes, loop_of=loop_of)
            for place, keyframe in places.items():
                hint[start + place] = pictures[keyframe]
        return hint

    def prepare(self, height: int, width: int) -> Tensor:
        """Return the keyframes as the network sees them, with a mask of ones behind, (n, c + 1, height, width)."""
        assert self.keyframes is not None
        if self.control_model.config.takes_latents:
            loaded = comfy.model_management.loaded_models(only_currently_used=True)
            pictures = comfy.latent_formats.SD15().process_in(self.keyframes.latents(height, width))
            # The VAE may have taken their place. A model that nobody needs any more is None.
            comfy.model_management.load_models_gpu([model for model in loaded if model is not None])
        else:
            pictures = self.keyframes.resized(height, width).movedim(-1, 1)
        return F.pad(pictures, (0, 0, 0, 0, 0, 1), value=1.0)

    def copy(self) -> SparseControl:
        devices = {"load_device": self.load_device, "manual_cast_dtype": self.manual_cast_dtype}
        copied = SparseControl(None, self.settings, **devices)
        copied.control_model, copied.control_model_wrapped = self.control_model, self.control_model_wrapped
        copied.keyframes = self.keyframes
        self.copy_to(copied)
        return copied

    def cleanup(self) -> None:
        self.pictures = None
        self.extra_args = {}
        super().cleanup()


def check_base(network: SparseControlNet, model: Any) -> None:
    """Raise ValueError unless a model has the channels that the network was made for, those of SD1.5."""
    expected = network.config.motion.channels_by_name()
    channels = {slot.name: slot.channels for slot in unet_slots(model.diffusion_model)}
    ways_down = {name: c for name, c in channels.items() if name.startswith("down_blocks.")}
    text_features = model.model_config.unet_config.get("context_dim")
    if ways_down != expected or text_features != network.config.text_features:
        made_for = f"{channels_of_levels(expected)} channels and {network.config.text_features} text features"
        raise ValueError(
            f"{network.name} is a SparseCtrl model for Stable Diffusion 1.5, a UNet with {made_for}, but this "
            f"{type(model).__name__} model has {channels_of_levels(channels)} and {text_features}: use a checkpoint of "
            "the base it was made for."
        )
