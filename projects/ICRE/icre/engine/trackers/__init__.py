"""Experiment trackers: TRACKERS names where a training's scalars go besides scalars.json."""

from icre.engine.trackers.check import check_trackers
from icre.engine.trackers.trackers import Trackers

__all__ = ["Trackers", "check_trackers"]
