"""Checkpoints of public codes: what their training scripts write, as ours.

One file per source says which network it is, how its images are prepared and tested, and what its
weights are called here. Nothing in a file is run, and none of the public codes is needed.
"""

from icre.runs.public import agw, caj, deen, mpanet
from icre.runs.public.source import Source, read_public

SOURCES: dict[str, Source] = {
    source.name: source for source in (agw.SOURCE, caj.SOURCE, deen.SOURCE, mpanet.SOURCE)
}

__all__ = ["SOURCES", "Source", "read_public"]
