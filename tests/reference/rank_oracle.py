"""The slow side of the ranking tests: one query, one gallery image at a time.

`loop_protocol` (which `benchmark protocol` times too) is the field's way of scoring whole
protocols; `query_by_hand` is plainer still and states each definition in its own words.
"""

from reference.loop_protocol import loop_evaluate, loop_score

__all__ = ["loop_evaluate", "loop_score", "query_by_hand"]


def query_by_hand(
    distances: list[float], pids: list[int], barred: list[bool], pid: int, dedup: bool
) -> tuple[int, float, float] | None:
    """(place of the first hit, AP, INP) of one query, or None without a match."""
    ranking = sorted(
        (place for place in range(len(pids)) if not barred[place]),
        key=lambda place: (distances[place], place),
    )
    hit_ranks = [rank for rank, place in enumerate(ranking, start=1) if pids[place] == pid]
    if not hit_ranks:
        return None
    precisions = [hits / rank for hits, rank in enumerate(hit_ranks, start=1)]
    ahead = [pids[place] for place in ranking[: hit_ranks[0] - 1]]
    place = 1 + (len(set(ahead)) if dedup else len(ahead))
    return place, sum(precisions) / len(precisions), len(hit_ranks) / hit_ranks[-1]
