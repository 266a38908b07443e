"""Every configuration key that this project adds to fast-reid's, with default, meaning and unit.

`method.md`-style symbols in brackets; where a default is the paper's the comment says so, all
others are our reading (see projects/ICRE/README.md).
"""

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.config import CfgNode as CN


def add_icre_config(cfg: CN) -> None:
    """Add the project's keys to `cfg` in place; call it before `cfg.merge_from_file`.

    fast-reid's own keys keep their meaning, with these defaults changed: `MODEL.DEVICE` "auto"
    (a GPU when there is one) and `TEST.EVAL_PERIOD` 0 (score after the last epoch only).
    """
    cfg.SEED = 0  # seeds Python, NumPy, torch and the sampler; every rank adds its own offset
    cfg.MODEL.DEVICE = "auto"  # auto | cpu | cuda | cuda:N
    _add_model(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    _add_test(cfg)


def _add_model(cfg: CN) -> None:
    # 0: each modality owns its stem (AGW's split); 1: stem and layer1 (HcTri's)
    cfg.MODEL.BACKBONE.SPECIFIC_STAGES = 0

    cfg.MODEL.MPFR = CN({"ENABLED": True})
    cfg.MODEL.MPFR.STAGES = ("layer1", "layer2", "layer3")  # the paper's "stages 2-4" [S]
    cfg.MODEL.MPFR.DIM = 512  # channels of the clue map and of SDCE's tokens [d]

    cfg.MODEL.SDCE = CN({"ENABLED": True})
    cfg.MODEL.SDCE.HEADS = 8  # attention heads [H]; must divide MPFR.DIM
    cfg.MODEL.SDCE.FFN_RATIO = 4.0  # hidden width of the feed-forward over d
    cfg.MODEL.SDCE.DROPOUT = 0.0
    # Initial weight of BN0. 0 with pretrained weights (step 0 is the pretrained baseline); from
    # scratch about 0.1-1, or weight decay keeps the branch dead in a short schedule.
    cfg.MODEL.SDCE.INIT_SCALE = 0.0

    cfg.MODEL.LOSSES.ICG = CN()
    cfg.MODEL.LOSSES.ICG.SCALE = 1.0  # weight of the loss [lambda]
    cfg.MODEL.LOSSES.ICG.RHO1 = 0.7  # distance that centres of two identities keep [rho_1]
    cfg.MODEL.LOSSES.ICG.RHO2 = 0.01  # slack inside an identity [rho_2]
    cfg.MODEL.LOSSES.ICG.NORM = True  # L2-normalise the features first


def _add_data(cfg: CN) -> None:
    cfg.DATASETS.ROOT = "datasets"  # folder that holds SYSU-MM01/, RegDB/, LLCM/
    cfg.DATASETS.REGDB_SPLIT = 1  # 1..10, RegDB only; published figures are the mean of all ten
    # Hold out training identities, score them instead of the test set while training, and keep the
    # checkpoint that is best on them (SYSU-MM01: its val_id; others: a seeded quarter).
    cfg.DATASETS.VALIDATION = False
    # DATALOADER.SAMPLER_TRAIN "CrossModalitySampler": SOLVER.IMS_PER_BATCH = P x 2K with
    # K = DATALOADER.NUM_INSTANCE images of each modality for each of P identities.

    # Visible images only (CAJ, Ye et al., ICCV 2021): each image becomes, with equal chances, one
    # of its own channels (R, G or B), a gray mix of random weights, or stays as it is.
    cfg.INPUT.CHANNEL_AUG = CN({"ENABLED": False})


def _add_solver(cfg: CN) -> None:
    # > 0: replaces SOLVER.WARMUP_ITERS, which depends on the size of the data set; may be a fraction
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    # learning rate of MPFR and SDCE over SOLVER.BASE_LR (they start untrained)
    cfg.SOLVER.ENHANCE_LR_FACTOR = 1.0
    cfg.SOLVER.AMP.DTYPE = "auto"  # auto (bfloat16 where the device has it) | bfloat16 | float16


def _add_test(cfg: CN) -> None:
    cfg.TEST.EVAL_PERIOD = 0
    # names of icre.evaluation.protocol; empty: the data set's own list
    cfg.TEST.PROTOCOLS = ()
