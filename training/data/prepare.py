"""Prepares the data of a training: finds clips, encodes them, and caches them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...evaluation.media import UnusableClip
from .cache import Cache, CachedClip, clip_tensors, prompt_tensors
from .encoded import EncodedClips
from .encoding import EncodeFrames, encode_all, encode_variants
from .items import Data, Prompt, draws
from .options import DataOptions
from .shards import Shards
from .sources import Source, find_sources


def prepare(
    options: DataOptions,
    encode_frames: EncodeFrames,
    encode_text: Callable[[str], Prompt],
    *,
    vae: str,
    text_encoder: str,
    batch: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Data:
    """Return the shards, which are encoded while training, or the clips of a folder, encoded and cached.

    `vae` and `text_encoder` are fingerprints, such as hashes of the weights; a change of either encodes anew. `batch`
    is the number of clips that go through the UNet at once. `progress` gets the number of clips that are done, and of
    all. Where several processes share a cache, let the first prepare before the others. ValueError if there is
    nothing to train on.
    """
    if options.shards:
        return Shards(options, encode_frames, encode_text, seed)
    sources = find_sources(options)
    encoder = Encoder(
        options=options,
        encode_frames=encode_frames,
        encode_text=encode_text,
        vae=vae,
        text_encoder=text_encoder,
        seed=seed,
    )
    # All prompts first: where memory is scarce, text encoder and VAE are not loaded at once.
    prompts = {caption: encoder.prompt(caption) for caption in dict.fromkeys(s.caption for s in sources)}
    clips = _encoded(sources, encoder, prompts, progress)
    stride = 1 if options.camera_motion else options.stride  # clips with a camera movement were made with it
    return EncodedClips(clips, frames=options.frames, stride=stride, batch=batch, seed=seed)


def _encoded(
    sources: list[Source], encoder: Encoder, prompts: dict[str, Path], progress: Callable[[int, int], None]
) -> list[CachedClip]:
    """Return the usable clips and log the others. ValueError if there are none."""
    clips, unusable = [], []
    for done, source in enumerate(sources):
        progress(done, len(sources))
        try:
            clips.append(CachedClip.open(encoder.clip(source), prompts[source.caption]))
        except UnusableClip as error:
            unusable.append(f"{source.name}: {error}")
            logging.warning(f"Training: {source.name} is left out: {error}.")
    progress(len(sources), len(sources))
    if not clips:
        raise ValueError(f"None of the {len(sources)} clips in {encoder.options.folder} can be used; {unusable[0]}.")
    if unusable:
        logging.warning(f"Training: {len(unusable)} of {len(sources)} clips are left out.")
    return clips


@dataclass(frozen=True)
class Encoder:
    """Encodes sources, or finds them in the cache."""

    options: DataOptions
    encode_frames: EncodeFrames
    encode_text: Callable[[str], Prompt]
    vae: str
    text_encoder: str
    seed: int

    @property
    def cache(self) -> Cache:
        return Cache(self.options.cache or Path(self.options.folder or "", ".encoded"))

    def prompt(self, caption: str) -> Path:
        """Return the file of an encoded caption."""
        key = {"text": caption, "text_encoder": self.text_encoder}
        return self.cache.get("prompts", key, lambda: prompt_tensors(self.encode_text(caption)))

    def clip(self, source: Source) -> Path:
        """Return the file of a clip's latents. UnusableClip if the clip cannot be decoded."""
        return self.cache.get("clips", self._key(source), lambda: clip_tensors(self._encode(source)))

    def _encode(self, source: Source) -> list[Tensor]:
        encode = encode_variants if self.options.camera_motion else encode_all
        return encode(source.media, self.options, self.encode_frames, draws(self.seed, "clip", source.name))

    def _key(self, source: Source) -> dict[str, object]:
        """Return all that decides the latents: the files without their folder, the VAE, and the options that matter."""
        options, names = self.options, ["size", "buckets", "crop", "flip", "camera_motion"]
        if options.camera_motion:
            names += ["amount", "variants", "frames", "stride"]
        states = [(file.name, file.stat()) for file in source.files]
        return {
            "name": source.name,
            "files": [[name, state.st_size, state.st_mtime_ns] for name, state in states],
            "vae": self.vae,
            "seed": self.seed if options.camera_motion or options.crop == "random" else None,
            **{name: getattr(options, name) for name in names},
        }
