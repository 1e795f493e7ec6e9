"""The drawn data, and the measures that read it back."""

from __future__ import annotations

import pytest
import torch

from animatediff_native.demo import evaluate, metrics, shapes

FRAMES = 16


def one_of_each() -> shapes.Scene:
    scene = shapes.random_scene(30, torch.Generator().manual_seed(3))
    everything = torch.cartesian_prod(torch.arange(len(shapes.SHAPES)), torch.arange(len(shapes.COLOURS)))
    return shapes.Scene(everything[:, 0], everything[:, 1], scene.centre, scene.radius, scene.tint)


def paths(n: int) -> list[list[tuple[float, float]]]:
    clips = shapes.draw(shapes.random_clip(n, FRAMES, torch.Generator().manual_seed(4)))
    frames = [metrics.read_frame(picture) for picture in clips]
    return [[frame.centroid for frame in frames[i : i + FRAMES] if frame] for i in range(0, len(frames), FRAMES)]


@pytest.mark.parametrize("look", shapes.LOOKS)
def test_metrics_read_what_was_drawn(look):
    scene = one_of_each()
    frames = [metrics.read_frame(picture) for picture in shapes.draw(scene, look)]
    captions = [f"a {frame.colour} {frame.shape}" if frame else "nothing" for frame in frames]
    assert captions == shapes.captions(scene)


def test_nothing_is_read_from_an_empty_picture():
    assert metrics.read_frame(torch.full((3, shapes.SIZE, shapes.SIZE), 0.8)) is None


def test_clips_move_steadily_and_shuffled_frames_do_not():
    for path in paths(8):
        assert len(path) == FRAMES
        order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(0)).tolist()
        assert 1.5 < metrics.displacement(path) < 4
        assert metrics.jerk(path) < 2.5
        assert metrics.jerk([path[i] for i in order]) > 10 * metrics.jerk(path)


def test_a_look_is_nearest_to_its_own_stills():
    scene = one_of_each()
    paper, neon = (shapes.draw(scene, look) for look in shapes.LOOKS)
    stills = evaluate.centred_stills(paper[1:])
    assert metrics.look(paper[0], stills) > 0.93
    assert metrics.look(neon[0], stills) < 0.7
