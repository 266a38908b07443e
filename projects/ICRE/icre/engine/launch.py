"""Starting one process per GPU, or several on a CPU; fast-reid's launcher knows CUDA only."""

import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.utils import comm

from icre.errors import UserError


def launch(
    main: Callable,
    num_gpus: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple = (),
) -> None:
    """Run `main(*args)` in one process, in `num_gpus` processes per machine, or under torchrun.

    Without CUDA the processes share the CPU and talk by gloo.

    Args:
        main: importable from the top of a module (the processes are spawned).
        num_gpus: processes on this machine.
        num_machines, machine_rank: as in fast-reid.
        dist_url: "auto" picks a free port, for one machine only.
        args: given to `main`.

    Raises:
        UserError: more processes than GPUs, or several machines without an address.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        _joined(main, args, "env://", rank, world, local_size)
        return
    gpus = torch.cuda.device_count()
    if torch.cuda.is_available() and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    if num_machines * num_gpus <= 1:
        main(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise UserError("--dist-url auto works on one machine only; give tcp://HOST:PORT")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    world = num_machines * num_gpus
    mp.spawn(_work, (main, world, num_gpus, machine_rank, dist_url, args), nprocs=num_gpus)


def _work(local_rank, main, world, num_gpus, machine_rank, dist_url, args) -> None:
    _joined(main, args, dist_url, machine_rank * num_gpus + local_rank, world, num_gpus)


def _joined(main, args, url: str, rank: int, world: int, local_size: int) -> None:
    """Run `main(*args)` as one rank of a process group, and leave the group in any case."""
    _join(url, rank, world, local_size)
    try:
        main(*args)
    finally:
        dist.destroy_process_group()


def _join(url: str, rank: int, world: int, local_size: int) -> None:
    """Join the process group, and tell fast-reid which ranks share this machine."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, init_method=url, rank=rank, world_size=world)
    for first in range(0, world, local_size):
        members = list(range(first, min(first + local_size, world)))
        group = dist.new_group(members)
        if rank in members:
            comm._LOCAL_PROCESS_GROUP = group
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % local_size)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
