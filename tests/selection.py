"""Which tests run on which ComfyUI, in how many processes and in which order; names are patterns below tests/."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

WORKERS = 2  # processes, of about a gigabyte each, and one more where a page is tested, which keeps them waiting

# Files that neither import nor start ComfyUI: `test --comfyui all` runs them on the newest one alone, like the tests
# that are marked so because they start processes that know no ComfyUI, ask what shipped weights have learned, or how
# processes of a training end.
ONE_VERSION = (
    "evaluation/test_clips.py",
    "evaluation/test_media.py",
    "evaluation/test_metrics.py",
    "evaluation/test_optical_flow.py",
    "evaluation/test_score.py",
    "motion_models/test_files.py",
    "old_workflows/test_command.py",
    "old_workflows/test_convert.py",
    "old_workflows/test_odd_files.py",
    "old_workflows/test_old_nodes.py",
    "sampling/test_prompt_blending.py",
    "sampling/test_prompt_schedule.py",
    "sampling/test_timeline.py",
    "sampling/test_window_picture.py",
    "test_docs.py",
    "test_name.py",
    "test_repository.py",
    "tools/test_*.py",
    "training/data/test_*.py",
    "training/test_loop.py",
)

# The files that take longest begin first, so that all processes end at about the same time.
LONGEST_FIRST = (
    "browser/test_*.py",
    "training/test_command.py",
    "test_repository.py",
    "test_other_packs.py",
    "test_server.py",
    "demo/test_*.py",
    "test_manager.py",
    "test_archive.py",
    "sampling/test_animate.py",
)


# What tests share that takes many seconds to start, and parts of their ids.
SHARED = {
    "the newest page": ("newest frontend",),
    "the page": ("/browser/",),
    "the server": ("/test_server.py", "/test_in_comfyui.py", "/test_keyframe_stand_ins.py", "/test_prompts_of_scripts"),
}


class OneOfEach(LoadFileScheduling):
    """Gives a file's tests to one process, and all that share a page or a server to one."""

    def _split_scope(self, nodeid: str) -> str:
        names = (name for name, parts in SHARED.items() if any(part in nodeid for part in parts))
        return next(names, super()._split_scope(nodeid))
