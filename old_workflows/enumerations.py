"""Choices of old nodes, and what they are called here. Needs no ComfyUI."""

AUTOMATIC, KEEP = "automatic", "keep the model's own"

# An old noise schedule is the mean of one or more. Each of these is one of ours, or the second set on top of the
# first: the betas of the second, at the timesteps of the first.
BETA_SCHEDULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "autoselect": ((AUTOMATIC,),),
    "use existing": ((KEEP,),),
    "sqrt_linear (AnimateDiff)": (("AnimateDiff SD1.5",),),
    "linear (AnimateDiff-SDXL)": (("AnimateDiff SDXL",),),
    "linear (HotshotXL/default)": (("Stable Diffusion",),),
    "linear (default)": (("Stable Diffusion",),),  # its name in 2023
    "avg(sqrt_linear,linear)": (("AnimateDiff SD1.5",), ("Stable Diffusion",)),
    "lcm avg(sqrt_linear,linear)": (("LCM", "AnimateDiff SD1.5"), ("LCM",)),
    "lcm": (("LCM",),),
    "lcm[100_ots]": (("LCM (100 timesteps)", "Stable Diffusion"),),
    "lcm >> sqrt_linear": (("LCM", "AnimateDiff SD1.5"),),
    # Those that only ComfyUI's own function computes.
    "sqrt": (),
    "cosine": (),
    "squaredcos_cap_v2": (),
}
# Their names there. Its own "squaredcos_cap_v2" is "cosine", but does not come out as a tensor.
CORE_SCHEDULES = {"sqrt": "sqrt", "cosine": "cosine", "squaredcos_cap_v2": "cosine"}

FUSES = ("pyramid", "flat", "overlap-linear", "relative")
INTERPOLATIONS = {"lerp": "linear", "slerp": "slerp"}
NOISE_TYPES = {  # and the noise of Clip Noise
    "default": None,
    "constant": "constant",
    "empty": None,
    "repeated_context": "repeated",
    "FreeNoise": None,
}
SEED_GENERATORS = ("comfy", "auto1111", "comfy [gpu]", "auto1111 [gpu]")

SCHEDULES = {
    "ADE_StandardStaticContextOptions": "static",
    "ADE_StandardUniformContextOptions": "uniform",
    "ADE_LoopedUniformContextOptions": "looped",
    "ADE_AnimateDiffUniformContextOptions": "looped",
    "ADE_BatchedContextOptions": "batched",
    "ADE_StandardStaticViewOptions": "static",
    "ADE_StandardUniformViewOptions": "uniform",
    "ADE_LoopedUniformViewOptions": "looped",
}
"""Schedule of Sliding Context by old node."""


def our_beta_schedule(name: str) -> str | None:
    """Return the choice of Apply AnimateDiff that is this noise schedule; None if only a stand-in node has it."""
    means = BETA_SCHEDULES[name]
    return means[0][0] if len(means) == 1 and len(means[0]) == 1 else None


STILL = (0.0, 0.0, 0.0)
# What the world does before a camera that moves so: it turns about x, y and z, and is shifted.
CAMERA_MOTIONS = {
    "Static": (STILL, STILL),
    "Pan Up": (STILL, (0.0, 1.0, 0.0)),
    "Pan Down": (STILL, (0.0, -1.0, 0.0)),
    "Pan Left": (STILL, (1.0, 0.0, 0.0)),
    "Pan Right": (STILL, (-1.0, 0.0, 0.0)),
    "Zoom In": (STILL, (0.0, 0.0, -2.0)),
    "Zoom Out": (STILL, (0.0, 0.0, 2.0)),
    "Roll Clockwise": ((0.0, 0.0, -1.0), STILL),
    "Roll Anticlockwise": ((0.0, 0.0, 1.0), STILL),
    "Tilt Up": ((-1.0, 0.0, 0.0), STILL),
    "Tilt Down": ((1.0, 0.0, 0.0), STILL),
    "Tilt Left": ((0.0, 1.0, 0.0), STILL),
    "Tilt Right": ((0.0, -1.0, 0.0), STILL),
}
