"""A training as a run of Weights & Biases."""

import functools
import logging
import netrc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from icre.engine.trackers.tracker import DEFAULT_PROJECT, FINISHED, without_secrets
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")
FINISH_TIMEOUT = 600.0  # seconds; by itself wandb waits for ever for a network that is gone
STEP = "iteration"  # name of the x-axis, as in scalars.json


class WandbRun:
    """A `Tracker`; wandb's own environment variables keep their meaning.

    The step is a scalar of its own and the x-axis of all others: wandb's steps must grow, and a
    resumed training begins at its checkpoint, before the last step that was logged.

    Args:
        run: its folder takes wandb's files (WANDB_DIR: another one) and gives the run its name.
        config: {dotted key: value}.
        known: `id` of the run that goes on; None: a new one.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], known: str | None):
        import wandb

        # an argument would overrule the variable
        free = {
            "dir": None if "WANDB_DIR" in os.environ else str(run.path),
            "name": None if "WANDB_NAME" in os.environ else run.path.resolve().name,
            "project": None if "WANDB_PROJECT" in os.environ else DEFAULT_PROJECT,
        }
        settings: dict[str, Any] = {"console": "off"}  # log.txt has it
        if "WANDB_FINISH_TIMEOUT" not in os.environ:
            settings["finish_timeout"] = FINISH_TIMEOUT
        start = functools.partial(
            wandb.init,
            **free,
            config=dict(config),
            id=known,
            resume="allow" if known else None,
            allow_val_change=True,  # keys that a resumed training may change
            reinit="create_new",  # leaves a run alone that the caller has open
            settings=wandb.Settings(**settings),
        )
        if "WANDB_MODE" in os.environ:
            self._run = start()
        elif has_login():
            self._run = _online_or_offline(start)
        else:
            self._run = start(mode="offline")
        self.id = self._run.id
        self.place = f"offline, {self._run.dir}" if self._run.offline else str(self._run.url)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """One line of wandb's history."""
        self._run.log({**scalars, STEP: step})

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """Fields of wandb's summary."""
        self._run.summary.update(dict(scores))

    def end(self, status: str) -> None:
        """Wait until all is written, or sent."""
        self._run.finish(exit_code=0 if status == FINISHED else 1)


def _online_or_offline(start: Callable[..., Any]) -> Any:
    """What `start` returns: offline where wandb cannot be reached or refuses the login."""
    try:
        return start()
    except Exception as error:
        text = without_secrets(" ".join(str(error).split()))[:300]
        logger.warning("wandb cannot go online (%s): it writes offline", text)
        return start(mode="offline")


def has_login() -> bool:
    """Whether an API key or identity token of wandb's is configured on this machine."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(file.expanduser()).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
