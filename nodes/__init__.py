"""The pack's nodes, in the order of the menu."""

from .apply_animatediff import ApplyAnimateDiff
from .clip_noise import ClipNoiseNode
from .drag_cutout import DragCutout
from .follow_rough_clip import FollowRoughClip
from .free_init import FreeInitNode
from .keyframe_images import KeyframeImagesNode
from .load_motion_lora import LoadMotionLora
from .load_motion_module import LoadMotionModule
from .load_sparse_ctrl import LoadSparseCtrl
from .merge_motion_modules import MergeMotionModules
from .motion_curve import MotionCurveNode
from .motion_strength import MotionStrengthNode, MotionStrengthPerLevel
from .prompt_schedule import PromptSchedule
from .save_motion_lora import SaveMotionLora
from .save_motion_module import SaveMotionModule
from .score_animation import ScoreAnimation
from .sliding_context import SlidingContextNode
from .train_motion_lora import TrainMotionLora
from .train_motion_module import TrainMotionModule

NODES = [
    LoadMotionModule,
    LoadMotionLora,
    ApplyAnimateDiff,
    KeyframeImagesNode,
    LoadSparseCtrl,
    DragCutout,
    FollowRoughClip,
    SlidingContextNode,
    ClipNoiseNode,
    FreeInitNode,
    PromptSchedule,
    MotionStrengthNode,
    MotionStrengthPerLevel,
    MotionCurveNode,
    MergeMotionModules,
    SaveMotionModule,
    TrainMotionLora,
    TrainMotionModule,
    SaveMotionLora,
    ScoreAnimation,
]
