"""Motion modules: what a file is, the temporal transformer, and how ComfyUI's UNet runs it."""
