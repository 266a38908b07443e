"""What a test leaves behind: lines in the log, the features, the picture of ranking lists."""

import logging
from collections.abc import Mapping
from pathlib import Path

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.evaluation import DatasetEvaluator

from icre.engine.tensorboard import show_picture
from icre.evaluation import records
from icre.evaluation.evaluator import ProtocolEvaluator
from icre.plots.ranking import save_rankings

logger = logging.getLogger("fastreid.icre")


def report(title: str, evaluator: DatasetEvaluator, results: Mapping[str, float]) -> list[dict]:
    """Show what an evaluator found, and return its records; fast-reid's own evaluator has none."""
    if not isinstance(evaluator, ProtocolEvaluator):
        lines = "\n".join(f"{key}: {value:.2f}" for key, value in results.items())
        logger.info("%s, by fast-reid's evaluator:\n%s", title, lines)
        return []
    logger.info("%s\n%s", title, records.table(evaluator.records))
    return evaluator.records


def keep(cfg: CfgNode, name: str, evaluator: ProtocolEvaluator) -> None:
    """Write the features of data set `name` and the ranking picture into OUTPUT_DIR."""
    output, suffix = Path(cfg.OUTPUT_DIR), "" if len(cfg.DATASETS.TESTS) == 1 else f"_{name}"
    evaluator.features.save(output / f"features{suffix}.npz")
    picture = output / f"ranking{suffix}.png"
    save_rankings(
        evaluator.features,
        evaluator.records[0],
        evaluator.root,
        evaluator.permutation_file,
        picture,
    )
    show_picture(f"ranking/{name}", picture)
    logger.info("ranking lists: %s", picture)
