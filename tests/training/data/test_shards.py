"""WebDataset shards, written by webdataset."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread

import pytest
import torch
from training_data_support import counted, counter, decode_text, encode_frames, encode_text, same, take, write_video

from animatediff_native.training.data import DataOptions, Encoders, Shards, shard_files
from animatediff_native.training.data.shard_files import read_samples

webdataset = pytest.importorskip("webdataset")
SHARDS, SAMPLES = 3, 4


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[bytes]:
    """Of which frame i of video v is counted as 10 v + i."""
    folder = tmp_path_factory.mktemp("videos")
    frames = (counter(9, first=10 * number, width=16, height=16) for number in range(SHARDS * SAMPLES))
    return [write_video(folder / f"{number}.mkv", each).read_bytes() for number, each in enumerate(frames)]


def write(folder: Path, videos: list[bytes], sizes: tuple[int, ...] = (SAMPLES,) * SHARDS) -> str:
    """Shards whose samples are captioned with their numbers, one half in text files, the other in JSON."""
    samples = iter(enumerate(videos))
    for shard, size in enumerate(sizes):
        with webdataset.TarWriter(str(folder / f"clips-{shard}.tar")) as tar:
            for number, video in islice(samples, size):
                caption = {"json": {"caption": str(number)}} if number % 2 else {"txt": str(number)}
                tar.write({"__key__": f"sample{number:03}", "mkv": video, **caption})
    return str(folder / f"clips-{{0..{len(sizes) - 1}}}.tar")


def load(shards: str, seed: int = 0, workers: int = 0, **more) -> Shards:
    """Decoded in this process, or by `workers` others."""
    options = DataOptions(**{"shards": shards, "frames": 3, "stride": 2, "size": 16} | more)
    encoders = Encoders(encode_frames, encode_text, vae="a", text_encoder="b")
    return Shards(options, encoders, seed, workers=workers)


def captions(items) -> list[str]:
    return [decode_text(item.prompt) for item in items]


def test_items_are_frames_of_a_sample_in_order_with_its_caption(tmp_path, videos):
    starts = set()
    for item in take(load(write(tmp_path, videos)), 24):
        numbers, sample = counted(item.latents), int(decode_text(item.prompt))
        starts.add(numbers[0] - 10 * sample)
        assert item.latents.shape == (3, 3, 2, 2) and item.latents.dtype == torch.float32
        assert numbers == [numbers[0] + 2 * i for i in range(3)]
    assert starts == set(range(5))


def test_an_epoch_shows_every_sample_once_with_the_shards_in_another_order(tmp_path, videos):
    result = captions(take(load(write(tmp_path, videos)), 48))
    epochs = [tuple(result[start : start + 12]) for start in range(0, 48, 12)]
    assert all(sorted(map(int, epoch)) == list(range(12)) for epoch in epochs)
    assert len(set(epochs)) > 1


def test_the_same_number_is_the_same_item_wherever_one_begins(tmp_path, videos):
    shards = write(tmp_path, videos, sizes=(5, 1, 6))
    expected = take(load(shards, seed=4), 40)
    for first, workers in ((1, 0), (5, 2), (12, 0), (31, 1)):
        assert same(take(load(shards, seed=4, workers=workers), 6, first), expected[first : first + 6])


def test_processes_see_together_what_one_sees(tmp_path, videos):
    shards = write(tmp_path, videos)
    items = [item for process in range(2) for item in take(load(shards, workers=process), 9, 3, process, 2)]
    assert same(sorted(items, key=lambda item: item.number), take(load(shards), 18, first=3))


def test_samples_that_were_seen_before_are_not_decoded_again(tmp_path, videos):
    """Which is seen by unreadable ones, which are not even noticed."""
    data = load(write(tmp_path, [b"no video"] * 2 + 2 * videos, sizes=(26,)))
    assert captions(take(data, 3, first=2)) == ["2", "3", "4"]
    assert not data.unusable


def test_unreadable_samples_are_counted_and_the_next_is_shown_for_them(tmp_path, videos, caplog):
    videos = [videos[0], b"", *videos[2:5], videos[5][: len(videos[5]) // 4], *videos[6:]]
    shards = write(tmp_path, videos, sizes=(12,))
    data = load(shards, workers=2)
    items = take(data, 24)
    assert captions(items[:12]) == ["0", "2", "2", "3", "4", "6", "6", "7", "8", "9", "10", "11"]
    assert [name.rsplit("/")[-1] for name in data.unusable] == ["sample001", "sample005"]
    assert "sample005 is left out (2 so far): " in caplog.text
    alone = [item for process in range(3) for item in take(load(shards), 8, 0, process, 3)]
    assert same(sorted(alone, key=lambda item: item.number), items)


def test_samples_that_are_too_short_or_have_no_caption_or_no_video(tmp_path, videos):
    short = write_video(tmp_path / "short.mkv", counter(4)).read_bytes()
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "good", "mkv": videos[0], "txt": "good"})
        tar.write({"__key__": "short", "mkv": short, "txt": "short"})
        tar.write({"__key__": "silent", "mkv": videos[1]})
        tar.write({"__key__": "blind", "txt": "blind"})
        tar.write({"__key__": "odd", "mkv": videos[2], "json": [1, 2]})
    data = load(str(tmp_path / "a.tar"))
    assert set(captions(take(data, 10))) == {"good"}
    reasons = {name.rsplit("/")[-1]: why for name, why in data.unusable.items()}
    assert "4 frames, and 5 are needed" in reasons["short"] and "no caption" in reasons["silent"]
    assert "no video or picture, but .txt" in reasons["blind"] and "caption is unreadable" in reasons["odd"]


def test_one_caption_for_all_that_have_none(tmp_path, videos):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "silent", "mkv": videos[1]})
    assert captions(take(load(str(tmp_path / "a.tar"), caption="x"), 2)) == ["x", "x"]


def test_pictures_train_on_single_frames(tmp_path, videos):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "photo", "png": counter(1, first=7)[0].numpy() / 255, "txt": "x"})
    (item,) = take(load(str(tmp_path / "a.tar"), frames=1), 1)
    assert counted(item.latents) == [7]


def test_mirrored_items_are_mirrored_in_all_frames(tmp_path):
    rising = torch.arange(16).to(torch.uint8).view(1, 1, -1, 1).expand(6, 16, -1, 3)
    shards = write(tmp_path, [write_video(tmp_path / "a.mkv", rising).read_bytes()], sizes=(1,))
    signs = [(item.latents.diff(dim=-1) > 0).flatten() for item in take(load(shards, flip=True), 20)]
    assert all(each.all() or not each.any() for each in signs)
    assert {bool(each[0]) for each in signs} == {True, False}


def test_what_follows_damage_in_a_shard_is_left_out(tmp_path, videos, caplog):
    shards = write(tmp_path, videos)
    file = tmp_path / "clips-0.tar"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.4)])
    assert 0 < len(list(read_samples(str(file)))) < SAMPLES
    expected = take(load(shards), 30)
    assert same(take(load(shards), 5, first=25), expected[25:])
    assert "clips-0.tar is damaged" in caplog.text


def test_a_sparse_file_in_a_shard_is_not_unpacked(tmp_path, caplog):
    """A shard of 10 KB whose video is 600 MB of nothing."""
    entry = tarfile.TarInfo("a.mp4")
    entry.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(600 << 20)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(entry)
    assert not list(read_samples(str(tmp_path / "a.tar")))
    assert "a.tar is damaged" in caplog.text


def add(tar: tarfile.TarFile, name: str, contents: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = len(contents), kind, link
    tar.addfile(entry, io.BytesIO(contents))


ODD_FILES = {
    "link": {"kind": tarfile.SYMTYPE, "link": "/etc/passwd"},
    "hard link": {"kind": tarfile.LNKTYPE, "link": "good.mkv"},
    "device": {"kind": tarfile.CHRTYPE},
    "folder": {"kind": tarfile.DIRTYPE},
    "empty": {},
    "line\n\x1b[31mERROR \udce9": {"contents": b"no video"},
    "n" * 10_000: {"contents": b"no video"},
}
CAPTIONS = {
    "deep": b"[" * 100_000,
    "long": b'{"text": "%s"}' % (b"x" * 20_000),
    "digits": b'{"text": %s}' % (b"9" * 5000),
}


def test_odd_members_of_a_shard_are_left_out_by_name(tmp_path, videos, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open("a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("/good", "../../good"):
            add(tar, f"{name}.mkv", videos[0])
            add(tar, f"{name}.txt", b"good")
        for name, kind in ODD_FILES.items():
            add(tar, f"{name}.mkv", **kind)
            add(tar, f"{name}.txt", b"odd")
        for name, caption in CAPTIONS.items():
            add(tar, f"{name}.mkv", videos[1])
            add(tar, f"{name}.json", caption)
        for text in (b"good", b"odd"):
            add(tar, "twice.txt", text)
            add(tar, "twice.mkv", videos[2])
        for name in ("", ".mkv", "._twice.mkv", "none", "__a.txt", "twice.__key__", "twice.pickle"):
            add(tar, name, b"cos\nmkdir\n(S'ran'\ntR.")
    data = load("a.tar")
    assert captions(take(data, 6)) == ["good", "good", "good", "good", "good", "good"]
    named = {name.removeprefix("a.tar/") for name in data.unusable}
    odd = "".join(character if character.isprintable() else "?" for character in "line\n\x1b[31mERROR \udce9")
    assert named == {*list(ODD_FILES)[:5], odd, "n" * 200, *CAPTIONS}
    assert all(line.isprintable() and len(line) < 400 for line in caplog.messages)
    assert [line for line in caplog.messages if "a second twice." in line]
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_a_sample_of_gigabytes_is_not_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shard_files, "LARGEST", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.mkv", "a.txt", "b.mkv", "b.npy", "b.mp4"):
            add(tar, name, bytes(600 if name != "a.txt" else 1))
    assert [(name[-1], [*files]) for name, files in read_samples(str(tmp_path / "a.tar"))] == [
        ("a", ["mkv", "txt"]),
        ("b", ["mkv", "npy"]),
    ]
    assert "b.mp4 is sparse, or larger" in caplog.text


def test_a_name_of_folders_is_read_in_linear_time(tmp_path):
    """Of a million empty folders, which a pattern would begin to read at each of them."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "/" * 1_000_000 + "a")
        add(tar, "b.txt", b"b")
    assert [files for _, files in read_samples(str(tmp_path / "a.tar"))] == [{"txt": b"b"}]


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..9999}{0..999999999}",
        "{0,1}" * 40,
        "{a..z}" * 9,
        "{{0,1}" * 30 + "}" * 30,
        r"{\}0,1}" * 40,
        "0" * 4000 + "{00000..99999}",  # as much text as many more names
    ],
)
def test_a_pattern_of_millions_of_shards_is_refused(tmp_path, pattern):
    with pytest.raises(ValueError, match="more than 1000000 files: correct its numbers"):
        load(str(tmp_path / f"clips-{pattern}.tar"))


@pytest.mark.parametrize(
    "pattern", ["a", "{00..99}{0..4}", "{a{0..9},b{2..-2}}", "{2.{5..7},3.{2,3}}{x}", "a,b}{c", r"{\}a,b}{c\{,}"]
)
def test_names_of_a_pattern_are_counted_as_webdataset_makes_them(pattern):
    try:
        expected = len(webdataset.shardlists.expand_urls(pattern))
    except ValueError:
        expected = 1
    assert shard_files.count_names(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..9", "{" * 1000, "{%s..5}" % ("0" * 5000), "${NOT_SET}.tar"])
def test_a_wrong_pattern_is_refused_in_a_line(pattern):
    with pytest.raises(ValueError, match=r"^'shards' is [^\n]{1,100}, in which braces, numbers or variables are wrong"):
        load(pattern)


@pytest.mark.parametrize("pattern", ["{" * 3000 + "}" * 3000, "{a," * 999 + "}" * 999, "{" + "a" * 1_000_000 + "}"])
def test_braces_that_take_long_to_expand_are_refused_before(pattern):
    with pytest.raises(ValueError, match="wrong: correct it") as refused:
        load(pattern)
    assert str(refused.value.__cause__) == "its braces are too deep"


def test_a_name_that_is_too_long_for_a_file_is_one_that_is_not_there():
    with pytest.raises(ValueError, match=r"^There is no file a{200}: correct 'shards'\.$"):
        load("a" * 100_000)


@pytest.mark.parametrize(
    "shards", ["pipe:touch {0}", "clips.tar::pipe:touch {0}", "gs://bucket/clips.tar", "PIPE:touch {0}"]
)
def test_an_address_that_would_run_a_program_is_refused(tmp_path, shards):
    with pytest.raises(ValueError, match=r"^'shards' holds the address \S+.* which would run a program: use files"):
        load(shards.format(tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


def test_a_command_between_braces_is_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError):
        take(load(f"{{pipe:touch {tmp_path / 'ran'},a.tar}}"), 1)
    assert not (tmp_path / "ran").exists()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """Serves the folder over HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads addresses with curl")
def test_shards_of_a_web_server_are_those_of_a_folder(tmp_path, videos, address):
    file = write(tmp_path, videos, sizes=(12,)).replace("{0..0}", "0")
    expected = take(load(file), 20)
    assert same(take(load(f"{address}/clips-0.tar"), 6, first=14), expected[14:])
    assert same(take(load(Path(file).as_uri()), 2), expected[:2])
    with pytest.raises(OSError, match=r"The shard \S+none\.tar cannot be read: check the address, and resume later"):
        take(load(f"{address}/none.tar"), 1)


def test_shards_that_are_not_there_or_hold_nothing(tmp_path, videos):
    shards = write(tmp_path, videos)
    with pytest.raises(ValueError, match=r"no file .*clips-3.tar: correct 'shards'"):
        load(shards.replace("..2", "..3"))
    webdataset.TarWriter(str(tmp_path / "empty.tar")).close()
    with pytest.raises(ValueError, match=r"empty.tar holds no samples"):
        take(load(str(tmp_path / "empty.tar")), 1)


def test_shards_of_which_nothing_can_be_used_end_with_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"1000 samples in a row .*sample000: the video is unreadable"):
        take(load(write(tmp_path, [b""] * 4, sizes=(4,)), workers=1), 1)


def test_other_processes_decode_ahead_and_end_with_the_one_who_asks(tmp_path, videos):
    before = set(multiprocessing.active_children())
    stream = load(write(tmp_path, videos), workers=2).stream(0)
    next(stream)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    stream.close()
    assert not any(worker.is_alive() for worker in workers)


def test_an_error_while_reading_reaches_the_one_who_asks(tmp_path, videos):
    data = load(write(tmp_path, videos, sizes=(12,)), workers=1)
    stream = data.stream(0)
    next(stream)
    (tmp_path / "clips-0.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"clips-0\.tar"):
        list(islice(stream, 24))
