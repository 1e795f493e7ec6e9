"""Check the tensors of a LoRA before ComfyUI combines them. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from torch import Tensor

from .formats import is_finite

# Forms of a change, by the ends of their keys; a form is complete or not there. A shape has a letter for each side, and
# a letter is one number in a layer: o and i are the layer's own outputs and inputs, r, s, t and u are ranks.
Form = Mapping[str, tuple[str, ...]]
PAIRS = (
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
)
FLATTENED: tuple[Form, ...] = (  # by ComfyUI, so that they may be written for a convolution of one pixel
    *({up: ("or",), down: ("ri",)} for up, down in PAIRS),
    {".a1.weight": ("iu", "ui"), ".a2.weight": ("ui", "iu"), ".b1.weight": ("ou", "ui"), ".b2.weight": ("ui", "ou")},
)
FORMS: tuple[Form, ...] = (
    *FLATTENED,
    {".hada_w1_a": ("os",), ".hada_w1_b": ("si",), ".hada_w2_a": ("ot",), ".hada_w2_b": ("ti",)},  # LoHa
    {".lokr_w1": ("ab",)},  # LoKr, whose factors may each be of two more: a * c is o, b * d is i
    {".lokr_w2": ("cd",)},
    {".lokr_w1_a": ("as",), ".lokr_w1_b": ("sb",)},
    {".lokr_w2_a": ("ct",), ".lokr_w2_b": ("td",)},
    {".oft_blocks": ("knn",)},  # k * n is o
)
SCALARS = {".alpha": ("", "1"), ".reshape_weight": ("2",)}
EXTRAS: Form = {
    ".lora_mid.weight": ("rr11",),
    ".dora_scale": ("o1", "1i"),
    ".rescale": ("o1", "o"),
    **SCALARS,
}
UNKNOWN = (".hada_t1", ".hada_t2", ".lokr_t2")  # for convolutions, of which a motion module has none
LARGEST_RANK = 4096


class UnusableKey(Exception):
    """A key of a LoRA, and what is wrong with it."""

    def __init__(self, key: str, fault: str, misfit: bool = False):
        super().__init__(key, fault)
        self.key, self.fault, self.misfit = key, fault, misfit


def check_layer(lora: Mapping[str, Tensor], layer: str, shape: tuple[int, ...]) -> None:
    """Raise UnusableKey if the changes of a layer, whose weight has this shape, are incomplete or unusable."""
    rows = {end: shapes for form in forms_of(lora, layer) for end, shapes in form.items()}
    for key in (layer + end for end in rows if layer + end not in lora):
        raise UnusableKey(key, "is missing")
    if not rows:
        return
    rows |= {end: shapes for end, shapes in EXTRAS.items() if layer + end in lora}
    for key in (layer + end for end in UNKNOWN if layer + end in lora):
        raise UnusableKey(key, "is for convolutions", misfit=True)
    for end in rows:
        check_numbers(lora[layer + end], layer + end, end in SCALARS)
    check_shapes(lora, layer, rows=rows, shape=shape)


def forms_of(lora: Mapping[str, Tensor], layer: str) -> Iterator[Form]:
    """Yield the forms of which a layer has a part, and those that they need."""
    parts = [form for form in FORMS if any(layer + end in lora for end in form)]
    yield from parts
    factors = {end[:8] for form in parts for end in form if end.startswith(".lokr_w")}
    yield from ({end: ()} for end in (".lokr_w1", ".lokr_w2") if factors and end not in factors)


def check_numbers(tensor: Tensor, key: str, scalar: bool) -> None:
    if not (tensor.is_floating_point() or (scalar and not tensor.is_complex())):
        raise UnusableKey(key, f"holds {str(tensor.dtype).removeprefix('torch.')} values")
    if not is_finite(tensor):
        raise UnusableKey(key, "holds NaN or infinite values")


def check_shapes(lora: Mapping[str, Tensor], layer: str, rows: Form, shape: tuple[int, ...]) -> None:
    """Raise UnusableKey for the first key whose shape disagrees with those before it."""
    sides = [dict(zip("oi", shape, strict=True))]
    for end, shapes in rows.items():
        tensor = lora[layer + end]
        size = list(tensor.shape)
        while any(end in form for form in FLATTENED) and len(size) > 2 and size[-1] == 1:
            size.pop()
        sides = [joined for side, letters in product(sides, shapes) for joined in agreeing(side, letters, size)]
        if not sides or (end == ".reshape_weight" and tensor.tolist() != list(shape)):
            raise UnusableKey(layer + end, f"is {' x '.join(map(str, tensor.shape)) or 'one number'}", misfit=True)


def agreeing(sides: Mapping[str, int], letters: str, size: list[int]) -> Iterator[dict[str, int]]:
    """Yield the sides with those of one more tensor, if its letters can stand for its size."""
    joined = {**sides, **{letter: side for letter, side in zip(letters, size, strict=False) if letter not in sides}}
    fits = len(size) == len(letters) and all(
        side == (int(letter) if letter.isdigit() else joined[letter])
        for letter, side in zip(letters, size, strict=True)
    )
    products = (("ac", "o"), ("bd", "i"), ("kn", "o"))
    whole = all(
        joined[one] * joined[two] == joined[side] for (one, two), side in products if one in joined and two in joined
    )
    if fits and whole and all(0 < side <= LARGEST_RANK for letter, side in joined.items() if letter in "rstu"):
        yield joined
