"""The motion model and its files: architecture, key layouts, formats, loading, LoRAs, merging and saving."""
