"""Workflows that were made for other AnimateDiff packs.

`old_nodes.py` is a table of those packs' nodes. From it work the stand-in nodes, which ComfyUI's page swaps in for
missing ones (`stand_ins.py`, `replacements.py`), and the converter, which rewrites a workflow for this pack's nodes and
ComfyUI's own (`convert.py`).

A node is added by a row in `old_nodes.py`, and a row in `rewrites.py` if it has one counterpart, or else a function
that the converter calls.
"""
