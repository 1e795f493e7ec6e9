"""Workflows that were made for other AnimateDiff packs.

`old_nodes.py` and `common_packs.py` are a table of those packs' nodes. `convert.py` rewrites a workflow for this pack's
nodes and ComfyUI's own: a node with one counterpart by its row, any other by a rule, which places new nodes and returns
what gives the old node's outputs now. ComfyUI's page swaps in stand-in nodes for missing ones (`replacements.py`,
`stand_ins.py`), and when these run, they expand into what the same rules write.

A node is added by a row, and by a rule if it has more than one counterpart.
"""
