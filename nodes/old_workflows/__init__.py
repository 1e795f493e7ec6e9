"""Nodes that stand in for those of ComfyUI-AnimateDiff-Evolved in the workflows that people have.

ComfyUI's page replaces a missing node by exactly one other (`replacements.py`), and that pack's graphs have another
shape than ours: settings come in from the side, and its loaders apply at once. So each of these has the name and the
inputs of one of its nodes, and does what ours do. They are hidden from the search; new graphs go without them.
"""

from .contexts import (
    OldBatchedContextOptions,
    OldLoopedUniformContextOptions,
    OldStandardStaticContextOptions,
    OldStandardUniformContextOptions,
)
from .evolved_sampling import OldAnimateDiffLoader, OldAnimateDiffLoaderWithContext, OldUseEvolvedSampling
from .motion_models import (
    OldApplyAnimateDiffModel,
    OldApplyAnimateDiffModelSimple,
    OldLoadAnimateDiffModel,
    OldMotionLoraLoader,
    OldMultival,
)
from .prompts import OldPromptScheduling, OldPromptSchedulingLatents
from .sample_settings import OldSampleSettings

OLD_NODES = [
    OldAnimateDiffLoader,
    OldAnimateDiffLoaderWithContext,
    OldLoadAnimateDiffModel,
    OldMotionLoraLoader,
    OldMultival,
    OldApplyAnimateDiffModelSimple,
    OldApplyAnimateDiffModel,
    OldUseEvolvedSampling,
    OldStandardStaticContextOptions,
    OldStandardUniformContextOptions,
    OldLoopedUniformContextOptions,
    OldBatchedContextOptions,
    OldSampleSettings,
    OldPromptScheduling,
    OldPromptSchedulingLatents,
]
