"""Sampling of clips: the run-time, strength, windows, noise, prompts over time, previews."""
