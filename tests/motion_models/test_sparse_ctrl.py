"""SparseCtrl files: accepted in every layout, refused in one sentence, and computed as diffusers does."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from comfy_support import CHANNELS, CONTEXT
from diffusers_oracle import relative_error
from sparse_ctrl_support import (
    PICTURE,
    load_sparse,
    oracle_features,
    original_layout,
    sparse_oracle,
    without_positions,
)

from animatediff_native.motion_models.motion_model import MotionModelConfig
from animatediff_native.motion_models.sparse_ctrl import (
    SparseCtrlConfig,
    load_sparse_ctrl,
    own_keys_and_shapes,
    read_sparse_ctrl_file,
)

FRAMES = 6
TIMESTEP = torch.tensor(500)


@pytest.fixture(scope="module")
def context() -> torch.Tensor:
    return torch.randn(1, 77, CONTEXT, generator=torch.Generator().manual_seed(5)).expand(FRAMES, -1, -1)


def hint_of(kind: str, size: int = 8) -> torch.Tensor:
    """A picture at the first and at the fourth frame."""
    size = size if kind == "rgb" else 8 * size
    hint = torch.zeros(FRAMES, PICTURE[kind] + 1, size, size)
    hint[[0, 3], :-1] = torch.rand(2, PICTURE[kind], size, size, generator=torch.Generator().manual_seed(2))
    hint[[0, 3], -1] = 1.0
    return hint


@pytest.mark.parametrize("kind", PICTURE)
def test_features_equal_diffusers(kind, context, tmp_path):
    network, hint = load_sparse(tmp_path, kind).control_model, hint_of(kind)
    noisy = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    features = network(noisy, hint, TIMESTEP.expand(FRAMES), context, frames=FRAMES)
    expected = oracle_features(sparse_oracle(kind), noisy, hint, TIMESTEP, context)
    assert len(features["output"]) == 12 and len(features["middle"]) == 1
    for ours, theirs in zip([*features["output"], *features["middle"]], expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5
    blank = network(noisy, torch.zeros_like(hint), TIMESTEP.expand(FRAMES), context, frames=6)
    assert relative_error(blank["middle"][0][5], expected[-1][5]) > 1e-3, "a keyframe is felt at other frames"


@pytest.mark.parametrize(("kind", "keys", "millions"), [("rgb", 486, 497.0), ("scribble", 500, 498.0)])
def test_the_published_files_have_as_many_weights(kind, keys, millions):
    down = tuple((channels,) * 2 for channels in (320, 640, 1280, 1280))
    motion = MotionModelConfig(down=down, mid=(), up=(), attentions=1)
    _, shapes = own_keys_and_shapes(SparseCtrlConfig(motion, text_features=768, takes_latents=kind == "rgb"))
    assert len(shapes) == keys
    assert round(sum(shape.numel() for shape in shapes.values()) / 1e6, 1) == millions


@pytest.fixture(scope="module")
def weights() -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each kind of file in the original layout, in two levels."""
    return {kind: original_layout(sparse_oracle(kind, CHANNELS[:2]).state_dict()) for kind in PICTURE}


LAYOUTS = {
    "original": lambda sd: sd,
    "wrapped": lambda sd: {"controlnet": sd, "epoch": 3},
    "trainer": lambda sd: {"state_dict": {f"module.{key}": t for key, t in sd.items()}},
    "config entry": lambda sd: {**sd, "animatediff_config": {"set_noisy_sample_input_to_zero": True}},
    "without positions": without_positions,
    "half": lambda sd: {key: t.half() for key, t in sd.items()},
    "diffusers": lambda sd: diffusers_layout(sd),
    "diffusers without positions": lambda sd: without_positions(diffusers_layout(sd)),
}


def diffusers_layout(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of which those in the original layout were made."""
    kind = "rgb" if "controlnet_cond_embedding.weight" in state_dict else "scribble"
    return sparse_oracle(kind, CHANNELS[:2]).state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", PICTURE)
def test_every_layout_gives_the_same_weights(weights, kind, layout):
    config, expected = read_sparse_ctrl_file(weights[kind], "a.ckpt")
    assert config.takes_latents == (kind == "rgb")
    assert config.motion.attentions == 1 and not config.motion.up and config.motion.pe_length == 32
    other_config, state_dict = read_sparse_ctrl_file(LAYOUTS[layout](weights[kind]), "a.ckpt")
    assert other_config == config and state_dict.keys() == expected.keys()
    for key, tensor in state_dict.items():
        assert torch.equal(tensor, expected[key].to(tensor.dtype)) or key.endswith(".pe")
        assert not key.endswith(".pe") or torch.allclose(tensor, expected[key], atol=1e-3 if layout == "half" else 1e-6)
    if layout == "half":
        assert {tensor.dtype for key, tensor in state_dict.items() if not key.endswith(".pe")} == {torch.float16}


@pytest.mark.parametrize("extension", ["ckpt", "safetensors"])
def test_a_half_precision_file_loads_as_it_is_published(weights, extension, tmp_path):
    """The .ckpt with the authors' configuration, and the repacked .safetensors."""
    half, path = {key: t.half() for key, t in weights["rgb"].items()}, tmp_path / f"half.{extension}"
    if extension == "ckpt":
        torch.save({"controlnet": half, "animatediff_config": {"set_noisy_sample_input_to_zero": True}}, path)
    else:
        safetensors.torch.save_file(half, path)
    network = load_sparse_ctrl(str(path))
    assert network.name == path.name and network.config.takes_latents
    for key, tensor in read_sparse_ctrl_file(half, "a.ckpt")[1].items():
        assert torch.equal(network.state_dict()[key].float(), tensor.float())


TO_Q = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight"
PROJ_IN = "down_blocks.1.motion_modules.1.temporal_transformer.proj_in.weight"
TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
EMBEDDING = "controlnet_cond_embedding.weight"


def changed(**tensors: torch.Tensor | None):
    """Return a function that replaces weights of a file, or leaves them out."""

    def change(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        replaced = {**state_dict, **{key: t for key, t in tensors.items() if t is not None}}
        return {key: t for key, t in replaced.items() if tensors.get(key, t) is not None}

    return change


# What the sentence says of a file -> the file, made from a whole one.
HOSTILE = {
    f"incomplete, because {TO_Q} is missing": changed(**{TO_Q: None}),
    f"incomplete, because {PROJ_IN} is missing": changed(**{PROJ_IN: None}),
    f"incomplete, because {TO_K} is missing": changed(**{TO_K: None}),
    "incomplete, because controlnet_mid_block.bias is missing": changed(**{"controlnet_mid_block.bias": None}),
    "incomplete, because mid_block.resnets.1.conv2.weight is missing": changed(
        **{"mid_block.resnets.1.conv2.weight": None}
    ),
    f"damaged, because {TO_K} has the shape [3]": changed(**{TO_K: torch.zeros(3)}),
    f"damaged, because {EMBEDDING} has the shape [32, 4, 3, 3]": changed(**{EMBEDDING: torch.zeros(32, 4, 3, 3)}),
    f"damaged, because {PROJ_IN} has the shape [33, 33]": changed(**{PROJ_IN: torch.zeros(33, 33)}),
    "damaged, because conv_in.bias holds NaN": changed(**{"conv_in.bias": torch.full((32,), float("nan"))}),
    "damaged, because conv_in.bias holds int64 values": changed(**{"conv_in.bias": torch.ones(32, dtype=torch.int64)}),
    "unknown kind, with the key up_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": changed(
        **{"up_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": torch.zeros(64, 64)}
    ),
    "unknown kind, with the key down_blocks.0.extra": changed(**{"down_blocks.0.extra": torch.zeros(3)}),
    "SparseCtrl model for SDXL": changed(**{PROJ_IN.replace("blocks.1", "blocks.2"): torch.zeros(64, 64)}),
    "a ControlNet, not a SparseCtrl model: choose a SparseCtrl model, such as v3_sd15_sparsectrl_rgb.ckpt; for this "
    "file use Load ControlNet Model": lambda sd: {key: t for key, t in sd.items() if "motion" not in key},
    "a motion module, not a SparseCtrl model: choose a SparseCtrl model, such as v3_sd15_sparsectrl_rgb.ckpt; for this "
    "file use Load Motion Module": lambda sd: {key: t for key, t in sd.items() if "motion" in key},
    "not a SparseCtrl model: choose": lambda _: torch.zeros(3),
}


@pytest.mark.parametrize("sentence", HOSTILE)
def test_another_file_is_refused_in_one_sentence(weights, sentence):
    with pytest.raises(ValueError) as error:
        read_sparse_ctrl_file(HOSTILE[sentence](weights["rgb"]), "a.ckpt")
    message = str(error.value)
    assert message.startswith("a.ckpt is ") and sentence in message
    assert "\n" not in message and message.endswith(".")
