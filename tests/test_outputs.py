"""Where results are written to: files, links, devices and pipes; paths that stay in a folder."""

import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from conftest import CONFIGS
from icre.evaluation import records
from icre.experiments.ablation.spec import read_spec
from icre.gallery import answers
from icre.gallery.answers import Match
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output, path_inside, replaced

CONTENT = {"Rank-1": 50.0}


def save(path) -> None:
    records.save(CONTENT, path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "out.json"
    save(path)
    assert json.loads(path.read_text()) == CONTENT
    with pytest.raises(RuntimeError), replaced(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == CONTENT
    assert [one.name for one in path.parent.iterdir()] == ["out.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.json"
    if exists:
        target.write_text("old")
    (tmp_path / "link").symlink_to("elsewhere/real.json")
    (tmp_path / "out.json").symlink_to("link")
    save(tmp_path / "out.json")
    assert (tmp_path / "out.json").is_symlink() and (tmp_path / "link").is_symlink()
    assert json.loads(target.read_text()) == CONTENT and not target.is_symlink()
    assert [one.name for one in target.parent.iterdir()] == ["real.json"]


def test_a_device_stays_a_device(tmp_path):
    save("/dev/null")
    link = tmp_path / "null.json"
    link.symlink_to("/dev/null")
    save(link)
    assert not os.path.isfile("/dev/null") and link.is_symlink()
    with pytest.raises(UserError, match="/dev/full"):
        save("/dev/full")


def test_a_pipe_is_written_to_if_somebody_reads_it(tmp_path):
    pipe = tmp_path / "out.json"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"out\.json.*reads"), replaced(pipe):
        raise AssertionError("this comes after the long work")
    with pytest.raises(UserError, match=r"out\.json.*reads"):
        check_output(pipe)
    assert pipe.is_fifo()
    read = []
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    thread = threading.Thread(target=lambda: read.append(os.read(reader, 10**6)))
    check_output(pipe, pipe)
    with replaced(pipe) as temporary:
        temporary.write_text(json.dumps(CONTENT))
        thread.start()
    thread.join(10)
    os.close(reader)
    assert json.loads(read[0]) == CONTENT and pipe.is_fifo()


def test_the_standard_output_keeps_what_was_printed(tmp_path):
    code = (
        "from icre.evaluation import records\n"
        "print('before'); records.save([1], '/dev/stdout'); print('after')"
    )
    out = tmp_path / "out"
    with open(out, "w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert out.read_text().split() == ["before", "[", "1", "]", "after"]
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert piped.stdout.split() == [b"before", b"[", b"1", b"]", b"after"]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for name in ("loop", "file/out.json", "folder"):
        with pytest.raises(UserError, match=name):
            save(tmp_path / name)
        with pytest.raises(UserError, match=name):
            check_output(None, tmp_path / name)
    check_output(tmp_path / "new/folder/out.json", "/dev/null", None)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "loop").is_symlink() and (tmp_path / "folder").is_dir()


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "", "..", "a\\..\\x"])
def test_paths_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"f\.npz") as caught:
        path_inside(tmp_path, name, "f.npz")
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_links_inside_a_folder_are_paths_and_those_that_leave_it_are_not(tmp_path):
    root = tmp_path / "root"
    (root / "cam1").mkdir(parents=True)
    (root / "inner").symlink_to("cam1")
    (root / "outer").symlink_to(tmp_path)
    assert path_inside(root, "inner/x.jpg") == root / "inner" / "x.jpg"
    with pytest.raises(UserError, match=r"outer/x\.jpg.*link"):
        path_inside(root, "outer/x.jpg")
    (tmp_path / "alias").symlink_to(root)
    assert path_inside(tmp_path / "alias", "cam1/x.jpg").parts[-1] == "x.jpg"


@pytest.mark.parametrize(
    "name", ["..", ".", "/", "/etc", "a/../../b", "..\\x", "v1.5", "x" * 300, "~", "\x1b[2J", "é"]
)
def test_a_row_of_an_ablation_has_its_folder_inside(tmp_path, name):
    content = {"config": str(CONFIGS / "Demo/icre_r18.yml"), "rows": {name: {}, "other": {}}}
    (tmp_path / "spec.yml").write_text(json.dumps(content))
    spec = read_spec(tmp_path / "spec.yml", tmp_path / "out")
    folder = spec.runs[0].files.path
    row, seed = folder.relative_to(tmp_path / "out").parts
    assert seed == "seed_0" and row.strip("_.") == row and len(row) <= 100 and row.isascii()
    folder.mkdir(parents=True)


def test_names_from_files_are_printed_with_escapes(capsys, caplog):
    name = "\x1b]0;title\x07\x9b31m\udcff\r"
    logger = logging.getLogger("fastreid.icre")
    assert cli.run(lambda: cli.show(f"a\tä\n{name}") or logger.warning("%s\n", name)) == 0
    shown = capsys.readouterr().out
    assert shown == "a\tä\n\\x1b]0;title\\x07\\x9b31m\\udcff\\r\n"
    assert caplog.messages == ["\\x1b]0;title\\x07\\x9b31m\\udcff\\r\n"]
    query = {"path": f"/{name}.jpg", "modality": "visible", "camera": "", "identity": "a\nb"}
    match = Match(1, name, "visible", name, name, 0.5, 0.5, None, None)
    text = answers.text(answers.Answer(query, [match], None, 0.5, None, None, None, None))
    assert text.count("\n") == 4 and "\\x1b" in text and "\x1b" not in text
