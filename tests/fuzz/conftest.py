"""The pack's nodes and small models, as fixtures."""

from node_fixtures import *  # noqa: F403
