"""The trackers of a training, as one fast-reid EventWriter."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.evaluation.testing import flatten_results_dict
from fastreid.utils import comm
from fastreid.utils.events import EventWriter, TensorboardXWriter, get_event_storage

from icre.engine.trackers.mlflow_run import MlflowRun
from icre.engine.trackers.tracker import FAILED, FINISHED, STOPPED, Tracker, without_secrets
from icre.engine.trackers.wandb_run import WandbRun
from icre.runs.resume import flat
from icre.utils.errors import RunEnded, UserError
from icre.utils.files import read_json, replaced
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")

TENSORBOARD = "tensorboard"
# name -> run(RunFolder, {dotted key: value}, id of the run that goes on or None)
SERVICES: dict[str, Callable[[RunFolder, Mapping[str, Any], str | None], Tracker]] = {
    "wandb": WandbRun,
    "mlflow": MlflowRun,
}
TRACKERS = (TENSORBOARD, *SERVICES)


class Trackers(EventWriter):
    """Writes scalars, config and final scores to every service that TRACKERS names.

    Only the first rank writes. A service that raises is left out after one warning: it never ends
    the training.

    Args:
        cfg: TRACKERS and OUTPUT_DIR are read; all of it is logged.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg
        self._open: dict[str, Tracker] = {}
        self._last_write = -1

    @contextmanager
    def running(self, first_step: int) -> Iterator[None]:
        """Open the runs, and close them with the way in which the block ends.

        Args:
            first_step: of the training, from 0. 0: new runs; else those of the folder go on.
        """
        self._last_write = first_step - 1
        names = [name for name in self.cfg.TRACKERS if name in SERVICES]
        if names and comm.is_main_process():
            self._start(names, resumed=first_step > 0)
        status = FAILED
        try:
            yield
            status = FINISHED
        except (RunEnded, KeyboardInterrupt):
            status = STOPPED
            raise
        finally:
            self._each(lambda tracker: tracker.end(status))
            self._open.clear()

    def writers(self, first_step: int) -> list[EventWriter]:
        """What writes for TRACKERS: fast-reid's writer of TensorBoard events, and this one."""
        if TENSORBOARD not in self.cfg.TRACKERS:
            return [self]
        events = TensorboardXWriter(self.cfg.OUTPUT_DIR, purge_step=first_step or None)
        return [events, self]

    def write(self) -> None:
        """Log the scalars that are new, each at its own step; called by a PeriodicWriter."""
        storage = get_event_storage()
        if TENSORBOARD not in self.cfg.TRACKERS:
            storage.clear_images()  # which its writer does
        new: dict[int, dict[str, float]] = {}
        for name, (value, step) in storage.latest_with_smoothing_hint().items():
            if step > self._last_write:
                new.setdefault(step, {})[name] = float(value)
        for step in sorted(new):
            self._each(lambda tracker, step=step: tracker.log(new[step], step))
            self._last_write = step

    def finish(self, results: Mapping[str, Any]) -> Any:
        """Log what the training returns, as test/<name>, and return it."""
        scores = {f"test/{k}": float(v) for k, v in flatten_results_dict(results).items()}
        if scores:
            self._each(lambda tracker: tracker.result(scores, self._last_write))
        return results

    def _start(self, names: Sequence[str], resumed: bool) -> None:
        run = RunFolder(self.cfg.OUTPUT_DIR)
        config = flat(yaml.safe_load(self.cfg.dump()))
        ids = _read_ids(run) if resumed else {}
        for name in names:
            try:
                tracker = SERVICES[name](run, config, ids.get(name))
            except Exception as error:
                self._leave_out(name, error)
                continue
            verb = "going on with" if ids.get(name) == tracker.id else "new"
            logger.info("%s: %s run %s, %s", name, verb, tracker.id, without_secrets(tracker.place))
            self._open[name], ids[name] = tracker, tracker.id
        with replaced(run.trackers) as file:
            file.write_text(json.dumps(ids, indent=1) + "\n")

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in [*self._open.items()]:
            try:
                act(tracker)
            except Exception as error:
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        text = without_secrets(" ".join(str(error).split()))[:300]
        logger.warning(
            "tracker %s failed (%s: %s): the training goes on without it",
            name,
            type(error).__name__,
            text,
        )


def _read_ids(run: RunFolder) -> dict[str, str]:
    """{tracker: id of its run} of a folder; empty if there is no such file or it is damaged."""
    try:
        found = read_json(run.trackers)
    except (UserError, OSError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
