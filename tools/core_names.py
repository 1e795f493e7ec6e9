"""Say which names, signatures and options of ComfyUI the pack leans on, and whether a ComfyUI still has them.

    python tools/core_names.py COMFYUI

COMFYUI is a folder of ComfyUI, of which nothing is run. The names come from the pack's own sources: what they import,
the attributes that they read of it, and how they call it. Ends with status 1 if something is missing.
Standard library only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACK = Path(__file__).resolve().parent.parent
FOLDERS = ("nodes", "motion_models", "sampling", "training", "evaluation", "old_workflows")
WITHOUT = "missing, and not needed there"
OPTIONAL = {"comfy.samplers.cast_transformer_options"}  # came with the work of several GPUs, which alone needs it
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


class Use(NamedTuple):
    """A name with its modules, and where it is called: the number of positional arguments and the keywords."""

    name: str
    file: str
    call: tuple[int, frozenset[str]] | None = None


SCHEDULE = frozenset({"beta_schedule", "linear_start", "linear_end", "timesteps", "zsnr"})
# Calls of methods of objects that the sources do not name the class of.
CALLS = (
    Use("comfy.model_sampling.ModelSamplingDiscrete._register_schedule", "schedules", (0, SCHEDULE)),
    Use("comfy.context_windows.IndexListContextHandler.get_resized_cond", "context_windows", (3, frozenset())),
)


class Sources:
    """The definitions in a folder of ComfyUI."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.members_by_module: dict[str, dict[str, ast.AST] | None] = {}

    def members(self, module: str) -> dict[str, ast.AST] | None:
        """Return what a module defines by name; None if there is no such module."""
        if module not in self.members_by_module:
            path = self.folder / module.replace(".", "/")
            file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
            self.members_by_module[module] = None if file is None and not path.is_dir() else {}
            if file is not None:
                self.members_by_module[module] = dict(self.definitions(parsed(file), module, file.stem == "__init__"))
        return self.members_by_module[module]

    def definitions(self, tree: ast.AST, module: str, package: bool) -> Iterator[tuple[str, ast.AST]]:
        """Yield the names of a module or class, with an import's full name in place of the import."""
        for node in statements(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield node.name, node
                if isinstance(node, ast.ClassDef):
                    node.module = module  # type: ignore[attr-defined]
            elif isinstance(node, ast.Import):
                yield from ((alias.asname or alias.name.split(".")[0], ast.Name(alias.name)) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = imported_from(node, module, package)
                for alias in node.names:
                    if alias.name == "*":
                        yield from (self.members(origin) or {}).items()
                    else:
                        yield alias.asname or alias.name, ast.Name(f"{origin}.{alias.name}")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
                yield from ((name.id, node) for name in names)

    def find(self, name: str) -> ast.AST | None:
        """Return the definition of a name with its modules; an empty ast.Name for what lies outside of ComfyUI."""
        parts = name.split(".")
        if self.members(parts[0]) is None:
            return ast.Name("")
        depth = max(i for i in range(1, len(parts) + 1) if self.members(".".join(parts[:i])) is not None)
        module = ".".join(parts[:depth])
        found: ast.AST | None = ast.Module([], [])
        members = self.members(module) or {}
        for i, part in enumerate(parts[depth:], start=depth):
            found = members.get(part)
            if isinstance(found, ast.Name) and found.id:  # imported from elsewhere
                return self.find(".".join([found.id, *parts[i + 1 :]]))
            if not isinstance(found, ast.ClassDef):
                known = (
                    found is None or i + 1 == len(parts) or isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef))
                )
                return found if known else ast.Name("")  # an attribute of a value says nothing here
            members = self.class_members(found)
        return found

    def class_members(self, node: ast.ClassDef) -> dict[str, ast.AST]:
        """Return the methods, fields and attributes of a class and its bases; bases elsewhere may hold anything."""
        module: str = node.module  # type: ignore[attr-defined]
        members: dict[str, ast.AST] = {}
        for base in reversed(node.bases):
            origin = self.find(f"{module}.{ast.unparse(base)}")
            members |= self.class_members(origin) if isinstance(origin, ast.ClassDef) else {}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and is_self(part.value):
                members[part.attr] = part
        return members | dict(self.definitions(node, module, package=False))


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module or class, and those under `if`, `try` and `with`."""
    for node in getattr(tree, "body", []):
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from statements(node)
            for branch in (*getattr(node, "handlers", []), *getattr(node, "orelse", [])):
                yield branch
                yield from statements(branch)


def imported_from(node: ast.ImportFrom, module: str, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    return ".".join([*parts[: len(parts) - node.level + package], *filter(None, [node.module])])


def uses(files: Iterable[Path], comfyui: Sources) -> Iterator[Use]:
    """Yield what the pack's files import from ComfyUI, and read and call of it."""
    for file in files:
        tree = parsed(file)
        names = dict(imports(tree, comfyui))
        yield from (Use(name, file.stem) for name in names.values())
        yield from of_names(tree, names, file)
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                typed = {
                    argument.arg: full_name(argument.annotation, names)
                    for argument in (*function.args.args, *function.args.kwonlyargs)
                }
                yield from of_names(function, {name: kind for name, kind in typed.items() if kind}, file)


def imports(tree: ast.AST, comfyui: Sources) -> Iterator[tuple[str, str]]:
    """Yield the names that a file imports from ComfyUI, and what they stand for."""
    for node in ast.walk(tree):
        aliases = node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        for alias in aliases:
            module = node.module if isinstance(node, ast.ImportFrom) else alias.name
            if getattr(node, "level", 0) or not module or comfyui.members(module.split(".")[0]) is None:
                continue
            if isinstance(node, ast.ImportFrom):
                yield alias.asname or alias.name, f"{module}.{alias.name}"
            else:
                top = module.split(".")[0]
                yield alias.asname or top, module if alias.asname else top


def of_names(tree: ast.AST, names: dict[str, str], file: Path) -> Iterator[Use]:
    """Yield the uses of names that stand for something of ComfyUI."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := full_name(node.func, names)):
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            yield Use(name, file.stem, (0 if starred else len(node.args), keywords))
        elif isinstance(node, ast.Attribute) and (name := full_name(node, names)):
            yield Use(name, file.stem)


def full_name(node: ast.AST | None, names: dict[str, str]) -> str | None:
    """Return the name with its modules that an expression such as `comfy.utils.ProgressBar` stands for."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, names)):
        return f"{owner}.{node.attr}"
    return None


def outgrown(file: Path, comfyui: Sources) -> Iterator[tuple[str, str, str]]:
    """Yield the methods by which the pack's classes replace ComfyUI's, and what is wrong with them."""
    tree = parsed(file)
    names = dict(imports(tree, comfyui))
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for base in filter(None, (full_name(base, names) for base in node.bases)):
            for own in (own for own in node.body if isinstance(own, ast.FunctionDef) and own.name != "__init__"):
                core = comfyui.find(f"{base}.{own.name}")
                if isinstance(core, ast.FunctionDef) and own.args.vararg is None:
                    count, core_count = len(own.args.args), len(core.args.args)
                    wrong = f"gives {core_count} arguments, not {count}" if core_count > count else ""
                    yield f"{base}.{own.name}", file.stem, wrong


def problem(use: Use, comfyui: Sources) -> str:
    """Return what is wrong with a use, or nothing."""
    definition = comfyui.find(use.name)
    if definition is None:
        return WITHOUT if use.name in OPTIONAL else "missing"
    if use.call is None or isinstance(definition, ast.Name):
        return ""
    made = isinstance(definition, ast.ClassDef)
    if isinstance(definition, ast.ClassDef):
        definition = comfyui.class_members(definition).get("__init__")
    if not isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ""
    arguments, (count, keywords) = definition.args, use.call
    taken = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    taken = taken[1:] if made or taken[:1] in (["self"], ["cls"]) else taken
    if unknown := sorted(keywords - {*taken, *(a.arg for a in arguments.kwonlyargs)}) if not arguments.kwarg else []:
        return f"does not take {', '.join(unknown)}"
    if count > len(taken) and arguments.vararg is None:
        return f"takes {len(taken)} arguments, not {count}"
    return ""


def missing_words(comfyui: Sources) -> Iterator[tuple[str, str, str]]:
    """Yield the keys and attributes of WORDS, and whether their files have them."""
    for name, words in WORDS.items():
        file = comfyui.folder / name
        present = set(texts(parsed(file))) if file.is_file() else set()
        yield from ((name, word, "" if word in present else "missing") for word in words)


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield all names, attributes and texts of a file."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "value"):
            if isinstance(text := getattr(node, field, None), str):
                yield text


def table(folder: Path) -> list[tuple[str, str, str]]:
    """Return rows of a name in ComfyUI, where the pack uses it, and what is wrong with it."""
    comfyui = Sources(folder)
    files = [PACK / "__init__.py", *(file for name in FOLDERS for file in sorted((PACK / name).rglob("*.py")))]
    rows = {(use.name, use.file, problem(use, comfyui)) for use in (*uses(files, comfyui), *CALLS)}
    return sorted(rows.union(missing_words(comfyui), *(outgrown(file, comfyui) for file in files)))


def main(words: list[str]) -> int:
    if len(words) != 1 or not Path(words[0], "comfy").is_dir():
        sys.exit("Say which folder holds ComfyUI, as in: python tools/core_names.py ../..")
    rows = table(Path(words[0]))
    width, files = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, file, wrong in rows:
        print(f"{name:<{width}}  {file:<{files}}  {wrong or 'there'}")
    wrong = sum(row[2] not in ("", WITHOUT) for row in rows)
    print(f"\n{wrong} of {len(rows)} are not as the pack needs them.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
