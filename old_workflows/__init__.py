"""Workflows that were made for other AnimateDiff packs, rewritten for this one and for ComfyUI's own nodes."""
