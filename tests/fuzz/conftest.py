"""The pack's nodes and small models, as fixtures."""

from node_fixtures import (
    adn,
    animated,
    apply,
    installed,
    load_motion,
    model,
    motion,
    motion_folder,
)

__all__ = ["adn", "animated", "apply", "installed", "load_motion", "model", "motion", "motion_folder"]
