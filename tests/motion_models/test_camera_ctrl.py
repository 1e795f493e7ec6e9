"""CameraCtrl: its encoder and its layers in temporal attention, against the paper's formulas, and its files."""

from __future__ import annotations

from typing import Any

import diffusers_oracle as oracle
import pytest
import safetensors.torch
import torch
from camera_support import PATH, camera_weights, encoded, follow, merge_key, published
from comfy_support import CHANNELS, animate, conditioning, load_motion, make_model, motion_config, motion_state_dict
from torch import Tensor

from animatediff_native.motion_models.camera_ctrl import CameraCtrl, load_camera_ctrl, read_camera_ctrl_file
from animatediff_native.motion_models.formats import read_motion_file
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.sampling.camera_path import CameraPath
from animatediff_native.sampling.cameras import plucker_embedding

FRAMES = oracle.FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("animatediff_models")


@pytest.mark.parametrize(("size", "sizes"), [((8, 8), [(8, 8), (4, 4), (2, 2), (1, 1)]),
                                             ((5, 7), [(5, 7), (3, 4), (2, 2), (1, 1)])])  # fmt: skip
def test_the_encoder_is_that_of_the_paper_in_odd_sizes_too(size, sizes):
    weights = camera_weights()
    config, state_dict = read_camera_ctrl_file(weights, "a.ckpt")
    network = CameraCtrl(config)
    network.load_state_dict(state_dict)
    rays = plucker_embedding(CameraPath.parse(PATH).cameras(5), 8 * size[0], 8 * size[1])
    features = network(rays)
    assert [tuple(x.shape) for x in features] == [(5, c, *s) for c, s in zip(CHANNELS, sizes, strict=True)]
    for ours, expected in zip(features, encoded(weights, rays), strict=True):
        assert oracle.relative_error(ours, expected) < 1e-5


def seen_by_attention(net: Any, weights: dict[str, Tensor], features: list[Tensor], strength: float) -> None:
    """Merge the camera's features before the first attention of the oracle's modules, but for the middle block's."""

    def merge(layer: str, level: Tensor):
        seen = level.permute(2, 3, 0, 1).flatten(0, 1)

        def hook(_attention, args, kwargs):
            x = args[0]
            merged = torch.nn.functional.linear(x + seen, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
            return (x + strength * merged, *args[1:]), kwargs

        return hook

    for direction, levels in (("down", features), ("up", features[::-1])):
        for i, (block, level) in enumerate(zip(getattr(net, f"{direction}_blocks"), levels, strict=True)):
            for j, module in enumerate(block.motion_modules):
                hook = merge(merge_key(f"{direction}_blocks.{i}.motion_modules.{j}"), level)
                module.transformer_blocks[0].attn1.register_forward_pre_hook(hook, with_kwargs=True)


@pytest.mark.parametrize(("family", "strength"), [("v3", 1.0), ("v2", 0.5)])
def test_temporal_attention_sees_the_camera_as_in_the_paper(folder, family, strength):
    plain, motion = make_model(), load_motion(folder, family)
    animated = animate(plain, follow(folder, motion, strength=strength))
    found, x, timestep = oracle.noise_found(animated, oracle.CFG)
    rays = plucker_embedding(CameraPath.parse(PATH).cameras(FRAMES), 64, 64)
    net = oracle.make_oracle(plain.model.diffusion_model, motion.patcher.model.state_dict())
    positive, negative = (oracle.predict(net, x, timestep, conditioning(seed)) for seed in (5, 6))
    without = negative + (positive - negative) * oracle.CFG
    seen_by_attention(net, camera_weights(), encoded(camera_weights(), rays), strength)
    positive, negative = (oracle.predict(net, x, timestep, conditioning(seed)) for seed in (5, 6))
    expected = negative + (positive - negative) * oracle.CFG
    assert oracle.relative_error(found, expected) < 1e-5
    assert oracle.relative_error(without, expected) > 0.01


# Files

WRAPPED = {
    "as the authors publish it": published,
    "of several GPUs": lambda w: {
        name: {f"module.{key}": t for key, t in part.items()} for name, part in published(w).items()
    },
    "repacked flat": lambda w: w,
    "half": lambda w: {key: t.half() for key, t in w.items()},
    "without positions": lambda w: {key: t for key, t in w.items() if not key.endswith(".pe")},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_every_wrapping_of_the_file_is_read(tmp_path, wrap):
    weights = camera_weights()
    torch.save(WRAPPED[wrap](weights), tmp_path / "CameraCtrl.ckpt")
    patcher = load_camera_ctrl(str(tmp_path / "CameraCtrl.ckpt"))
    network: Any = patcher.model
    assert network.config.channels == CHANNELS and network.config.pe_length == 16
    own = network.state_dict()
    torch.testing.assert_close(
        own["encoder_conv_in.weight"].float(), weights["encoder_conv_in.weight"], atol=1e-3, rtol=0
    )
    merge = own["qkv_merge.up_blocks-3-motion_modules-2.bias"].float()
    key = merge_key("up_blocks.3.motion_modules.2")
    torch.testing.assert_close(merge, weights[f"{key}.bias"], atol=1e-3, rtol=0)
    pe = "encoder_down_attention_blocks.1.1.attention_blocks.0.pos_encoder.pe"
    assert own[pe].dtype == torch.float32
    torch.testing.assert_close(own[pe], weights[pe], atol=1e-3, rtol=0)
    again = patcher.cached_patcher_init[0](*patcher.cached_patcher_init[1])  # as for another GPU
    assert all(torch.equal(t, own[name]) for name, t in again.model.state_dict().items())


REFUSED = {
    "a.ckpt is a motion module, not a CameraCtrl file: choose a CameraCtrl file, such as CameraCtrl.ckpt; for this "
    "file use Load Motion Module.": lambda w: motion_state_dict("v3"),
    "a.ckpt is not a CameraCtrl file: choose a CameraCtrl file": lambda w: {"something": torch.zeros(1)},
    "a.ckpt is incomplete, because encoder_down_conv_blocks.0.1.block1.weight is missing": lambda w: {
        key: t for key, t in w.items() if not key.startswith("encoder_down")
    },
    "a.ckpt is incomplete, because qkv_merge.down_blocks-0-motion_modules-0.weight is missing": lambda w: published(w)[
        "pose_encoder_state_dict"
    ],
    "because encoder_down_conv_blocks.2.1.block1.weight has the shape [5, 128, 3, 3]": lambda w: {
        **w, "encoder_down_conv_blocks.2.1.block1.weight": torch.zeros(5, 128, 3, 3)
    },
    "because encoder_conv_in.bias holds NaN": lambda w: {**w, "encoder_conv_in.bias": torch.full((32,), torch.nan)},
}  # fmt: skip


@pytest.mark.parametrize("sentence", REFUSED)
def test_other_files_are_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError) as error:
        read_camera_ctrl_file(REFUSED[sentence](camera_weights()), "a.ckpt")
    message = str(error.value)
    assert sentence in message and "\n" not in message and message.endswith(".")


def test_the_loader_of_motion_modules_names_the_node_for_it():
    for file in (camera_weights(), published(camera_weights())):
        with pytest.raises(
            ValueError, match=r"a.ckpt is a CameraCtrl file, not a motion module: .* use Load CameraCtrl\."
        ):
            read_motion_file(file, "a.ckpt")


def test_a_module_of_another_base_cannot_follow_a_camera(folder, caplog):
    config = motion_config("v3", CHANNELS[:3])
    safetensors.torch.save_file(motion_state_dict(config=config), folder / "mm_sdxl.safetensors")
    with pytest.raises(ValueError) as error:
        follow(folder, load_motion_model(str(folder / "mm_sdxl.safetensors")))
    assert str(error.value) == (
        "CameraCtrl_pruned.safetensors is a CameraCtrl for Stable Diffusion 1.5, but mm_sdxl.safetensors is for SDXL, "
        "with other blocks: load a motion module such as v3_sd15_mm.ckpt."
    )
    with pytest.raises(ValueError, match=r"follows a camera already: connect only one Load CameraCtrl\."):
        follow(folder, follow(folder, load_motion(folder, "v3")))
    with caplog.at_level("INFO"):
        follow(folder, load_motion(folder, "v3"))
        assert "less closely" not in caplog.text
        follow(folder, load_motion(folder, "v2"))
    assert "v2_1.safetensors, of AnimateDiff v2, follows the camera less closely" in caplog.text
