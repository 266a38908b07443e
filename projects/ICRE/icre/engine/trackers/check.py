"""Whether the trackers of a config can be used, asked before a training starts."""

import importlib
import os

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.utils.errors import UserError

# tracker, which is also the name of the extra in setup.py -> modules, and what each must have: a
# folder wandb/ in the current folder is a module without anything
_MODULES = {"wandb": {"wandb": "init"}, "mlflow": {"mlflow": "MlflowClient"}}
_SQLITE = {"sqlalchemy": "create_engine", "alembic": "context"}  # of MLflow's local store


def check_trackers(cfg: CfgNode) -> None:
    """Refuse TRACKERS that name one twice, or one whose package is missing.

    Raises:
        UserError: names the tracker, and the command that installs its package.
    """
    names = list(cfg.TRACKERS)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"TRACKERS names {name} twice: {', '.join(names)}")
        modules = dict(_MODULES.get(name, {}))
        if name == "mlflow" and not os.environ.get("MLFLOW_TRACKING_URI"):
            modules |= _SQLITE
        for module, attribute in modules.items():
            _require(name, module, attribute)


def _require(name: str, module: str, attribute: str) -> None:
    cure = f"run pip install 'icre[{name}]', or take {name} out of TRACKERS"
    try:
        found = hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise UserError(
            f"TRACKERS: {name} needs {missing}, which is not installed: {cure}"
        ) from None
    except Exception as error:  # an installation that does not work
        text = " ".join(str(error).split())[:150]
        raise UserError(
            f"TRACKERS: {module} cannot be imported ({type(error).__name__}: {text}): {cure}"
        ) from error
    if not found:
        raise UserError(f"TRACKERS: {name} needs {module}, which is not installed: {cure}")
