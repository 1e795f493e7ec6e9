"""The order of encoded clips, and which of their frames are shown."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import torch
from training_data_support import counted, decode_text, encode_text, same, take

from animatediff_native.training.data import EncodedClips, MemoryClip


def clip(name: str, frames: int = 40, size: tuple[int, int] = (4, 4)) -> MemoryClip:
    """Latents of which frame i is 2 i everywhere."""
    numbers = torch.arange(frames, dtype=torch.float16).view(-1, 1, 1, 1)
    return MemoryClip((2 * numbers).expand(-1, 4, *size), encode_text(name))


def clips(names: str = "abcdefg", **options) -> list[MemoryClip]:
    return [clip(name, **options) for name in names]


def names(items) -> list[str]:
    return [decode_text(item.prompt) for item in items]


def test_a_training_that_was_stopped_goes_on_with_the_items_it_would_have_seen():
    data, again = (EncodedClips(clips(), frames=5, stride=2, batch=2, seed=3) for _ in range(2))
    assert same(take(data, 40)[17:], take(again, 23, first=17))


def test_processes_see_together_what_one_sees():
    data = EncodedClips(clips(), frames=5, batch=4)
    items = sorted(take(data, 10, 6, 0, 2) + take(data, 10, 6, 1, 2), key=lambda item: item.number)
    assert same(items, take(data, 20, first=6))


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own():
    epochs = [names(take(EncodedClips(clips(), frames=5), 7, first=7 * epoch)) for epoch in range(4)]
    assert all(sorted(epoch) == list("abcdefg") for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_another_seed_is_another_order():
    assert names(take(EncodedClips(clips(), 5, seed=1), 7)) != names(take(EncodedClips(clips(), 5, seed=2), 7))


def mixed_clips() -> list[MemoryClip]:
    return clips("abcde") + clips("vwxyz", size=(2, 8))


def test_processes_see_together_what_one_sees_of_clips_of_several_sizes():
    data = EncodedClips(mixed_clips(), frames=5, batch=3)
    items = sorted(take(data, 9, 6, 0, 2) + take(data, 9, 6, 1, 2), key=lambda item: item.number)
    assert same(items, take(data, 18, first=6))


@pytest.mark.parametrize("process", range(3))
def test_the_items_of_a_call_have_one_size_in_every_process(process):
    items = EncodedClips(mixed_clips(), frames=5, batch=2).stream(12, process, processes=3)
    calls = [{item.latents.shape for item in islice(items, 2)} for _ in range(12)]
    assert all(len(sizes) == 1 for sizes in calls) and len(set.union(*calls)) == 2


def test_clips_of_one_size_are_shown_once_in_an_epoch_whatever_the_batch():
    assert sorted(names(take(EncodedClips(clips(), frames=5, batch=4), 14))) == sorted(2 * "abcdefg")


def test_the_items_of_a_call_have_one_size_and_calls_of_all_sizes_mix():
    mixed = mixed_clips()
    items = take(EncodedClips(mixed, frames=5, batch=3), 12)
    sizes = [{item.latents.shape for item in items[call : call + 3]} for call in range(0, 12, 3)]
    assert all(len(size) == 1 for size in sizes)
    assert Counter(names(items)).most_common()[0][1] == 2 and set(names(items)) == set("abcdevwxyz")
    orders = {tuple(len(take_.latents[0, 0]) for take_ in take(EncodedClips(mixed, 5, 1, 3, s), 12)) for s in range(9)}
    assert len(orders) > 2


def test_a_call_larger_than_the_data_repeats_it():
    assert Counter(names(take(EncodedClips(clips("ab"), frames=5, batch=4), 8))) == {"a": 4, "b": 4}


def test_frames_are_a_stride_apart_from_any_frame_on_that_leaves_room():
    items = [counted(item.latents) for item in take(EncodedClips([clip("a", frames=12)], frames=4, stride=3), 60)]
    assert {tuple(item) for item in items} == {(i, i + 3, i + 6, i + 9) for i in range(3)}


def test_single_frames_come_from_the_whole_clip():
    items = take(EncodedClips([clip("a", frames=5)], frames=1, stride=4), 60)
    assert {tuple(counted(item.latents)) for item in items} == {(i,) for i in range(5)}


def test_latents_are_float32_and_the_clip_keeps_its_own():
    memory = MemoryClip(torch.ones(4, 4, 2, 2), encode_text("a"))
    item = take(EncodedClips([memory], frames=4), 1)[0]
    item.latents.zero_()
    assert item.latents.dtype == torch.float32 and memory.frames.all()


def test_clips_that_are_too_short_are_counted_and_left_out(caplog):
    data = EncodedClips([*clips("ab", frames=9), *clips("cd", frames=8)], frames=3, stride=4)
    assert data.too_short == 2 and set(names(take(data, 10))) == {"a", "b"}
    assert "2 of 4 clips are shorter than the 9 frames" in caplog.text


def test_no_clip_that_is_long_enough_is_an_error():
    with pytest.raises(ValueError, match=r"longest of 2 has 8 frames.* 9 frames that 3 frames with a stride of 4"):
        EncodedClips(clips("ab", frames=8), frames=3, stride=4)
