"""The data of a training: clips from folders or shards, encoded as the UNet takes them."""

from .encoded import Clip, EncodedClips, MemoryClip
from .items import Data, Item, Prompt
from .options import DataOptions
from .prepare import prepare
from .shards import Shards

__all__ = ["Clip", "Data", "DataOptions", "EncodedClips", "Item", "MemoryClip", "Prompt", "Shards", "prepare"]
