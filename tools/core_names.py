"""Say whether a ComfyUI still has what the pack needs of it and no type checker sees.

    python tools/core_names.py COMFYUI

COMFYUI is a folder of ComfyUI, of which nothing is run. What the pack imports from ComfyUI, and how it calls and
replaces that, is checked by pyright: `python tools/dev.py lint --comfyui COMFYUI`. Ends with status 1 if something is
missing. Standard library only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# Keys of dictionaries, and attributes of objects that the sources do not name the class of, by the file that has them.
WORDS = {
    "comfy/samplers.py": (
        *("context_handler", "transformer_options", "sample_sigmas", "sigmas", "cond_or_uncond", "uuids"),
        *("model_conds", "control", "hooks", "area", "uuid", "inner_model", "conds", "model_patcher"),
    ),
    "comfy/model_sampling.py": ("set_sigmas", "zsnr", "percent_to_sigma", "sigmas"),
    "comfy/conds.py": ("cond",),
    "comfy/context_windows.py": ("context_window", "get_resized_cond", "_model", "should_use_context", "execute"),
    "comfy/controlnet.py": ("cond_hint_original", "cond_hint", "previous_controlnet"),
    "comfy/ldm/modules/diffusionmodules/openaimodel.py": ("input_blocks", "middle_block", "output_blocks"),
    "comfy/model_patcher.py": ("cached_patcher_init", "additional_models", "object_patches"),
    "comfy/model_base.py": ("diffusion_model", "model_config", "current_patcher", "memory_required"),
    "latent_preview.py": ("decode_latent_to_preview",),
    "server.py": ("PromptServer", "instance", "add_on_prompt_handler"),
    "app/node_replace_manager.py": ("/node_replacements", "new_node_id"),
}
# Arguments of methods of such objects.
ARGUMENTS = {
    "comfy/model_sampling.py": {
        "_register_schedule": ("beta_schedule", "linear_start", "linear_end", "timesteps", "zsnr"),
    },
}


def words_of(tree: ast.AST) -> Iterator[str]:
    """Yield all names, attributes and texts of a file, and `method(argument)` for each argument of a method."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "value"):
            if isinstance(text := getattr(node, field, None), str):
                yield text
        if isinstance(node, ast.FunctionDef):
            yield from (f"{node.name}({argument.arg})" for argument in (*node.args.args, *node.args.kwonlyargs))


def needs() -> Iterator[tuple[str, str]]:
    """Yield what the pack needs as pairs of a file and a word of it."""
    yield from ((file, word) for file, words in WORDS.items() for word in words)
    for file, methods in ARGUMENTS.items():
        yield from ((file, f"{method}({argument})") for method, names in methods.items() for argument in names)


def missing(comfyui: Path) -> list[tuple[str, str]]:
    """Return the needs that a folder of ComfyUI does not meet."""
    files = {file: comfyui / file for file, _ in needs()}
    words = {
        file: set(words_of(ast.parse(path.read_text(encoding="utf-8")))) if path.is_file() else set()
        for file, path in files.items()
    }
    return [(file, word) for file, word in needs() if word not in words[file]]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0], "comfy").is_dir():
        sys.exit("Say which folder holds ComfyUI, as in: python tools/core_names.py ../..")
    absent = missing(Path(arguments[0]))
    for file, word in needs():
        print(f"{file}: {word}{' is missing' if (file, word) in absent else ''}")
    print(f"\n{len(absent)} of {len(list(needs()))} are missing.")
    return int(bool(absent))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
