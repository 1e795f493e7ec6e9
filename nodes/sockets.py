"""Socket types of the pack."""

from comfy_api.latest import io

MotionModel = io.Custom("MOTION_MODEL_ADN")
"""The AnimateDiff motion model: one temporal transformer for each block of a UNet."""
MotionLora = io.Custom("MOTION_LORA_ADN")
"""A motion LoRA as trained, and the scale of what it adds."""
MotionStrength = io.Custom("MOTION_STRENGTH_ADN")
"""Where and when a motion model works, and how strongly."""
MotionCurve = io.Custom("MOTION_CURVE_ADN")
"""A number that changes over a clip's frames or its sampling."""
