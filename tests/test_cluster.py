"""Work on a Ray cluster of this machine: the results are those of the local commands."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import icre
from conftest import CONFIGS, SHORT
from icre.cluster import connect, probe
from icre.cluster.connect import Cluster, Machine, connected
from icre.commands import ablate
from icre.utils.errors import UserError
from small_cluster import LIMIT, TOOLS, environment, is_alive, parent_of, wait_for
from small_runs import STOCK, TINY_MODEL

SPEC = f"""
title: Two rows
config: {CONFIGS / STOCK}
rows:
  ID loss:
    options: {{MODEL.LOSSES.NAME: [CrossEntropyLoss]}}
  Both:
"""


def without_environments(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text())
    for row in found["rows"]:
        del row["environments"]  # the dates
    return found


@pytest.mark.slow
@pytest.mark.long
def test_an_ablation_whose_worker_is_killed_has_the_table_of_the_local_runner(demo_root, tmp_path):
    spec = tmp_path / "two.yml"
    spec.write_text(SPEC)
    epochs = ("SOLVER.MAX_EPOCH", "8", "SOLVER.WARMUP_EPOCHS", "0.0", "SOLVER.SCHED", "MultiStepLR")
    options = ("DATASETS.ROOT", str(demo_root), *SHORT, *TINY_MODEL, *epochs)

    def words(out, *flags):
        folders = ["--out", str(out), "--records", str(out / "records")]
        return [str(spec), *folders, *flags, "--options", *options]

    here, there = tmp_path / "here", tmp_path / "there"
    command = [sys.executable, TOOLS / "ablate.py", *words(there, "--cluster", "auto")]
    command[-len(options) - 1 : -len(options) - 1] = ["--jobs", "2"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    workers = {}
    for row in ("ID_loss", "Both"):
        console, lock = (there / row / "seed_0" / name for name in ("console.txt", ".lock"))
        # two epochs of eight are behind it, and a checkpoint of the first
        wait_for(lambda: console.is_file() and "epoch 2.0 of 8" in console.read_text(), process)
        training = int(lock.read_text().split()[1])
        workers[row] = training, parent_of(training)
    (training, worker), (_, other) = workers.values()
    assert worker != other
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not is_alive(training), process)  # it ends with its worker
    printed, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "resum" in (there / "ID_loss/seed_0/console.txt").read_text().lower()
    assert "resum" not in (there / "Both/seed_0/console.txt").read_text().lower()
    assert ablate.main(words(here)) == 0
    assert without_environments(here) == without_environments(there)
    for name in os.listdir(here / "records"):
        ours, theirs = (json.loads((f / "records" / name).read_text()) for f in (here, there))
        assert {**ours, "environment": None} == {**theirs, "environment": None}
    assert (here / "table.md").read_text() == (there / "table.md").read_text() and printed


def node(host: str, **resources: int) -> dict:
    return {"NodeID": host, "NodeManagerHostname": host, "Alive": True, "Resources": resources}


def machines(nodes: list[dict], device: str) -> list[str]:
    found = connect._machines(SimpleNamespace(nodes=lambda: nodes), "h:1", device)
    return [one.host for one in found]


def test_work_goes_to_the_machines_that_it_is_for():
    head, small, large = node("head", CPU=4), node("a", CPU=8, GPU=1), node("b", CPU=8, GPU=4)
    gone = node("gone", CPU=8, GPU=8) | {"Alive": False}
    assert machines([head, small, large, gone], "auto") == ["a", "b"]
    assert machines([head, small, gone], "cuda") == ["a"]
    assert machines([head, small], "cpu") == ["head", "a"]
    assert machines([head, node("nothing")], "auto") == ["head"]
    with pytest.raises(UserError, match=r"none of its 1 machines has a GPU .* --num-gpus"):
        machines([head, gone], "cuda")
    with pytest.raises(UserError, match="none of its 1 machines gives CPUs"):
        machines([node("nothing")], "auto")


def test_each_piece_of_work_has_a_gpu_or_its_share_of_the_smallest_machine():
    two = (Machine("a", "a", 8, 2), Machine("b", "b", 32, 4))
    assert Cluster(two, on_gpu=True).share(3) == {"num_cpus": 4, "num_gpus": 1}
    assert Cluster(two, on_gpu=False).share(3) == {"num_cpus": 2}
    assert Cluster(two, on_gpu=False).share(20) == {"num_cpus": 1}
    assert (Cluster(two, True).cpus, Cluster(two, True).gpus) == (40, 6)


GOOD = {
    "version": icre.__version__,
    "sources": probe.sources(Path(icre.__file__).parent),
    "content": "abc",
    "folder": True,
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"missing": "ModuleNotFoundError: No module named 'icre'"}, "no usable icre .* install"),
        ({"version": "0.0.1"}, "has icre 0.0.1, this one"),
        ({"sources": "0"}, "other sources of icre .* the same commit"),
        ({"content": None}, "does not see what this one writes to /shared/out"),
        ({"content": "of another file system"}, "does not see what this one writes to"),
        ({"folder": False}, "has no folder .* all machines share"),
    ],
)
def test_a_machine_that_cannot_do_the_work_is_named(change, message):
    probe._judge("worker7", GOOD, "/shared/out/.x", "abc")
    with pytest.raises(UserError, match=f"machine worker7 of the cluster .*{message}") as caught:
        probe._judge("worker7", GOOD | change, "/shared/out/.x", "abc")
    assert "\n" not in str(caught.value)


def test_the_question_needs_no_icre_on_the_machine(tmp_path, monkeypatch):
    file = tmp_path / "witness"
    file.write_text("abc")
    ask = probe._question()
    assert ask(str(file), str(tmp_path)) == GOOD
    monkeypatch.setitem(sys.modules, "icre", None)
    found = ask(str(tmp_path / "gone"), str(tmp_path / "none"))
    assert found["content"] is None and not found["folder"] and "icre" in found["missing"]
    assert "<locals>" in ask.__qualname__  # so that it is sent as code, and not by its name


def test_without_ray_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    mode = os.environ.get("RAY_AUTH_MODE")
    with pytest.raises(UserError, match=r"pip install 'icre\[cluster\]'"):
        with connected("local", tmp_path):
            raise AssertionError
    assert os.environ.get("RAY_AUTH_MODE") == mode


@pytest.mark.parametrize("device", ["cuda:1", "gpu"])
def test_ray_chooses_the_gpu(tmp_path, device):
    with pytest.raises(UserError, match=f"device {device}: with --cluster"):
        with connected("local", tmp_path, device):
            raise AssertionError


def test_runs_of_different_devices_are_refused():
    assert connect.one_device(["cpu", "cpu"]) == "cpu"
    with pytest.raises(UserError, match=r"MODEL\.DEVICE is auto and cpu in different runs"):
        connect.one_device(["cpu", "auto"])


@pytest.mark.slow
def test_an_address_that_is_no_cluster_is_one_line_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(connect, "JOIN_SECONDS", 3.0)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    known = "ray" in sys.modules
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for address, message in (
            (f"127.0.0.1:{port}", "does not answer as a Ray cluster within 3 s"),
            ("127.0.0.1:9", "nobody answers"),
            ("ray://127.0.0.1:1", "name auto, local or HOST:PORT"),
            ("here", "name auto, local or HOST:PORT"),
        ):
            start = time.monotonic()
            with pytest.raises(UserError, match=message) as caught:
                with connected(address, tmp_path / "out"):
                    raise AssertionError
            assert "\n" not in str(caught.value) and time.monotonic() - start < 60
    assert not (tmp_path / "out").exists()
    # Ray reads at its import whether it asks for a token: a local cluster can still be started
    assert ("ray" in sys.modules) == known and "RAY_AUTH_MODE" not in os.environ


@pytest.mark.slow
def test_ray_is_imported_only_where_a_cluster_is_asked_for():
    code = """
import sys
from icre.commands import ablate, extract, regdb_splits, search
import icre.experiments.ray_jobs, icre.experiments.regdb_splits, icre.inference.ray_features
import icre.inference.cluster_test_set
assert not {"ray", "fsspec.implementations", "s3fs"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=LIMIT)


def test_options_of_this_machine_do_not_go_with_a_cluster(tmp_path, capsys):
    for flags in (["--gpus", "0"], ["--estimate", "5"]):
        assert ablate.main([str(tmp_path / "spec.yml"), "--cluster", "auto", *flags]) == 2
        said = capsys.readouterr().err
        assert f"{flags[0]} is for this machine" in said and said.count("\n") == 1


def blocks(language: str) -> list[str]:
    """The code blocks of docs/cluster.md in a language."""
    text = (CONFIGS.parent / "docs/cluster.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_scripts_of_the_documentation_are_bash_and_yaml():
    scripts = blocks("bash")
    assert len(scripts) == 2 and all("#SBATCH --nodes" in one for one in scripts)
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (manifest,) = blocks("yaml")
    service, job = yaml.safe_load_all(manifest)
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    (container,) = pod["containers"]
    assert {one["name"] for one in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert f"--nnodes={job['spec']['completions']}" in container["args"]
    for words in (container["args"], *(script.split() for script in scripts)):
        for word in words:
            if word.startswith(("tools/", "configs/")):
                assert (CONFIGS.parent / word).is_file(), word
