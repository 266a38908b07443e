"""Ask every machine of a cluster whether it can do this project's work."""

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import icre
from icre.utils.errors import UserError

ANSWER_SECONDS = 60.0  # includes the start of a process on each machine


def check_machines(machines: Sequence[tuple[str, str]], file: str, content: str) -> None:
    """Ask all machines at once.

    Args:
        machines: (Ray's id, name) of each.
        file, content: that each must read; and each must have the current folder.

    Raises:
        UserError: names the first machine that does not answer, lacks this package, has other
            sources of it, or does not see the file.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_question())
    answers = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            file, os.getcwd()
        )
        for node, _ in machines
    ]
    done, _ = ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)
    for (_, host), answer in zip(machines, answers):
        if answer not in done:
            raise UserError(
                f"machine {host} of the cluster does not answer within {ANSWER_SECONDS:.0f} s: "
                "restart Ray on it, or take it out of the cluster"
            )
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError as error:
            line = str(error).strip().splitlines()[-1]
            raise UserError(f"machine {host} of the cluster cannot work ({line})") from None
        _judge(host, found, file, content)


def sources(folder: str | Path) -> str:
    """Checksum of a package's Python files."""
    total = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.py")):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _question() -> Any:
    """The function that a machine runs; as a local one it is sent as code, which needs no icre."""

    def answer(file: str, folder: str) -> dict[str, Any]:
        import os

        found: dict[str, Any] = {"content": None, "folder": os.path.isdir(folder)}
        try:
            with open(file) as opened:
                found["content"] = opened.read()
        except OSError as error:
            found["fault"] = str(error)
        try:
            import icre
            from icre.cluster.probe import sources

            found["version"] = icre.__version__
            found["sources"] = sources(os.path.dirname(icre.__file__))
        except Exception as error:
            found["missing"] = f"{type(error).__name__}: {error}"
        return found

    return answer


def _judge(host: str, found: dict[str, Any], file: str, content: str) -> None:
    where = f"machine {host} of the cluster"
    if "missing" in found:
        raise UserError(
            f"{where} has no usable icre ({found['missing'][:200]}): install icre "
            f"{icre.__version__} into the Python {platform.python_version()} that Ray runs there"
        )
    if found["version"] != icre.__version__:
        raise UserError(
            f"{where} has icre {found['version']}, this one {icre.__version__}: install the same "
            "version there"
        )
    if found["sources"] != sources(os.path.dirname(icre.__file__)):
        raise UserError(
            f"{where} has other sources of icre {icre.__version__} than this one: install the "
            "same commit there"
        )
    if found["content"] != content:
        raise UserError(
            f"{where} does not see what this one writes to {os.path.dirname(file)}: results need "
            "a folder on a file system that all machines share under one path"
        )
    if not found["folder"]:
        raise UserError(
            f"{where} has no folder {os.getcwd()}: run the command in one that all machines share"
        )
