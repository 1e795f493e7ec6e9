"""Prepares the data of a training: finds clips, encodes them, and caches them."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from ...evaluation.media import UnusableClip
from .cache import Cache, CachedClip, Contents, clip_contents, prompt_contents
from .encoded import EncodedClips
from .encoding import Encoders, encode_all, encode_variants
from .items import Data, draws
from .options import DataOptions
from .shards import Shards
from .sources import Source, find_sources


def prepare(options: DataOptions, encoders: Encoders, *, batch: int = 1, seed: int = 0) -> Data:
    """Return the shards, which are encoded while training, or the clips of a folder, encoded and cached.

    `batch` is the number of clips that go through the UNet at once. Where several processes share a cache, let the
    first prepare before the others. ValueError if there is nothing to train on.
    """
    if options.shards:
        return Shards(options, encoders, seed)
    clips = encoded_clips(find_sources(options), options, encoders, seed=seed)
    stride = 1 if options.camera_motion else options.every  # clips with a camera movement were made with it
    return EncodedClips(clips, frames=options.frames, stride=stride, batch=batch, seed=seed)


def encoded_clips(sources: list[Source], options: DataOptions, encoders: Encoders, seed: int) -> list[CachedClip]:
    """Return the usable clips and log the others. ValueError if there are none."""
    cache = Cache(options.cache or Path(options.folder or "", ".encoded"))

    def prompt(caption: str) -> Path:
        key = {"text": caption, "text_encoder": encoders.text_encoder}
        return cache.get("prompts", key, lambda: prompt_contents(encoders.encode_text(caption)))

    # All prompts first: where memory is scarce, text encoder and VAE are not loaded at once.
    prompts = {caption: prompt(caption) for caption in dict.fromkeys(source.caption for source in sources)}
    clips, report, unusable = [], [], []
    for source in tqdm(sources, "Clips in the cache"):
        try:
            key, identity = key_of(source, options, vae=encoders.vae, seed=seed), source.identity()
            file = cache.get("clips", key, lambda source=source: encode(source, options, encoders, seed=seed))
            clips.append(CachedClip.open(source.name, file, prompts[source.caption], identity=identity))
            report.append(f"{source.name}: {clips[-1].source}; {used(clips[-1], options)}.")
        except (UnusableClip, OSError) as error:
            unusable.append(f"{source.name}: {error}")
            logging.warning(f"Training: {source.name} is left out: {error}.")
    for line in report:
        logging.info(f"Training: {line}")
    if not clips:
        raise ValueError(f"None of the {len(sources)} clips in {options.folder} can be used; {unusable[0]}.")
    if unusable:
        logging.warning(f"Training: {len(unusable)} of {len(sources)} clips are left out.")
    return clips


def encode(source: Source, options: DataOptions, encoders: Encoders, seed: int) -> Contents:
    """Return the contents of a clip's file. UnusableClip if the clip cannot be decoded."""
    versions = encode_variants if options.camera_motion else encode_all
    random = draws(seed, "clip", source.name)
    latents = versions(source.media, options, encoders.encode_frames, random=random)
    return clip_contents(latents, source.media.description())


def used(clip: CachedClip, options: DataOptions) -> str:
    """Return what a training uses of a clip."""
    frames, height, width = clip.shape[0], 8 * clip.shape[2], 8 * clip.shape[3]
    if options.camera_motion:
        return f"used for {clip.versions} clips of {frames} frames, {width} × {height}"
    rate = f" at {options.rate:g} per second" if options.rate else f", one in {options.every}"
    enough = "used" if frames >= options.span else f"too short for {options.frames}"
    return f"{frames} frames{rate}, {width} × {height}, {enough}"


def key_of(source: Source, options: DataOptions, vae: str, seed: int) -> dict[str, object]:
    """Return all that decides the latents: the files without their folder, the VAE, and the options that matter."""
    names = ["size", "buckets", "crop", "flip", "camera_motion"]
    if options.camera_motion:
        names += ["amount", "variants", "frames", "stride"]
    names += [] if options.rate is None else ["frame_rate"]
    states = [(file.name, file.stat()) for file in source.files]
    return {
        "name": source.name,
        "files": [[name, state.st_size, state.st_mtime_ns] for name, state in states],
        "vae": vae,
        "seed": seed if options.camera_motion or options.crop == "random" else None,
        **{name: getattr(options, name) for name in names},
    }
