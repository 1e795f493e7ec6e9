"""Sliding Context passes every setting on to the windows."""

from __future__ import annotations

from node_support import run

from animatediff_native.sampling.context_windows import ContextOptions


def test_every_input_reaches_the_windows(adn, model):
    """None of the values is a default."""
    windowed = run(
        adn["ADN_SlidingContext"],
        model=model,
        context_length=12,
        context_overlap=3,
        schedule="looped",
        fuse="flat",
        context_stride=2,
        within="motion module",
        windows_at_once=5,
        free_noise=False,
        start_percent=0.25,
        reference=0.5,
    )
    (options,) = windowed.model_options["context_handler"].options
    assert options == ContextOptions(
        length=12,
        overlap=3,
        schedule="looped",
        fuse="flat",
        stride=2,
        within="motion module",
        at_once=5,
        free_noise=False,
        start_percent=0.25,
        reference=0.5,
    )
