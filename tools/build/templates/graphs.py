"""The example workflows, with settings for the published models; stand_ins.json has those for the miniature."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph
from .models import CANNY, LCM, LCM_LORA, MOTION_SDXL, PAN_LEFT, SDXL, V2, V3_ADAPTER
from .parts import FOX, NEGATIVE, SIZE, apply, clip, empty, loaders, prompts, sampler, save, sliding, text_to_clip

BALLOON = "a blue hot air balloon over mountains, oil painting"
LANTERN = "a green paper lantern on a river at night, photograph"
FLOWER = "a purple flower in the wind, macro photograph"
LIGHTHOUSE = "a yellow lighthouse, waves, storm, oil painting"


def text_to_animation(graph: Graph) -> None:
    graph.note(
        "Text to animation",
        f"A motion module turns the images of a batch into the frames of one clip: **batch_size** in *{SIZE}* is the "
        "number of frames. 16 suits most motion modules. If the module cannot hold all frames at once, they are "
        "sampled in windows.",
        "Use any Stable Diffusion 1.5 checkpoint. LoRAs go before *Apply AnimateDiff*, which chooses the noise "
        "schedule to fit the motion module.",
        "To watch the clip while it is being sampled, choose a preview method in ComfyUI's settings.",
    )
    checkpoint, samples = text_to_clip(graph)
    save(graph, 4, samples, checkpoint["VAE"], "text_to_animation")


def personalised_animation(graph: Graph) -> None:
    graph.note(
        "Animate a personalised model",
        "The look comes from a LoRA or from another checkpoint of the same base. The motion module was trained on "
        "the base alone and animates them all.",
        "The LoRA here is the domain adapter that AnimateDiff v3 was trained with. It gives the model the look of "
        "the training videos. Replace it with the LoRA of your style, or load both.",
    )
    checkpoint, motion = loaders(graph)
    styled = graph.add(1, "LoraLoaderModelOnly", model=checkpoint["MODEL"], lora_name=V3_ADAPTER, strength_model=1.0)
    clip(graph, "personalised_animation", checkpoint, apply(graph, styled["MODEL"], motion), BALLOON, seed=2)


def motion_lora(graph: Graph) -> None:
    graph.note(
        "Motion LoRA",
        "A motion LoRA changes how the motion module moves things: with this one, the camera pans. Set its strength "
        "to 0 to compare.",
        "AnimateDiff's eight camera LoRAs were made for its v2 module. Chain several to combine them. A negative "
        "strength roughly reverses the movement. *Train Motion LoRA* makes your own.",
    )
    checkpoint, motion = loaders(graph, motion=V2)
    panned = graph.add(
        1, "ADN_LoadMotionLora", motion_module=motion["motion_module"], motion_lora=PAN_LEFT, strength=1.0
    )
    clip(graph, "motion_lora", checkpoint, apply(graph, checkpoint["MODEL"], panned), FOX)


def prompt_travel(graph: Graph) -> None:
    graph.note(
        "Prompts over time",
        "Each line is `frame: prompt`. It is summer up to frame 12 and winter from frame 20. In between, one prompt "
        "blends into the other.",
        "`0.5: ...` is the middle of the clip, `-1: ...` the last frame, `10-20: ...` holds, `--` starts a comment. "
        'A list such as `"0": "...", "24": "..."` can be pasted unchanged. The number of frames comes from the '
        "latent.",
    )
    checkpoint, motion = loaders(graph)
    animated = sliding(graph, 1, apply(graph, checkpoint["MODEL"], motion))
    latents = empty(graph, 2, frames=32)
    schedule = graph.add(
        2,
        "ADN_PromptSchedule",
        clip=checkpoint["CLIP"],
        latent=latents,
        prompts="0: a tree on a hill in summer\n12 ease: a tree on a hill in summer\n20: a tree on a hill in winter",
    )
    negative = graph.add(2, "CLIPTextEncode", "Negative prompt", clip=checkpoint["CLIP"], text=NEGATIVE)
    samples = sampler(graph, 3, animated, (schedule["CONDITIONING"], negative["CONDITIONING"]), latents, seed=3)
    save(graph, 4, samples, checkpoint["VAE"], "prompt_travel")


def long_animation(graph: Graph) -> None:
    graph.note(
        "A clip longer than the motion module",
        "40 frames are sampled in windows of 16 that overlap by 4, so that only 16 frames at a time take memory. "
        "*Sliding Context* shows the windows while they are sampled.",
        "FreeNoise starts later windows from the first window's noise in shuffled order, which keeps the clip one "
        "scene. Without *Sliding Context*, a clip that is too long for the motion module is sampled in the same "
        "windows automatically.",
    )
    checkpoint, motion = loaders(graph)
    animated = sliding(graph, 1, apply(graph, checkpoint["MODEL"], motion))
    clip(graph, "long_animation", checkpoint, animated, LANTERN, frames=40, seed=3)


def closed_loop(graph: Graph) -> None:
    graph.note(
        "A seamless loop",
        "With the schedule *closed loop*, windows wrap around the end of the clip, so that the last frame leads "
        "into the first. This works for clips of any length, even for one that fits into a single window.",
    )
    checkpoint, motion = loaders(graph)
    animated = sliding(graph, 1, apply(graph, checkpoint["MODEL"], motion), schedule="closed loop")
    clip(graph, "closed_loop", checkpoint, animated, FLOWER, seed=5)


def video_to_video(graph: Graph) -> None:
    graph.note(
        "Video to video",
        "ControlNet makes each frame of the new clip follow the edges in the same frame of a video, even in the "
        "windows of a long clip. Choose your own video, with 16 frames or more. If Canny finds no edges, lower its "
        "thresholds.",
        "The sampler gets the video's latents: set its denoise below 1 to keep the video's colours as well.",
    )
    checkpoint, motion = loaders(graph)
    video = graph.add(0, "LoadVideo", file="moving_star.mp4")
    parts = graph.add(1, "GetVideoComponents", video=video["VIDEO"])
    frames = graph.add(
        1, "ImageScale", image=parts["images"], upscale_method="lanczos", width=512, height=512, crop="center"
    )["IMAGE"]
    latents = graph.add(1, "VAEEncode", pixels=frames, vae=checkpoint["VAE"])["LATENT"]
    styled = graph.add(1, "LoraLoaderModelOnly", model=checkpoint["MODEL"], lora_name=V3_ADAPTER, strength_model=1.0)
    animated = apply(graph, styled["MODEL"], motion, column=2)
    edges = graph.add(2, "Canny", image=frames, low_threshold=0.4, high_threshold=0.8)
    positive, negative = prompts(graph, 2, checkpoint["CLIP"], FOX)
    net = graph.add(3, "ControlNetLoader", control_net_name=CANNY)
    guided = graph.add(
        3,
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=net["CONTROL_NET"],
        image=edges["IMAGE"],
        strength=0.8,
    )
    samples = sampler(graph, 4, animated, (guided["positive"], guided["negative"]), latents)
    save(graph, 5, samples, checkpoint["VAE"], "video_to_video", fps=parts["fps"])


def hires_second_pass(graph: Graph) -> None:
    graph.note(
        "Larger, in a second pass",
        "The first pass decides what moves where. Its latents are enlarged 1.5 times and sampled again with a "
        "denoise of about 0.5. The same motion module keeps the frames consistent while new details are drawn.",
        "A lower denoise keeps more of the first pass. For more than 16 frames, add *Sliding Context* after *Apply "
        "AnimateDiff*.",
    )
    checkpoint, motion = loaders(graph)
    animated = apply(graph, checkpoint["MODEL"], motion)
    conditioning = prompts(graph, 2, checkpoint["CLIP"], FOX)
    first = sampler(graph, 3, animated, conditioning, empty(graph, 2), title="First pass")
    larger = graph.add(3, "LatentUpscaleBy", samples=first, upscale_method="bilinear", scale_by=1.5)
    second = sampler(graph, 4, animated, conditioning, larger["LATENT"], title="Second pass", seed=2, denoise=0.55)
    save(graph, 5, second, checkpoint["VAE"], "hires_second_pass")


def few_steps(graph: Graph) -> None:
    graph.note(
        "A clip in eight steps",
        "AnimateLCM needs few steps: use the sampler `lcm`, 4 to 8 steps and a cfg of 1 to 2, with AnimateLCM's own "
        "LoRA on the checkpoint. *Apply AnimateDiff* recognises the module and chooses its noise schedule.",
        "For AnimateDiff-Lightning, leave out the LoRA and use `euler`, `sgm_uniform`, cfg 1 and the number of "
        "steps in the file's name.",
    )
    checkpoint, motion = loaders(graph, motion=LCM)
    quick = graph.add(1, "LoraLoaderModelOnly", model=checkpoint["MODEL"], lora_name=LCM_LORA, strength_model=0.8)
    clip(
        graph,
        "few_steps",
        checkpoint,
        apply(graph, quick["MODEL"], motion),
        FLOWER,
        seed=4,
        steps=8,
        cfg=1.5,
        sampler_name="lcm",
        scheduler="sgm_uniform",
    )


def sdxl(graph: Graph) -> None:
    graph.note(
        "Stable Diffusion XL",
        "AnimateDiff's module for SDXL is a beta, trained on 16 frames of 1024 pixels. HotshotXL was trained on 8 "
        "frames of about 512 pixels. Both move less, and less reliably, than the modules for SD1.5.",
        "A motion module fits one base. With a checkpoint of another base, *Apply AnimateDiff* stops with an error "
        "before sampling.",
    )
    checkpoint, motion = loaders(graph, SDXL, MOTION_SDXL)
    clip(graph, "sdxl", checkpoint, apply(graph, checkpoint["MODEL"], motion), LIGHTHOUSE, size=1024, seed=4)


def train_motion_lora(graph: Graph) -> None:
    graph.note(
        "Train a motion LoRA",
        "This graph learns the motion of one video and uses it in the same run. To learn a kind of movement, such "
        "as a camera movement, use 20 to 50 clips (*Make Training Dataset*), rank 2 and 1000 steps or more.",
        "If the training is interrupted, queue it again to resume. *Save Motion LoRA* writes to "
        "`output/animatediff_motion_lora`, where *Load Motion LoRA* finds the file. A GPU with 16 GB of memory is a "
        "good start; with less, make the frames smaller.",
    )
    checkpoint, motion = loaders(graph)
    video = graph.add(0, "LoadVideo", file="moving_star.mp4")
    frames = graph.add(1, "GetVideoComponents", video=video["VIDEO"])["images"]
    scaled = graph.add(1, "ImageScale", image=frames, upscale_method="lanczos", width=512, height=512, crop="center")[
        "IMAGE"
    ]
    latents = graph.add(1, "VAEEncode", pixels=scaled, vae=checkpoint["VAE"])["LATENT"]
    shown = graph.add(
        1, "CLIPTextEncode", "What the video shows", clip=checkpoint["CLIP"], text="a blue star on white paper"
    )
    trained = graph.add(
        2,
        "ADN_TrainMotionLora",
        model=checkpoint["MODEL"],
        motion_module=motion["motion_module"],
        latents=latents,
        conditioning=shown["CONDITIONING"],
        steps=400,
    )
    graph.add(3, "ADN_SaveMotionLora", motion_lora=trained["motion_lora"])
    animated = apply(graph, checkpoint["MODEL"], trained, column=3)
    conditioning = prompts(graph, 3, checkpoint["CLIP"], FOX)
    samples = sampler(graph, 4, animated, conditioning, empty(graph, 3))
    save(graph, 5, samples, checkpoint["VAE"], "train_motion_lora")


def score_and_compare(graph: Graph) -> None:
    graph.note(
        "Score and compare",
        "The same prompt and seed are sampled with and without the motion module, and *Score Animation* measures "
        "both clips: how much they move, and how steady they are. A still clip is the steadiest, so look at both "
        "numbers.",
        "Connect *Load CLIP Vision* to measure smoothness as well, and also *Load CLIP* to measure how well the "
        "clip matches the prompt. `python -m evaluation`, run in this pack's folder, scores whole folders of clips.",
    )
    checkpoint, motion = loaders(graph)
    animated = apply(graph, checkpoint["MODEL"], motion)
    conditioning, latents = prompts(graph, 1, checkpoint["CLIP"], FOX), empty(graph, 1)
    for title, used in (("Without", checkpoint["MODEL"]), ("With", animated)):
        samples = sampler(graph, 2, used, conditioning, latents, title=f"{title} the motion module")
        images = graph.add(3, "VAEDecode", samples=samples, vae=checkpoint["VAE"])["IMAGE"]
        scored = graph.add(3, "ADN_ScoreAnimation", f"{title} the motion module", images=images)
        graph.add(4, "PreviewImage", images=scored["plot"])
        graph.add(5, "SaveAnimatedWEBP", images=images, filename_prefix=f"animatediff/compare_{title.lower()}", fps=8.0)


def motion_strength(graph: Graph) -> None:
    graph.note(
        "Motion strength",
        "*Strength* is how strongly the motion module acts. *Motion scale* multiplies the keys of temporal "
        "attention: above 1, each frame attends mostly to a few frames; below 1, more evenly to all of them.",
        "Here, strength is halved in the last fifth of the sampling, motion scale rises and falls over the clip, "
        "and strength is a little lower in the finest level of the UNet.",
        "*Motion Curve* also takes a curve from Curve Editor, one mask or one per frame, or a sound.",
    )
    checkpoint, motion = loaders(graph)
    over_sampling = graph.add(
        1, "ADN_MotionCurve", "Over the sampling", keyframes="0: 1 hold\n0.8: 0.5", over="sampling"
    )
    over_frames = graph.add(
        1, "ADN_MotionCurve", "Over the frames", keyframes="0 ease: 0.9\n8 ease: 1.15\n15: 0.9", over="frames"
    )
    strength = graph.add(2, "ADN_MotionStrength", strength=over_sampling["curve"], motion_scale=over_frames["curve"])
    levels = graph.add(2, "ADN_MotionStrengthPerLevel", previous=strength["motion_strength"], down_1_strength=0.8)
    animated = apply(graph, checkpoint["MODEL"], motion, column=3, motion_strength=levels["motion_strength"])
    clip(graph, "motion_strength", checkpoint, animated, LIGHTHOUSE, column=3, seed=3)


def merge_motion_modules(graph: Graph) -> None:
    graph.note(
        "Merge motion modules",
        "Two motion modules are merged half and half and saved to `output/animatediff_models`, where *Load Motion "
        "Module* finds the result. Here, the second module is the first with a motion LoRA applied.",
        "Both modules must be for the same base, such as v3 and a fine-tune of it.",
    )
    checkpoint, motion = loaders(graph, motion=V2)
    panned = graph.add(
        1, "ADN_LoadMotionLora", motion_module=motion["motion_module"], motion_lora=PAN_LEFT, strength=1.0
    )
    merged = graph.add(
        2, "ADN_MergeMotionModules", first=motion["motion_module"], second=panned["motion_module"], ratio=0.5
    )
    graph.add(2, "ADN_SaveMotionModule", motion_module=merged["motion_module"])
    animated = apply(graph, checkpoint["MODEL"], merged, column=3)
    clip(graph, "merge_motion_modules", checkpoint, animated, LANTERN, column=3, seed=7)


def lora_over_time(graph: Graph) -> None:
    graph.note(
        "A LoRA over time",
        "ComfyUI's own hooks apply a LoRA to one prompt only. The mask has one picture per frame and says where "
        "that prompt applies: not in the first eight frames, fully in the last eight. Grey pictures in between "
        "would fade the LoRA in.",
        "*Create Hook Keyframes Interp.* also changes the LoRA's strength during the sampling. With a style LoRA, "
        "the change is easy to see.",
    )
    checkpoint, motion = loaders(graph)
    lora = graph.add(0, "CreateHookLora", lora_name=V3_ADAPTER, strength_model=1.0, strength_clip=0.0)
    animated = apply(graph, checkpoint["MODEL"], motion)
    conditioning = prompts(graph, 1, checkpoint["CLIP"], FOX)
    keyframes = graph.add(
        1,
        "CreateHookKeyframesInterpolated",
        strength_start=0.8,
        strength_end=1.0,
        end_percent=0.3,
        print_keyframes=False,
    )
    hooks = graph.add(2, "SetHookKeyframes", hooks=lora["HOOKS"], hook_kf=keyframes["HOOK_KF"])
    off = graph.add(2, "EmptyImage", "Frames without the LoRA", width=512, height=512, batch_size=8, color=0)
    on = graph.add(2, "EmptyImage", "Frames with the LoRA", width=512, height=512, batch_size=8, color=16777215)
    both = graph.add(3, "ImageBatch", image1=off["IMAGE"], image2=on["IMAGE"])
    mask = graph.add(3, "ImageToMask", image=both["IMAGE"], channel="red")
    with_lora = graph.add(
        3,
        "PairConditioningSetProperties",
        positive_NEW=conditioning[0],
        negative_NEW=conditioning[1],
        mask=mask["MASK"],
        hooks=hooks["HOOKS"],
    )
    pair = graph.add(
        3,
        "PairConditioningSetDefaultCombine",
        positive=with_lora["positive"],
        negative=with_lora["negative"],
        positive_DEFAULT=conditioning[0],
        negative_DEFAULT=conditioning[1],
    )
    samples = sampler(graph, 4, animated, (pair["positive"], pair["negative"]), empty(graph, 3))
    save(graph, 5, samples, checkpoint["VAE"], "lora_over_time")


TEMPLATES: tuple[Callable[[Graph], None], ...] = (
    text_to_animation,
    personalised_animation,
    motion_lora,
    prompt_travel,
    long_animation,
    closed_loop,
    video_to_video,
    hires_second_pass,
    few_steps,
    sdxl,
    train_motion_lora,
    score_and_compare,
    motion_strength,
    merge_motion_modules,
    lora_over_time,
)
