"""Motion Path as a node."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from node_support import FRAMES, NEGATIVE, POSITIVE, core_nodes, empty_latent, node_output, prompt, run
from PIL import Image

from animatediff_native.sampling.motion_paths import Box, MotionPath

SIZES = {"picture_width": 64, "picture_height": 32}
ACROSS = "0: 25% 50%; -1: 75% 50%"
STILL = MotionPath((Box(0.2, 0.2, 0.4, 0.4),) * 3)


@pytest.fixture(autouse=True)
def previews(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))


def placed(adn: Any, path: str = ACROSS, **inputs: Any) -> Any:
    settings = {"path": path, "width": 0.25, "height": 0.5, "frames": FRAMES} | SIZES
    return run(adn["ADN_MotionPath"], **settings | inputs)


def test_masks_follow_the_path_and_the_node_shows_it(adn, tmp_path):
    settings = {"path": ACROSS, "width": 0.25, "height": 0.5, "frames": 3, **SIZES}
    output = node_output(adn["ADN_MotionPath"], **settings)
    paths, masks = output.result
    expected = torch.zeros(3, 32, 64)
    for mask, left in zip(expected, (8, 24, 40), strict=True):
        mask[8:24, left : left + 16] = 1.0
    assert torch.allclose(masks, expected)
    assert len(paths) == 1
    (shown,) = output.ui.as_dict()["images"]
    with Image.open(tmp_path / Path(shown["filename"])) as picture:
        assert picture.size == (512, 256)


def test_paths_of_several_subjects_stay_apart(adn):
    first, masks = placed(adn)
    both, others = placed(adn, "0: 75% 50%; -1: 25% 50%", motion_paths=first)
    assert both[0] is first[0] and len(both) == 2
    assert torch.allclose(others, masks.flip(0), atol=1e-5)


def test_masks_give_the_path(adn):
    path, masks = placed(adn)
    again, boxes = placed(adn, "not read", masks=masks)
    assert boxes.shape == masks.shape
    assert all(a == pytest.approx(b, abs=1 / 32) for a, b in zip(again[0].boxes, path[0].boxes, strict=True))
    still, _ = placed(adn, masks=masks[:1])
    assert len(still[0].boxes) == FRAMES and len(set(still[0].boxes)) == 1


def test_a_prompt_inside_the_masks_follows_them(adn, animated):
    """With core's Conditioning (Set Mask): each frame changes mostly where its mask is."""
    _, masks = placed(adn, picture_height=64)
    whole = run(core_nodes.KSampler, **sampling(animated, POSITIVE))["samples"]
    subject = run(
        core_nodes.ConditioningSetMask, conditioning=prompt(8), mask=masks, strength=1.0, set_cond_area="default"
    )
    both = run(core_nodes.ConditioningCombine, conditioning_1=POSITIVE, conditioning_2=subject)
    change = (run(core_nodes.KSampler, **sampling(animated, both))["samples"] - whole).abs().mean(1)
    inside = torch.nn.functional.adaptive_avg_pool2d(masks, change.shape[-2:]) > 0.5
    assert change[inside].mean() > 2 * change[~inside].mean()


def sampling(model: Any, positive: list) -> dict[str, Any]:
    prompts = {"positive": positive, "negative": NEGATIVE, "latent_image": empty_latent()}
    return {
        "model": model,
        "seed": 3,
        "steps": 1,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        **prompts,
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"path": "0: somewhere"}, 'Line 1, column 4: "somewhere" is not a place'),
        ({"path": "0: 150% 50%"}, "The path never enters the picture: let it pass"),
        ({"width": math.nan}, "width is nan"),
        ({"frames": 4097}, "frames is 4097, but goes from 1 to 4096"),
        (
            {"frames": 4096, "picture_width": 512, "picture_height": 512},
            "4096 frames of 512 x 512 pixels are too large",
        ),
        ({"masks": torch.zeros(2, 8, 8)}, "The masks are empty"),
        ({"masks": torch.full((2, 8, 8), math.inf)}, "NaN or infinite"),
        ({"masks": torch.ones(2, 8, 8), "motion_paths": (STILL,)}, "This path has 2 frames, but one before it 3"),
    ],
)
def test_mistakes_in_motion_path(adn, changes, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        placed(adn, **changes)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_a_turn_does_nothing_and_it_says_so(adn, caplog):
    caplog.set_level("INFO")
    turned, straight = placed(adn, "0: 50% 50% turn 45")[0], placed(adn, "0: 50% 50%")[0]
    assert turned[0].boxes == straight[0].boxes and "turn does nothing, since boxes stay upright" in caplog.text
