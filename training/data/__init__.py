"""The data of a training: clips from folders or shards, encoded as the UNet takes them."""

from .encoded import EncodedClips, MemoryClip
from .encoding import Encoders
from .items import Data, Item, Prompt
from .options import DataOptions
from .prepare import prepare
from .shards import Shards

__all__ = ["Data", "DataOptions", "EncodedClips", "Encoders", "Item", "MemoryClip", "Prompt", "Shards", "prepare"]
