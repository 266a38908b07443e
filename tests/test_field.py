"""The table of the field: its spec, and the columns that it adds to an ablation's."""

import pytest

from conftest import CONFIGS
from icre.experiments.ablation.cost import cost_cells, model_cost
from icre.experiments.ablation.spec import read_spec
from icre.utils.errors import UserError
from small_model import BASELINE, NARROW, narrow_model, small_cfg


@pytest.mark.slow
def test_the_rows_differ_in_network_and_losses_alone(tmp_path):
    spec = read_spec(CONFIGS / "ablations/field.yml", tmp_path)
    assert spec.cost and spec.paper["DEEN"] == "74.7 / 71.8" and len(spec.rows) == 12
    own_views = {"CAJ, two views", "MSCMNet's loss, four views"}
    inputs = {
        name: runs[0].cfg.INPUT.dump() for name, runs in spec.rows.items() if name not in own_views
    }
    assert len(set(inputs.values())) == 1
    # ICRE has a rate of its modules, which no other row has
    solvers = [run[0].cfg.SOLVER.dump() for name, run in spec.rows.items() if name != "ICRE"]
    assert len(set(solvers)) == 1


def test_a_models_cost_leaves_classifiers_out():
    cost = model_cost(small_cfg(*NARROW, *BASELINE, "MODEL.HEADS.NUM_CLASSES", 500))
    model = narrow_model(*BASELINE)
    expected = sum(p.numel() for name, p in model.named_parameters() if name != "heads.weight")
    assert cost["parameters"] == expected and cost["macs"] > 0 and cost["images_per_second"] > 0
    assert cost_cells({"parameters": 2_340_000, "macs": 5.6e8, "images_per_second": 77.4}) == {
        "parameters [M]": "2.34",
        "MACs [G]": "0.56",
        "images/s": "77",
    }


def test_cost_must_be_true_or_false(tmp_path):
    (tmp_path / "spec.yml").write_text(
        f"config: {CONFIGS / 'SynthVI-S/baseline_r18.yml'}\nrows: {{a: }}\ncost: often\n"
    )
    with pytest.raises(UserError, match="cost is 'often'; it must be true or false"):
        read_spec(tmp_path / "spec.yml", tmp_path)
