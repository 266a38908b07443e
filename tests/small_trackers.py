"""Stand-ins for wandb and mlflow, and what the real ones have written without a network."""

import struct
import sys
import time
import types
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

VARIABLES = ("WANDB_", "MLFLOW_", "NETRC")  # beginnings of those that trackers read


class FakeRun:
    """What `icre.engine.trackers.wandb_run` calls of a run."""

    def __init__(self, **options: Any):
        self.options, self.lines, self.summary = options, [], {}
        self.id = options["id"] or f"run{id(self)}"
        self.dir, self.url, self.status = "fake", "https://me:secret@fake", None
        self.offline = options.get("mode") == "offline"

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log(self, line: dict) -> None:
        self.lines.append(line)

    def finish(self, exit_code: int) -> None:
        self.status = exit_code


class FakeClient:
    """What `icre.engine.trackers.mlflow_run` calls of a client; `runs` stands for the server."""

    runs: dict[str, types.SimpleNamespace] = {}

    def __init__(self, tracking_uri: str | None):
        self.address = tracking_uri

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> types.SimpleNamespace:
        run = types.SimpleNamespace(
            info=types.SimpleNamespace(run_id=f"id{len(self.runs)}"),
            data=types.SimpleNamespace(params={}),
            metrics=defaultdict(list),
            status="RUNNING",
            name=run_name,
        )
        self.runs[run.info.run_id] = run
        return run

    def get_run(self, run_id: str) -> types.SimpleNamespace:
        return self.runs[run_id]

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status

    set_terminated = update_run

    def log_batch(self, run_id: str, metrics=(), params=()) -> None:
        assert len(params) <= 100
        run = self.runs[run_id]
        for key, value in params:
            assert run.data.params.setdefault(key, value) == value, "params never change"
        for key, value, _, step in metrics:
            run.metrics[key].append((step, value))


def fake_packages(patch: pytest.MonkeyPatch) -> tuple[list[FakeRun], dict]:
    """Put both stand-ins in the place of the packages; returns wandb's and MLflow's runs."""
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(**options))
        return runs[-1]

    patch.setattr(FakeClient, "runs", {})
    wandb = types.SimpleNamespace(init=init, Settings=dict)
    entities = types.SimpleNamespace(Metric=lambda *a: a, Param=lambda *a: a)
    mlflow = types.SimpleNamespace(MlflowClient=FakeClient, entities=entities)
    packages = {"wandb": wandb, "mlflow": mlflow, "mlflow.entities": entities}
    for local in ("sqlalchemy", "alembic"):
        packages[local] = types.SimpleNamespace(create_engine=None, context=None)
    for name, module in packages.items():
        patch.setitem(sys.modules, name, module)
    return runs, FakeClient.runs


def offline_wandb(folder: Path) -> list[dict[str, Any]]:
    """The runs that wandb wrote below `folder`, oldest first: id, config, lines and summary.

    wandb writes from a process of its own, so the last record is waited for.
    """
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    for _ in range(300):
        found = [_read_offline(file) for file in files]
        if all("exit" in one and "id" in one for one in found):
            return found
        time.sleep(0.1)
    sizes = {file.parent.name: file.stat().st_size for file in files}
    raise AssertionError(f"wandb has not finished writing: {sizes}, {found}")


def _read_offline(file: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2 as proto

    found: dict[str, Any] = {"config": {}, "lines": [], "summary": {}}
    for content in _records(file.read_bytes()):
        record = proto.Record.FromString(content)
        for update in record.run.config.update or record.config.update:
            found["config"][update.key] = update.value_json
        if record.HasField("run"):
            found["id"], found["name"] = record.run.run_id, record.run.display_name
        if record.history.item:
            items = record.history.item
            found["lines"].append({i.key or i.nested_key[0]: i.value_json for i in items})
        for item in record.summary.update:
            found["summary"][item.key or item.nested_key[0]] = item.value_json
        if record.HasField("exit"):
            found["exit"] = record.exit.exit_code
    return found


def _records(content: bytes) -> list[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB of (checksum, length, kind, data)."""
    place, whole, parts = 7, [], b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            whole.append(parts)
            parts = b""
    return whole
