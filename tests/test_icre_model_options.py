"""Every option trains and repeats per image; bad values are refused before anything is built."""

import functools
import math

import pytest
import torch

from icre.config import load_config
from icre.config.keys import KEYS
from icre.engine.optimizer import build_optimizer
from icre.modeling import enhance, head, mpfr, sdce, two_stream
from icre.modeling.check import check_model
from icre.modeling.losses import auxiliary, icg
from icre.runs.checkpoint import SafeCheckpointer
from icre.utils.errors import UserError
from small_model import BASELINE, NARROW, narrow_model, rows, small_batch, small_cfg

ALIVE = ("MODEL.SDCE.INIT_SCALE", 1.0)
MPFR, SDCE, LOSSES = "MODEL.MPFR", "MODEL.SDCE", "MODEL.LOSSES"
ID = "CrossEntropyLoss"
OPTIONS = [
    ("MODEL.BACKBONE.SPECIFIC_STAGES", 1),
    (f"{MPFR}.STAGES", ("layer2", "layer3", "layer4")),
    (f"{MPFR}.ALIGN", "bilinear"),
    (f"{MPFR}.MASK", "softmax"),
    (f"{MPFR}.MASK", "cbam"),
    (f"{MPFR}.FUSE", "concat"),
    (f"{MPFR}.INSTANCE_NORM", True),
    (f"{MPFR}.ENABLED", False),
    (f"{SDCE}.ENABLED", False),
    (f"{SDCE}.QUERY", "clue"),
    (f"{SDCE}.ORDER", "cross"),
    (f"{SDCE}.ORDER", "self"),
    (f"{SDCE}.ORDER", "parallel"),
    (f"{SDCE}.QUERY", "clue", f"{SDCE}.ORDER", "self", f"{SDCE}.OUTPUT", "replace"),
    (f"{SDCE}.OUTPUT", "replace"),
    (f"{SDCE}.OUTPUT", "concat"),
    (f"{SDCE}.ENABLED", False, f"{SDCE}.OUTPUT", "concat"),
    (f"{SDCE}.PLACE", "layer3"),
    (f"{SDCE}.PLACE", "layer3", f"{SDCE}.OUTPUT", "concat", "MODEL.BACKBONE.SPECIFIC_STAGES", 1),
    (f"{SDCE}.PLACE", "layer3", f"{MPFR}.ENABLED", False),
    (
        f"{SDCE}.PLACE",
        "layer3",
        f"{SDCE}.ENABLED",
        False,
        f"{LOSSES}.NAME",
        (ID, "AuxiliaryIDLoss"),
    ),
    (f"{LOSSES}.ICG.VARIANT", "rank"),
    (f"{LOSSES}.ICG.VARIANT", "guided"),
    (f"{LOSSES}.ICG.VARIANT", "soft_rank", f"{LOSSES}.ICG.MAPS", ("enhanced", "clues")),
    (f"{LOSSES}.ICG.NORM", False),
    (f"{LOSSES}.NAME", (ID, "AuxiliaryIDLoss")),
    (f"{LOSSES}.NAME", (ID, "HeteroCenterTripletLoss")),
    (f"{LOSSES}.NAME", (ID, "CenterClusterLoss")),
    (f"{LOSSES}.NAME", (ID, "WeightedRegularizedTripletLoss")),
    (f"{LOSSES}.NAME", (ID, "TripletLoss")),
    (f"{LOSSES}.NAME", (ID, "CircleLoss")),
    ("MODEL.HEADS.TEST_FEAT", "before"),
    ("MODEL.HEADS.TEST_FEAT", "both"),
    ("MODEL.HEADS.NECK_FEAT", "after"),
    ("MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP"),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(x) for x in o))
def test_each_option_trains(options):
    cfg = small_cfg(*NARROW, *ALIVE, *options)
    check_model(cfg)
    model, batch = narrow_model(*ALIVE, *options), small_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    totals = []
    for _ in range(4):
        losses = model(batch)
        optimiser.zero_grad()
        total = sum(losses.values())
        total.backward()
        unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert unused == []  # DDP stops at a parameter that takes no part
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        together = model.eval()(batch)
        alone = model(rows(batch, slice(0, 1)))
    torch.testing.assert_close(alone, together[:1], atol=1e-4, rtol=1e-3)


def test_the_defaults_parameters_keep_their_names():
    """Whoever renames one adds it to RENAMED, or checkpoints no longer load."""
    names = {n for n, _ in narrow_model().named_parameters() if not n.startswith("backbone.")}
    attention = {
        f"{kind}_attention.{part}.{x}"
        for kind in ("cross", "self")
        for part in ("query", "key_value", "out")
        for x in ("weight", "bias")
    }
    ffn = {
        f"{kind}_ffn.{i}.{x}"
        for kind in ("cross", "self")
        for i in (0, 1, 4)
        for x in ("weight", "bias")
    }
    norms = {f"norm_{kind}.{x}" for kind in ("deep", "clues", "self") for x in ("weight", "bias")}
    conv_norm = {"0.weight", "1.weight", "1.bias"}
    clues = {f"align.layer{i}.project.{x}" for i in (1, 2, 3) for x in conv_norm}
    clues |= {f"fuse.{x}" for x in conv_norm} | {"mask.conv.weight", "mask.conv.bias"}
    distil = attention | ffn | norms | {"deep_proj.weight", "deep_proj.bias"}
    assert names == (
        {f"enhance.clues.{x}" for x in clues}
        | {f"enhance.distil.{x}" for x in distil}
        | {"enhance.project.weight", "enhance.bn0.weight", "enhance.bn0.bias"}
        | {"heads.weight", "heads.bottleneck.0.weight", "heads.bottleneck.0.bias"}
    )


# {prefix today: prefix in checkpoints before the rename}
FORMER = [
    ((), {"enhance.clues.mask.conv.": "enhance.clues.mask.", "distil.deep_proj.": "distil.ask."}),
    ((f"{MPFR}.MASK", "cbam", f"{MPFR}.INSTANCE_NORM", True), {".instance_norms.": ".neutral."}),
    ((f"{MPFR}.ENABLED", False), {"enhance.clues.align.": "enhance.clues."}),
]


@pytest.mark.parametrize("options, former", FORMER)
def test_checkpoints_with_former_names_load(options, former, tmp_path):
    written, loaded, resumed = (narrow_model(*options, seed=seed) for seed in (1, 2, 3))
    old = {}
    for name, value in written.state_dict().items():
        for today, before in former.items():
            name = name.replace(today, before)
        old[name] = value
    assert len(set(old) - set(written.state_dict())) >= len(former)
    before = dict(old)
    loaded.load_state_dict(old, strict=True)
    assert old == before  # the caller's dict is left as it was
    torch.save({"model": old}, tmp_path / "old.pth")
    SafeCheckpointer(resumed).load(str(tmp_path / "old.pth"), checkpointables=[])
    for model in (loaded, resumed):
        for name, value in written.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name


def test_a_checkpoint_with_former_names_of_another_size_is_refused(tmp_path):
    state = narrow_model(f"{MPFR}.DIM", 64).state_dict()
    state = {name.replace("deep_proj", "ask"): value for name, value in state.items()}
    torch.save({"model": state}, tmp_path / "old.pth")
    with pytest.raises(UserError, match=r"old\.pth .*wrong shape"):
        SafeCheckpointer(narrow_model()).load(str(tmp_path / "old.pth"), checkpointables=[])


def test_entries_of_losses_that_a_config_leaves_out_are_no_part_of_the_feature(tmp_path):
    """A run's losses may need a module that is not imported when it is exported or searched."""
    losses = ("MODEL.LOSSES.NAME", "('CrossEntropyLoss','AuxiliaryIDLoss')")
    state = narrow_model(*losses, seed=1).state_dict()
    assert any(name.startswith("losses.") for name in state)
    torch.save({"model": state}, tmp_path / "run.pth")
    plain, path = narrow_model(seed=2), str(tmp_path / "run.pth")
    with pytest.raises(UserError, match=r"run\.pth .*unknown: losses\."):
        SafeCheckpointer(plain).load(path, checkpointables=[])
    SafeCheckpointer(plain).load(path, checkpointables=[], classifier=False)
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    state["backbone.more"] = torch.zeros(1)
    torch.save({"model": state}, path)
    with pytest.raises(UserError, match=r"unknown: backbone\.more \(1\)"):
        SafeCheckpointer(plain).load(path, checkpointables=[], classifier=False)


def test_the_auxiliary_id_loss_sees_both_maps_with_heads_of_its_own():
    options = (
        "MODEL.LOSSES.NAME",
        (ID, "AuxiliaryIDLoss"),
        "MODEL.LOSSES.AUX_ID.SCALE",
        0.5,
        "MODEL.LOSSES.AUX_ID.MAPS",
        ("deep", "clues"),
    )
    model, batch = narrow_model(*ALIVE, *options), small_batch()
    losses = model(batch)
    assert set(losses) == {"loss_cls", "loss_cls_deep", "loss_cls_clues"}
    heads = model.losses[1].heads
    assert (heads["deep"].weight.shape, heads["clues"].weight.shape) == ((8, 64), (8, 32))
    # an untrained classifier: log of the number of identities, half of it
    assert losses["loss_cls_clues"].item() == pytest.approx(0.5 * math.log(8), abs=0.2)
    losses["loss_cls_clues"].backward()
    assert model.enhance.clues.mask.conv.weight.grad.any() and heads["clues"].weight.grad.any()
    assert heads["deep"].weight.grad is None and model.heads.weight.grad is None


def test_icg_on_the_clue_map_reaches_its_masks():
    options = ("MODEL.LOSSES.NAME", ("ICGLoss",), "MODEL.LOSSES.ICG.MAPS", ("clues",))
    model, batch = narrow_model(*ALIVE, *options), small_batch()
    losses = model(batch)
    assert set(losses) == {"loss_icg_clues_pull", "loss_icg_clues_push"}
    sum(losses.values()).backward()
    assert model.enhance.clues.mask.conv.weight.grad.any()
    assert all(p.grad is None for p in model.enhance.distil.parameters())


def test_auxiliary_heads_learn_as_fast_as_the_head():
    options = ("MODEL.LOSSES.NAME", (ID, "AuxiliaryIDLoss"), "SOLVER.HEADS_LR_FACTOR", 10.0)
    cfg = small_cfg(*options, "SOLVER.BASE_LR", 0.01)
    model = narrow_model(*options)
    rate = {
        p: group["lr"]
        for group in build_optimizer(cfg, model).param_groups
        for p in group["params"]
    }
    rates = {n: rate[p] for n, p in model.named_parameters() if p.requires_grad}
    assert {lr for n, lr in rates.items() if n.startswith(("heads.", "losses."))} == {0.1}
    assert {lr for n, lr in rates.items() if not n.startswith(("heads.", "losses."))} == {0.01}


def test_guided_compares_with_the_pooled_deep_map():
    model, batch = narrow_model(*ALIVE, "MODEL.LOSSES.ICG.VARIANT", "guided"), small_batch()
    seen = []
    model.losses[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(batch)
    (outputs,) = seen
    f = outputs.deep.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    torch.testing.assert_close(outputs.unenhanced(), f)
    assert not outputs.unenhanced().requires_grad and outputs.clues.shape[1] == 32


CHOICES = {key.name: key for key in KEYS if key.choices and key.name.startswith("MODEL.")}


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_value_is_refused_with_the_known_ones(key):
    by_type = {int: "7", tuple: "('odd',)"}
    value = by_type.get(type(functools.reduce(getattr, key.split("."), load_config())), "odd")
    known = ", ".join(map(str, CHOICES[key].choices[:2]))
    with pytest.raises(UserError, match=rf"{key}: .*\b(odd|7)\b.*{known}"):
        load_config(options=[key, value])


@pytest.mark.parametrize(
    "key, known",
    [
        ("MODEL.BACKBONE.SPECIFIC_STAGES", two_stream.SPECIFIC_STAGES),
        ("MODEL.MPFR.STAGES", mpfr.STAGES),
        ("MODEL.MPFR.ALIGN", mpfr.ALIGNMENTS),
        ("MODEL.MPFR.MASK", mpfr.MASKS),
        ("MODEL.MPFR.FUSE", mpfr.FUSIONS),
        ("MODEL.SDCE.QUERY", sdce.QUERIES),
        ("MODEL.SDCE.ORDER", sdce.ORDERS),
        ("MODEL.SDCE.OUTPUT", enhance.OUTPUTS),
        ("MODEL.SDCE.PLACE", enhance.PLACES),
        ("MODEL.HEADS.TEST_FEAT", head.TEST_FEATURES),
        ("MODEL.LOSSES.ICG.VARIANT", icg.VARIANTS),
        ("MODEL.LOSSES.ICG.MAPS", icg.MAPS),
        ("MODEL.LOSSES.AUX_ID.MAPS", auxiliary.MAPS),
    ],
)
def test_the_config_allows_what_the_model_knows(key, known):
    assert tuple(CHOICES[key].choices) == tuple(known)


ICRE_PARTS = (
    "MODEL.META_ARCHITECTURE",
    "ICRE",
    "MODEL.BACKBONE.NAME",
    "build_two_stream_resnet_backbone",
)
ICG = (*ICRE_PARTS, "MODEL.LOSSES.NAME", "('ICGLoss',)")
AT_LAYER3 = (*ICG, "MODEL.SDCE.PLACE", "layer3")
ICG_CLUES = (*ICG, "MODEL.LOSSES.ICG.MAPS", "('enhanced', 'clues')")
PCB = ("MODEL.HEADS.NAME", "PCBHead")
MPANET = ("MODEL.HEADS.NAME", "MPANetHead")
SEPARATION = (*ICRE_PARTS, *MPANET, "MODEL.LOSSES.NAME", "('PartSeparationLoss',)")


@pytest.mark.parametrize(
    "options, message",
    [
        (("MODEL.LOSSES.ICG.RHO1", "auto"), "ICG.RHO1 is 'auto'; it must be a number or None"),
        (("MODEL.LOSSES.ICG.RHO2", "True"), "ICG.RHO2 is True; it must be a number or None"),
        (
            ("MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'ICGLoss')"),
            "LOSSES.NAME of Baseline: .*'ICGLoss'.*CrossEntropyLoss, TripletLoss",
        ),
        (
            ("MODEL.META_ARCHITECTURE", "MGN", "MODEL.LOSSES.NAME", "('CircleLoss',)"),
            "LOSSES.NAME of MGN: .*'CircleLoss'.*CrossEntropyLoss, TripletLoss",
        ),
        (("MODEL.LOSSES.NAME", "('TripletLoss', 'TripletLoss')"), "names a loss twice"),
        (ICRE_PARTS[2:], "build_two_stream_resnet_backbone does not fit .* Baseline"),
        (("MODEL.HEADS.TEST_FEAT", "before"), "TEST_FEAT before needs MODEL.HEADS.NAME ICREHead"),
        ((*ICRE_PARTS, "MODEL.MPFR.STAGES", "('layer1', 'layer1')"), "MPFR.STAGES .*each once"),
        ((*ICRE_PARTS, "MODEL.SDCE.HEADS", "7"), "SDCE.HEADS 7 does not divide MODEL.MPFR.DIM 512"),
        (
            (*ICRE_PARTS, "MODEL.SDCE.ENABLED", "False", "MODEL.SDCE.OUTPUT", "replace"),
            "replace with MODEL.SDCE.ENABLED False would leave layer4 without use",
        ),
        (
            (
                *ICRE_PARTS,
                "MODEL.LOSSES.NAME",
                "('AuxiliaryIDLoss',)",
                "MODEL.LOSSES.AUX_ID.MAPS",
                "('deep', 'layer2')",
            ),
            "AUX_ID.MAPS: .*'layer2'.*deep, clues",
        ),
        (
            (
                *ICRE_PARTS,
                "MODEL.LOSSES.NAME",
                "('AuxiliaryIDLoss',)",
                "MODEL.LOSSES.AUX_ID.MAPS",
                "()",
            ),
            "AUX_ID.MAPS is .*; it must name some of deep, clues",
        ),
        (
            (
                *ICRE_PARTS,
                "MODEL.LOSSES.NAME",
                "('AuxiliaryIDLoss',)",
                "MODEL.MPFR.ENABLED",
                "False",
                "MODEL.SDCE.ENABLED",
                "False",
            ),
            "no clues with MODEL.MPFR and MODEL.SDCE off",
        ),
        (
            (*ICG_CLUES, "MODEL.MPFR.ENABLED", "False", "MODEL.SDCE.ENABLED", "False"),
            "ICG.MAPS: no clues with MODEL.MPFR and MODEL.SDCE off",
        ),
        ((*ICG_CLUES, "MODEL.LOSSES.ICG.VARIANT", "guided"), "ICG.MAPS: VARIANT guided compares"),
        (
            (*AT_LAYER3, "MODEL.MPFR.STAGES", "('layer3', 'layer4')"),
            "with MODEL.SDCE.PLACE layer3 it must name some of layer1, layer2, layer3, each once",
        ),
        (
            (*AT_LAYER3, "MODEL.LOSSES.ICG.VARIANT", "guided"),
            "VARIANT guided needs layer4's map without the enhancement",
        ),
        (
            (
                *AT_LAYER3,
                "MODEL.LOSSES.NAME",
                "('AuxiliaryIDLoss',)",
                "MODEL.LOSSES.AUX_ID.MAPS",
                "('deep',)",
            ),
            "AUX_ID.MAPS deep needs layer4's map .* take PLACE layer4",
        ),
        (
            (*ICG, "MODEL.LOSSES.ICG.MAPS", "('enhanced', 'enhanced')"),
            "some of enhanced, clues, each once",
        ),
        ((*ICG, "MODEL.LOSSES.ICG.MAPS", "('deep',)"), "ICG.MAPS: .*'deep'.*enhanced"),
        (
            (*ICG, "MODEL.LOSSES.ICG.VARIANT", "soft_rank", "MODEL.LOSSES.ICG.RHO2", "0.1"),
            "ICG.RHO2 is 0.1, but soft_rank has one margin",
        ),
        (
            (*ICG, "MODEL.LOSSES.ICG.VARIANT", "guided", "MODEL.HEADS.NECK_FEAT", "after"),
            "VARIANT guided compares features before the neck: MODEL.HEADS.NECK_FEAT after",
        ),
        (
            (*ICG, "MODEL.LOSSES.ICG.VARIANT", "guided", *PCB),
            "ICG.VARIANT guided needs a head .* MODEL.HEADS.NAME PCBHead",
        ),
        ((*ICG_CLUES, *PCB), "ICG.MAPS clues needs a head .* MODEL.HEADS.NAME PCBHead"),
        ((*ICG_CLUES, *MPANET), "ICG.MAPS clues needs a head .* MODEL.HEADS.NAME MPANetHead"),
        ((*PCB, "MODEL.HEADS.CLS_LAYER", "CircleSoftmax"), "CircleSoftmax has no effect .* Linear"),
        (
            ("MODEL.HEADS.NAME", "EmbeddingHead", "MODEL.HEADS.TEST_NORM", "True"),
            "TEST_NORM True has no effect on MODEL.HEADS.NAME EmbeddingHead",
        ),
        (
            (*PCB, "MODEL.HEADS.TEST_FEAT", "both"),
            "HEADS.TEST_FEAT both .*NAME PCBHead: leave it after",
        ),
        (
            (*PCB, "MODEL.HEADS.TEST_NORM", "True"),
            "HEADS.TEST_NORM True .*NAME PCBHead: leave it False",
        ),
        (
            (*PCB, "MODEL.HEADS.NECK_FEAT", "after"),
            "NECK_FEAT after .*NAME PCBHead: leave it before",
        ),
        ((*PCB, "MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"), "POOL_LAYER GlobalMaxPool .* PCBHead"),
        (
            (*MPANET, "MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"),
            "MODEL.HEADS.POOL_LAYER GlobalMaxPool has no effect on MODEL.HEADS.NAME MPANetHead",
        ),
        (
            (*SEPARATION, "MODEL.SDCE.ENABLED", "False"),
            "PartSeparationLoss takes the masks .* MODEL.MPFR.ENABLED must be False",
        ),
        (
            (*SEPARATION, "MODEL.MPFR.ENABLED", "False"),
            "PartSeparationLoss takes the masks .* MODEL.SDCE.ENABLED must be False",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(options, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(options=list(options))
    assert "\n" not in str(error.value)


def test_what_is_refused_for_icre_is_fine_where_it_has_no_part():
    load_config(options=["MODEL.SDCE.HEADS", "7"])  # fast-reid's Baseline has no SDCE
    load_config(options=[*ICRE_PARTS, "MODEL.SDCE.HEADS", "7", "MODEL.SDCE.ENABLED", "False"])
    check_model(small_cfg(*BASELINE))
