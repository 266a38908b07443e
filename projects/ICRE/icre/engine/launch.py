"""Starting one process per GPU, or several on a CPU; fast-reid's launcher knows CUDA only."""

import argparse
import gc
import os
import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.engine.processes import run_processes
from icre.utils.device import one_gpu_each
from icre.utils.errors import UserError


def launch(main: Callable, args: argparse.Namespace, timeout: float, device: str = "auto") -> None:
    """Run `main(args)` in one process, in `args.num_gpus` per machine, or under torchrun.

    Each process has a GPU and talks by NCCL. On a CPU they share its threads and talk by gloo, and
    so do processes that share one GPU (cuda:N), which NCCL refuses.

    Args:
        main: importable from the top of a module (the processes are spawned).
        args: those of `icre.commands.arguments.add_launch`; the default address is for one machine.
        timeout: seconds that a process waits for the others before it fails.
        device: MODEL.DEVICE.

    Raises:
        UserError: more processes than GPUs, or several machines without an address.
        RunEnded: a process was killed or failed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        _joined(main, args, "env://", rank, world, local_size, timeout, device)
        return
    gpus, here, url = torch.cuda.device_count(), args.num_gpus, args.dist_url
    if here < 1 or (one_gpu_each(device) and here > gpus):
        raise UserError(
            f"--num-gpus {here}: this machine has {gpus}; with MODEL.DEVICE cpu the processes "
            "share the CPU, with cuda:0 one GPU"
        )
    world = args.num_machines * here
    if world == 1:
        main(args)
        return
    if url == "auto" and args.num_machines > 1:
        raise UserError("--dist-url auto works on one machine only; give tcp://HOST:PORT")
    threads = max(torch.get_num_threads() // here, 1)
    first = args.machine_rank * here
    # torch's store at an address would listen on all interfaces, and what ranks send each other is
    # unpickled: a file in a folder of this user's is reached by nobody else
    with tempfile.TemporaryDirectory(prefix="icre-") as private:
        local = url == "auto"
        url = f"file://{private}/ranks" if local else url
        run_processes(
            _work, here, (main, args, url, first, world, here, timeout, threads, local, device)
        )


def restarts() -> bool:
    """Whether torchrun starts all processes again after one has failed (--max-restarts)."""
    return os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"


def checks_input() -> bool:
    """Whether this process looks at the data before a launch; under torchrun one per machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def owns_output(args: argparse.Namespace) -> bool:
    """Whether this process, of all machines' first ones, is to lock OUTPUT_DIR."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return os.environ["RANK"] == "0"
    return getattr(args, "machine_rank", 0) == 0


def _work(
    local_rank, main, args, url, first, world, local_size, timeout, threads, local, device
) -> None:
    if local:
        _stay_on_loopback()
    if not one_gpu_each(device):
        torch.set_num_threads(threads)
    _joined(main, args, url, first + local_rank, world, local_size, timeout, device)


def _joined(
    main: Callable,
    args: argparse.Namespace,
    url: str,
    rank: int,
    world: int,
    local_size: int,
    timeout: float,
    device: str,
) -> None:
    """Run `main(args)` as one rank of a process group.

    Only success leaves the group in good order: a rank that fails just ends, or it would wait for
    the others.
    """
    _join(url, rank, world, local_size, timedelta(seconds=timeout), one_gpu_each(device))
    main(args)
    _leave()


def _join(
    url: str, rank: int, world: int, local_size: int, timeout: timedelta, own_gpu: bool
) -> None:
    """Join the process group, and tell fast-reid which ranks share this machine."""
    if own_gpu:
        torch.cuda.set_device(rank % local_size)
    backend = "nccl" if own_gpu else "gloo"
    if url == "env://":
        store, _, _ = next(dist.rendezvous(url, rank, world, timeout=timeout))
        if world == local_size:  # with --master-port the store keeps the addresses of dead ranks
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"attempt {attempt}", store)
        meeting = {"store": store}
    else:
        meeting = {"init_method": url}
    dist.init_process_group(backend, **meeting, rank=rank, world_size=world, timeout=timeout)
    for first in range(0, world, local_size):
        members = list(range(first, min(first + local_size, world)))
        group = dist.new_group(members, timeout=timeout)
        if rank in members:
            comm._LOCAL_PROCESS_GROUP = group


def _leave() -> None:
    """End the process group, and gloo's threads by dropping all that still refers to it.

    A thread that is left when Python ends aborts the process now and then: it needs the
    interpreter to free its last tensors.
    """
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()  # a trained model refers to it too, and to itself
    dist.destroy_process_group()


def _stay_on_loopback() -> None:
    """Let gloo and NCCL of this process listen on the loopback interface only."""
    names = {name for _, name in socket.if_nameindex()}
    for name in ("lo", "lo0"):
        if name in names:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
