"""Connect to a Ray cluster, or start one on this machine, and check it before any work."""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icre.cluster.probe import check_machines
from icre.utils.errors import UserError

REACH_SECONDS = 5.0  # to open a connection to an address
JOIN_SECONDS = 20.0  # to connect as a Ray driver
# Read when Ray is imported. Statistics of use would go to another host; a slow or busy machine
# needs longer than Ray's 30 s to start; work has the priority of the command, where Ray gives it a
# lower one; without a GPU, Ray is not to touch CUDA_VISIBLE_DEVICES.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_JOIN = """import logging, sys, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"""


@dataclass(frozen=True)
class Machine:
    """A machine of a cluster that may be given work.

    Attributes:
        node: Ray's id of it.
        host: its name.
        cpus, gpus: what Ray gives out of it.
    """

    node: str
    host: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """The machines that are given work, each checked.

    Attributes:
        machines: at least one; where work is to run on GPUs, those that have some.
        on_gpu: each piece of work gets a GPU.
    """

    machines: tuple[Machine, ...]
    on_gpu: bool

    @property
    def cpus(self) -> int:
        """CPUs of all machines."""
        return sum(one.cpus for one in self.machines)

    @property
    def gpus(self) -> int:
        """GPUs of all machines."""
        return sum(one.gpus for one in self.machines)

    def share(self, at_a_time: int = 1) -> dict[str, int]:
        """Ray's resources of one piece of work.

        Args:
            at_a_time: on each machine, without GPUs; with GPUs one runs on each.

        Returns:
            `num_cpus` that every machine has, and `num_gpus`.
        """
        if self.on_gpu:
            cpus = min(one.cpus // one.gpus for one in self.machines)
            return {"num_cpus": max(cpus, 1), "num_gpus": 1}
        return {"num_cpus": max(min(one.cpus for one in self.machines) // at_a_time, 1)}


def one_device(names: Iterable[str]) -> str:
    """MODEL.DEVICE of several pieces of work, which Ray gives the same resources.

    Raises:
        UserError: they differ.
    """
    found = sorted(set(names))
    if len(found) > 1:
        raise UserError(
            f"MODEL.DEVICE is {' and '.join(found)} in different runs: with --cluster set one, "
            "such as --options MODEL.DEVICE auto"
        )
    return found[0]


@contextmanager
def connected(address: str, folder: Path, device: str = "auto") -> Iterator[Cluster]:
    """While entered, this process is a driver of a Ray cluster.

    Args:
        address: HOST:PORT of a running cluster that this machine belongs to; `auto`: that in
            RAY_ADDRESS, or else one that is started here and ends with the block; `local`: the
            latter.
        folder: that results are written to; every machine must see it, and the current folder,
            under the same path.
        device: MODEL.DEVICE: `cuda` needs a GPU, `auto` takes GPUs where the cluster has some.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, has no GPU, or one of its
            machines lacks this version of icre or does not see `folder`.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"device {device}: with --cluster Ray chooses the GPU: name auto, cuda or cpu"
        )
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    ray = _ray(address)
    try:
        _start(ray, address)
        machines = _machines(ray, address, device)
        with _witness(folder) as (file, content):
            check_machines([(one.node, one.host) for one in machines], file, content)
        yield Cluster(tuple(machines), any(one.gpus for one in machines) and device != "cpu")
    finally:
        ray.shutdown()


def _ray(address: str) -> Any:
    """Import Ray, which reads the token mode then: once an address is known to be a cluster."""
    if not _is_installed():
        raise UserError("--cluster needs Ray: pip install 'icre[cluster]'")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local":  # Ray listens on the network: others need its token
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    else:
        _check_address(address)
    import ray

    return ray


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("ray") is not None
    except ValueError:  # None stands in its place
        return False


def _start(ray: Any, address: str) -> None:
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False}
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises several kinds
        raise UserError(f"--cluster {address}: Ray does not start: {_first_line(error)}") from error


def _check_address(address: str) -> None:
    """Find what Ray would wait minutes for: nobody answers, or it is no cluster of this Ray."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        raise UserError(
            f"--cluster {address}: name auto, local or HOST:PORT of the cluster's head (with 6379, "
            "Ray's default port), and run the command on a machine of the cluster"
        )
    cure = "start it there with 'ray start --head', or name --cluster local"
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--cluster {address}: nobody answers ({error}): {cure}") from None
    words = [sys.executable, "-c", _JOIN, address]
    try:
        joined = subprocess.run(words, capture_output=True, text=True, timeout=JOIN_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"--cluster {address}: it does not answer as a Ray cluster within {JOIN_SECONDS:.0f} "
            f"s: if it asks for a token, set RAY_AUTH_MODE=token; else {cure}"
        ) from None
    if joined.returncode:
        reason = _first_line(joined.stderr.strip().rpartition("\n")[2])
        raise UserError(
            f"--cluster {address}: this process cannot join it ({reason}): the same versions of "
            "Python and Ray and the same ~/.ray/auth_token are needed, and on this machine 'ray "
            f"start --address {address}'"
        )


def _machines(ray: Any, address: str, device: str) -> list[Machine]:
    found = [
        Machine(
            node["NodeID"],
            node["NodeManagerHostname"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    with_gpu = [one for one in found if one.gpus]
    if device == "cuda" and not with_gpu:
        raise UserError(
            f"--cluster {address}: device cuda, and none of its {len(found)} machines has a GPU "
            "that Ray knows: start Ray there with --num-gpus, or name device cpu"
        )
    working = with_gpu if with_gpu and device != "cpu" else [one for one in found if one.cpus]
    if not working:
        raise UserError(
            f"--cluster {address}: none of its {len(found)} machines gives CPUs: start Ray on a "
            "machine with --num-cpus"
        )
    return working


@contextmanager
def _witness(folder: Path) -> Iterator[tuple[str, str]]:
    """A file in `folder` for as long as all machines look for it: (absolute path, content)."""
    content = os.urandom(16).hex()
    file = Path(os.path.abspath(folder)) / f".cluster-{content}"
    made = [one for one in (file.parent, *file.parent.parents) if not one.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    try:
        yield str(file), content
    finally:
        file.unlink(missing_ok=True)
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
