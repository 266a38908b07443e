"""A training as a run of MLflow."""

import os
import re
import time
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from icre.engine.trackers.tracker import DEFAULT_PROJECT, FAILED, FINISHED, STOPPED
from icre.utils.run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
PARAMS_IN_A_BATCH = 100  # MLflow's limits
LONGEST_PARAM = 500  # characters; servers before 2.10 take no more


class MlflowRun:
    """A `Tracker`; MLflow's own environment variables keep their meaning.

    Without MLFLOW_TRACKING_URI it writes to mlflow.db, an SQLite file in the run folder. MLflow's
    global state (active run, tracking address) is not touched.

    Args:
        run: gives the run its name.
        config: {dotted key: value}, its parameters.
        known: `id` of the run that goes on; None: a new one.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], known: str | None):
        from mlflow import MlflowClient

        address = local = None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder = run.path.resolve()
            address, local = f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlartifacts").as_uri()
        self._client = MlflowClient(tracking_uri=address)
        if known:
            self._client.update_run(known, status="RUNNING")
            self.id = known
        else:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or _experiment(self._client, local)
            name = run.path.resolve().name
            self.id = self._client.create_run(experiment, run_name=name).info.run_id
        self.place = address or os.environ["MLFLOW_TRACKING_URI"]
        self._log_params(config)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Metrics of a step, in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """Metrics of the last step."""
        self.log(scores, step)

    def end(self, status: str) -> None:
        """Set the run's status."""
        self._client.set_terminated(self.id, STATUS[status])

    def _log_params(self, config: Mapping[str, Any]) -> None:
        """Those that the run lacks: MLflow refuses to change one."""
        from mlflow.entities import Param

        present = self._client.get_run(self.id).data.params
        new = (
            Param(_allowed(key), _shortened(str(value)))
            for key, value in config.items()
            if _allowed(key) not in present
        )
        while batch := list(islice(new, PARAMS_IN_A_BATCH)):
            self._client.log_batch(self.id, params=batch)


def _experiment(client: "MlflowClient", artifacts: str | None) -> str:
    """Id of the experiment, which is created if it is not there."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_PROJECT
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except Exception:  # another run may have created it just now
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _allowed(name: str) -> str:
    """`name` without what MLflow refuses in names."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def _shortened(value: str) -> str:
    return value if len(value) <= LONGEST_PARAM else f"{value[: LONGEST_PARAM - 3]}..."
