"""Config files, options and ablation specs: what is read, and the one line of what is refused."""

import functools
import os

import pytest

from conftest import CONFIGS
from icre.config import load_config
from icre.config.keys import KEYS
from icre.config.load import MAX_BASES
from icre.config.merge import merge_option
from icre.experiments.ablation.spec import read_spec
from icre.utils.errors import UserError
from icre.utils.yaml import MAX_BYTES, parse_yaml, read_yaml

DEFAULTS = load_config()


def value_of(cfg, name):
    return functools.reduce(getattr, name.split("."), cfg)


def refused(*words, file=None, options=()):
    """The message of a config that must be refused: one line with these words."""
    with pytest.raises(UserError) as caught:
        load_config(file or "", options=list(options))
    said = str(caught.value)
    assert said.isprintable() and all(str(word) in said for word in words), said
    return said


@pytest.mark.parametrize("value", ["{'a': 1}", "[1, [2]]", "None", "(((", "1e999", "nan"])
def test_values_of_other_types_are_refused(value):
    taken = []
    for name in (key.name for key in KEYS):
        default = value_of(DEFAULTS, name)
        is_text = isinstance(default, str) and value in ("(((", "nan", "1e999")
        if default is None or is_text or name == "SOLVER.CLIP_GRADIENTS.NORM_TYPE":
            continue
        cfg = DEFAULTS.clone()
        cfg.defrost()
        try:
            merge_option(cfg, name, value, DEFAULTS)
        except UserError as error:
            assert name in str(error) and str(error).isprintable()
        else:
            taken.append(name)
    assert taken == []


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("[A-Z]*/*.yml")), ids=lambda file: file.stem)
def test_the_configs_that_we_ship_are_allowed(file):
    load_config(file)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("MODEL.LOSSES.ICG.SCALE", "2"), 2.0),
        (("SOLVER.BASE_LR", "1e-3"), 0.001),
        (("MODEL.LOSSES.ICG.RHO1", "1"), 1),
        (("MODEL.LOSSES.ICG.RHO1", "0.5", "MODEL.LOSSES.ICG.RHO1", "None"), None),
        (("OUTPUT_DIR", "2024"), "2024"),
        (("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "1e999"), float("inf")),
        (("DATASETS.TESTS", "['SYSUMM01']"), ("SYSUMM01",)),
        (("SOLVER.STEPS", "(3, 5)"), [3, 5]),
        (("INPUT.REA.VALUE", "[0, 0, 0.5]"), [0, 0, 0.5]),
    ],
)
def test_values_take_the_type_of_their_default(options, expected):
    value = value_of(load_config(options=list(options)), options[0])
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("SOLVER.MAX_EPOCH", "ten"), ("SOLVER.MAX_EPOCH", "'ten'", "whole number")),
        (("SOLVER.MAX_EPOCH", "3.0"), ("SOLVER.MAX_EPOCH", "3.0", "whole number")),
        (("MODEL.MPFR.ENABLED", "1"), ("MODEL.MPFR.ENABLED", "True or False")),
        (("MODEL.LOSSES.NAME", "CrossEntropyLoss"), ("MODEL.LOSSES.NAME", "a list")),
        (("MODEL.LOSSES.NAME", "[{'a': 1}]"), ("MODEL.LOSSES.NAME", "{'a': 1}", "text")),
        (("INPUT.SIZE_TRAIN", "[256, 'x']"), ("INPUT.SIZE_TRAIN", "'x'")),
        (("INPUT.SIZE_TRAIN", "[[256], [128]]"), ("INPUT.SIZE_TRAIN", "[256]")),
        (("SOLVER.MAX_EPOC", "3"), ("SOLVER.MAX_EPOC", "did you mean SOLVER.MAX_EPOCH")),
        (("MODEL", "3"), ("MODEL", "section")),
        (("MODEL.DEVICE.X", "3"), ("MODEL.DEVICE.X",)),
        (("A.A", "3"), ("A.A",)),
        (("SOLVER.BASE_LR", "None"), ("SOLVER.BASE_LR", "no value")),
        (("SOLVER.BASE_LR", str(10**400)), ("SOLVER.BASE_LR", "finite")),
        (("SOLVER.BASE_LR",), ("SOLVER.BASE_LR", "pairs")),
        (("SOLVER.BASE_LR", "(" * 5000), ("SOLVER.BASE_LR", "a number")),
        (("_BASE_", "x.yml"), ("_BASE_",)),
    ],
)
def test_options_are_refused_in_plain_words(options, words):
    refused(*words, options=options)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)
# name: (content, words of the message; the line where YAML has one)
BAD_FILES = {
    "empty": (b"", ("empty",)),
    "comments alone": (b"# nothing\n", ("empty",)),
    "list": (b"- SEED\n- 1\n", ("list",)),
    "scalar": (b"SEED\n", ("text",)),
    "latin-1": ("SEED: 1\nOUTPUT_DIR: caf\xe9\n".encode("latin-1"), ("line 2", "UTF-8")),
    "utf-16": ("SEED: 1\n".encode("utf-16"), ("line 1", "UTF-8")),
    "null bytes": (b"SEED: \0\n", ()),
    "twice": (b"SEED: 1\nOUTPUT_DIR: x\nSEED: 2\n", ("line 3", "SEED", "line 1")),
    "twice in a section": (b"SOLVER:\n  OPT: SGD\n  OPT: Adam\n", ("line 3", "OPT", "line 2")),
    "section twice": (b"SOLVER: {OPT: SGD}\nSOLVER: {MAX_EPOCH: 3}\n", ("line 2", "SOLVER")),
    "twice in one line": (b"SOLVER: {OPT: SGD, OPT: Adam}\n", ("line 1", "OPT")),
    "broken": (b"SEED: [1\nOPT: }\n", ("line 2",)),
    "tab": (b"SOLVER:\n\tOPT: SGD\n", ("line 2",)),
    "two documents": (b"SEED: 1\n---\nSEED: 2\n", ("line 2",)),
    "python tag": (b"SEED: !!python/object/apply:os.system [id]\n", ("line 1",)),
    "unknown alias": (b"SEED: *a\n", ("line 1",)),
    "billion laughs": (LAUGHS.encode(), ("line",)),
    "contains itself": (b"SOLVER: &a {OPT: *a}\n", ("line 1",)),
    "deep": (b"[" * 1000 + b"]" * 1000, ("deep",)),
    "large": (b"#" * (MAX_BYTES + 1), (str(MAX_BYTES),)),
    "bad date": (b"SEED: 2001-99-99\n", ()),
    "date": (b"SEED: 2001-01-01\n", ("SEED", "whole number")),
    "unhashable key": (b"? [a]\n: 1\n", ("line 1",)),
    "number as key": (b"7: 1\n", ("7",)),
    "unknown key": (b"SOLVER: {MAX_EPOC: 3}\n", ("SOLVER.MAX_EPOC", "SOLVER.MAX_EPOCH")),
    "value for a section": (b"SOLVER: 3\n", ("SOLVER", "section")),
    "section without keys": (b"SOLVER:\n", ("SOLVER", "section")),
    "section for a value": (b"SEED: {A: 1}\n", ("SEED", "{'A': 1}")),
    "no value": (b"OUTPUT_DIR:\n", ("OUTPUT_DIR", "no value")),
    "mappings for names": (b"DATASETS: {NAMES: [{a: 1}]}\n", ("DATASETS.NAMES", "{'a': 1}")),
    "not a number": (b"SOLVER: {BASE_LR: .nan}\n", ("SOLVER.BASE_LR", "nan")),
    "infinite": (b"SOLVER: {BASE_LR: .inf}\n", ("SOLVER.BASE_LR", "inf")),
    "base is a list": (b"_BASE_: [a.yml]\n", ("_BASE_",)),
    "base is a page": (b"_BASE_: https://example.com/a.yml\n", ("_BASE_",)),
    "base is missing": (b"_BASE_: gone.yml\n", ("_BASE_", "gone.yml")),
    "base is itself": (b"_BASE_: bad.yml\n", ("_BASE_", "bad.yml")),
    "base has no name": (b"_BASE_: ''\n", ("_BASE_",)),
    "base is a folder": (b"_BASE_: .\n", ()),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_with_file_and_line(name, tmp_path):
    content, words = BAD_FILES[name]
    file = tmp_path / "bad.yml"
    file.write_bytes(content)
    refused(tmp_path, *words, file=file)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "device.yml").symlink_to("/dev/zero")
    (tmp_path / "gone.yml").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.yml", "device.yml", "gone.yml", "missing.yml", "."):
        refused(tmp_path / name, file=tmp_path / name)
    (tmp_path / "good.yml").write_text("SEED: 3")
    (tmp_path / "link.yml").symlink_to("good.yml")
    assert load_config(tmp_path / "link.yml").SEED == 3


def test_bases_are_merged_from_the_first_on(tmp_path):
    (tmp_path / "a.yml").write_text("SEED: 1\nSOLVER: {OPT: SGD, MAX_EPOCH: 7}\nOUTPUT_DIR: a\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text("_BASE_: ../a.yml\nSEED: 2\nSOLVER: {MAX_EPOCH: 8}\n")
    (tmp_path / "c.yml").write_text("_BASE_: sub/b.yml\nSEED: 3\n")
    cfg = load_config(tmp_path / "c.yml", ["OUTPUT_DIR", "d"])
    assert (cfg.SEED, cfg.SOLVER.OPT, cfg.SOLVER.MAX_EPOCH, cfg.OUTPUT_DIR) == (3, "SGD", 8, "d")


@pytest.mark.slow
def test_circles_and_long_chains_of_bases_are_refused(tmp_path):
    for one, other in ("ab", "bc", "ca"):
        (tmp_path / f"{one}.yml").write_text(f"_BASE_: {other}.yml\n")
    refused("a.yml", "b.yml", "c.yml", "_BASE_", file=tmp_path / "a.yml")
    for place in range(1500):
        (tmp_path / f"{place}.yml").write_text(f"_BASE_: {place + 1}.yml\n")
    refused(MAX_BASES, "0.yml", file=tmp_path / "0.yml")


def test_aliases_and_merge_keys_are_read():
    text = "a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n"
    assert parse_yaml(text, "text")["b"] == {"x": 2, "y": [1, 2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rows:\n  A: {}\n  B: {}\n  A: {}\n", ("line 4", "'A'", "line 2")),
        ("rows:\n  1: {}\n  '1': {}\n", ("line 3", "'1'")),
        ("config: a.yml\nconfig: b.yml\nrows: {A: {}}\n", ("line 2", "'config'")),
        ("rows: {A: [1]}\n", ("'A'", "mapping")),
        ("rows: {A: {options: [SEED]}}\nconfig: x.yml\n", ("'A'", "options", "mapping")),
        ("rows: {A: {config: [x.yml]}}\n", ("'A'", "config")),
        ("sweep: {key: SEED, values: 3}\n", ("sweep", "list")),
        ("sweep: {key: SEED, values: [1, 1]}\n", ("sweep", "twice")),
        ("- rows\n", ("list",)),
        ("", ("empty",)),
    ],
)
def test_specs_of_ablations_are_read_as_strictly(text, words, tmp_path):
    (tmp_path / "spec.yml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_spec(tmp_path / "spec.yml", tmp_path / "out")
    said = str(caught.value)
    assert all(word in said for word in ("spec.yml", *words)), said


def test_a_sweep_of_whole_numbers_sets_a_key_of_a_fraction(tmp_path):
    (tmp_path / "spec.yml").write_text(
        f"config: {CONFIGS / 'Demo' / 'icre_r18.yml'}\n"
        "sweep: {key: MODEL.LOSSES.ICG.SCALE, values: [0, 1, 2]}\n"
    )
    spec = read_spec(tmp_path / "spec.yml", tmp_path / "out")
    assert [run.cfg.MODEL.LOSSES.ICG.SCALE for run in spec.runs] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "config", ["SynthVI-S/icre_r18.yml", "SYSU/icre_r50.yml", "RegDB/icre_r50.yml"]
)
def test_the_component_ablation_adds_one_thing_at_a_time_with_any_config(config, tmp_path):
    spec = read_spec(CONFIGS / "ablations/components.yml", tmp_path, config=str(CONFIGS / config))
    rows = {run.row: run.cfg.MODEL for run in spec.runs}
    assert len(rows) == 6
    for name, model in rows.items():
        parts = {"MPFR", "SDCE", "ICG"} if name == "ICRE (all)" else set(name.split(" + "))
        parts = {part.strip("+ ") for part in parts}
        assert ("MPFR" in parts, "SDCE" in parts) == (model.MPFR.ENABLED, model.SDCE.ENABLED)
        losses = {"CrossEntropyLoss"}
        losses |= {"ICGLoss"} & {part + "Loss" for part in parts}
        losses |= {"AuxiliaryIDLoss"} if "MPFR" in parts else set()
        assert set(model.LOSSES.NAME) == losses
        assert ("before" if "ICG" in parts else "after") == model.HEADS.TEST_FEAT


def test_a_file_of_utf8_with_a_mark_is_read(tmp_path):
    (tmp_path / "a.yml").write_bytes(b"\xef\xbb\xbfOUTPUT_DIR: caf\xc3\xa9\r\n")
    assert read_yaml(tmp_path / "a.yml") == {"OUTPUT_DIR": "caf\xe9"}
