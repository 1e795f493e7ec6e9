"""A pack whose requirements are not installed."""

import a_library_that_nobody_installed  # noqa: F401  # type: ignore[import-not-found]

NODE_CLASS_MAPPINGS = {}
