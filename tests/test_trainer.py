"""fast-reid's ways to extend a trainer: what a subclass overrides is what the trainer calls."""

import pytest
import torch
from torch.utils.data import DataLoader

from fastreid.data.common import CommDataset
from fastreid.engine.train_loop import HookBase
from fastreid.evaluation import DatasetEvaluator

from conftest import CONFIGS, SHORT
from icre.config import load_config
from icre.data.loader import collate
from icre.engine.trainer import Trainer
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score

CPU = torch.device("cpu")
ONE_EPOCH = (
    "SOLVER.MAX_EPOCH",
    "1",
    "TEST.PROTOCOLS",
    "('sysu-all-single',)",
    "MODEL.DEVICE",
    "cpu",
)


@pytest.fixture
def cfg(demo_root, tmp_path):
    return load_config(
        str(CONFIGS / "Demo/bagtricks_r18.yml"),
        ["DATASETS.ROOT", str(demo_root), "OUTPUT_DIR", str(tmp_path), *SHORT, *ONE_EPOCH],
    )


def test_build_model(cfg):
    class Own(Trainer):
        @classmethod
        def build_model(cls, cfg):
            model = super().build_model(cfg)
            model.mine = True
            return model

    assert Own(cfg).model.mine


@pytest.mark.parametrize("as_fastreid", [False, True])
def test_build_optimizer_may_return_fastreids_pair(cfg, as_fastreid):
    class Own(Trainer):
        @classmethod
        def build_optimizer(cls, cfg, model):
            optimizer = torch.optim.RMSprop(model.parameters(), lr=0.123)
            for group in optimizer.param_groups:
                group["freeze_status"] = "normal"
            return (optimizer, None) if as_fastreid else optimizer

    trainer = Own(cfg)
    assert type(trainer.optimizer) is torch.optim.RMSprop
    assert trainer.checkpointer.checkpointables["optimizer"] is trainer.optimizer


def test_build_lr_scheduler(cfg):
    class Own(Trainer):
        @classmethod
        def build_lr_scheduler(cls, cfg, optimizer, iters_per_epoch):
            cls.iters = iters_per_epoch
            return {"lr_sched": torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5)}

    trainer = Own(cfg)
    assert trainer.iters == trainer.iters_per_epoch
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(cfg.SOLVER.BASE_LR / 2)
    assert isinstance(trainer.scheduler["lr_sched"], torch.optim.lr_scheduler.ConstantLR)


@pytest.mark.slow
def test_build_train_loader_of_fastreids_kind(cfg):
    """A plain DataLoader of a plain CommDataset: float images on the CPU, no modalities."""
    seen = []

    class Images(CommDataset):
        def __getitem__(self, index):
            path, pid, camid = self.img_items[index]
            seen.append(path)
            return {
                "images": torch.full((3, 32, 16), 7.0),
                "targets": self.pid_dict[pid],
                "camids": self.cam_dict[camid],
                "img_paths": path,
            }

    class Own(Trainer):
        @classmethod
        def build_train_loader(cls, cfg):
            data = Images([(f"{n}.jpg", f"p{n % 4}", f"c{n % 2}") for n in range(16)])
            return DataLoader(data, batch_size=4, collate_fn=collate)

    trainer = Own(cfg)
    assert trainer.cfg.MODEL.HEADS.NUM_CLASSES == 4
    assert trainer.iters_per_epoch == 1  # 16 images // IMS_PER_BATCH 16
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert seen[:4] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.slow
def test_build_hooks(cfg):
    steps = []

    class Count(HookBase):
        def after_step(self):
            steps.append(self.trainer.iter)

    class Own(Trainer):
        def build_hooks(self):
            return [*super().build_hooks(), Count()]

    trainer = Own(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert steps == list(range(trainer.iters_per_epoch))


def test_build_test_loader_and_evaluator(cfg, demo_root, tmp_path):
    """fast-reid's arguments and results: (loader, number of queries) and (loader, evaluator)."""
    calls = []

    class CountImages(DatasetEvaluator):
        def reset(self):
            self.images = 0

        def process(self, inputs, outputs):
            self.images += len(outputs)

        def evaluate(self):
            return {"metric": float(self.images)}

    class OwnLoader(Trainer):
        @classmethod
        def build_test_loader(cls, cfg, dataset_name):
            calls.append(dataset_name)
            loader, num_query = super().build_test_loader(cfg, dataset_name)
            assert num_query == 24
            return loader, num_query

    class OwnEvaluator(OwnLoader):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_dir=None):
            loader, _ = cls.build_test_loader(cfg, dataset_name)
            return loader, CountImages()

    model = Trainer.build_model(cfg)
    found = OwnLoader.test(cfg, model)["metric"]
    permutation = demo_root / "SYSU-MM01/exp/rand_perm_cam.mat"
    record = score(FeatureSet.load(tmp_path), ["sysu-all-single"], "official", permutation)[0]
    assert found == (record["Rank-1"]["mean"] + record["mAP"]["mean"]) / 2
    assert calls == ["SYSUMM01"]
    assert OwnEvaluator.test(cfg, model) == {"metric": 72.0} and calls == ["SYSUMM01"] * 2


@pytest.mark.parametrize("batched", ["True", "False"])
def test_the_train_loader_yields_fastreids_batch(cfg, batched):
    """With augmentation of whole batches on the device and image by image alike."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.BATCHED = batched == "True"
    loader = Trainer.build_train_loader(cfg)
    batch = next(iter(loader))
    assert set(batch) == {"images", "targets", "camids", "img_paths", "modalities"}
    assert batch["images"].shape == (16, 3, 32, 16) and batch["images"].dtype == torch.float32
    assert 1 < batch["images"].max() <= 255 and batch["images"].device == CPU
    assert loader.dataset.num_classes == 10


def test_the_dev_split_is_scored_on_request(cfg, tmp_path):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.SPLIT = "val"
    Trainer.test(cfg, Trainer.build_model(cfg))
    assert (tmp_path / "metrics_val.json").is_file()
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "features.npz").exists()
