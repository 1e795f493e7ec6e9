"""The pack's own socket types."""

from comfy_api.latest import io

MotionModel = io.Custom("MOTION_MODEL_ADN")
"""A motion module: temporal transformers for the blocks of a UNet."""
MotionLora = io.Custom("MOTION_LORA_ADN")
"""The weights of a trained motion LoRA, and the scale at which they are added."""
MotionStrength = io.Custom("MOTION_STRENGTH_ADN")
"""Strength and motion scale over frames, regions, UNet levels and the sampling."""
MotionCurve = io.Custom("MOTION_CURVE_ADN")
"""A number that changes over the frames of a clip or over its sampling."""
Keyframes = io.Custom("KEYFRAMES_ADN")
"""Pictures and the frames of a clip that they belong to."""
CameraPath = io.Custom("CAMERA_PATH_ADN")
"""Where the camera is in each frame of a clip."""
MotionPaths = io.Custom("MOTION_PATHS_ADN")
"""Boxes that subjects of a clip fill in each frame."""
