"""What the user sees: the pack's nodes, in the order of the menu."""

from .apply_animatediff import ApplyAnimateDiff
from .load_motion_lora import LoadMotionLora
from .load_motion_module import LoadMotionModule
from .sliding_context import SlidingContextNode

NODES = [LoadMotionModule, LoadMotionLora, ApplyAnimateDiff, SlidingContextNode]
