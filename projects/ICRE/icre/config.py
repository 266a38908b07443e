"""Every configuration key that this project adds to fast-reid's, with default, meaning and unit.

`method.md`-style symbols in brackets; where a default is the paper's the comment says so, all
others are our reading (see projects/ICRE/README.md).
"""

import icre.compat  # noqa: F401

from fastreid.config import CfgNode as CN


def add_icre_config(cfg: CN) -> None:
    """Add the project's keys to `cfg` in place; call it before `cfg.merge_from_file`.

    fast-reid's own keys keep their meaning, with these defaults changed: `MODEL.DEVICE` "auto"
    (a GPU when there is one) and `TEST.EVAL_PERIOD` 0 (score after the last epoch only).
    """
    cfg.SEED = 0  # seeds Python, NumPy, torch and the sampler; every rank adds its own offset
    cfg.MODEL.DEVICE = "auto"  # auto | cpu | cuda | cuda:N
    cfg.DIST_TIMEOUT = 1800  # seconds that ranks wait for each other: longer than rank 0 scores
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
    cfg.MODEL.MPFR.ALIGN = "avg"  # to layer4's grid: avg (adaptive average pooling) | bilinear
    cfg.MODEL.MPFR.MASK = "sigmoid"  # sigmoid | softmax (the stages compete) | cbam
    cfg.MODEL.MPFR.FUSE = "sum"  # of the masked maps: sum | concat
    cfg.MODEL.MPFR.INSTANCE_NORM = False  # on the aligned maps, before masks and fusion

    cfg.MODEL.SDCE = CN({"ENABLED": True})
    cfg.MODEL.SDCE.HEADS = 8  # attention heads [H]; must divide MPFR.DIM
    cfg.MODEL.SDCE.FFN_RATIO = 4.0  # hidden width of the feed-forward over d
    cfg.MODEL.SDCE.DROPOUT = 0.0
    cfg.MODEL.SDCE.QUERY = "deep"  # what asks and is enhanced: deep | clue
    # cascade (cross-, then self-attention) | cross (alone) | self (alone, clues added) | parallel
    cfg.MODEL.SDCE.ORDER = "cascade"
    # F_e: residual (X_4 + BN0(..)) | replace (BN0(..)) | concat (BN0 of X_4 and the new map)
    cfg.MODEL.SDCE.OUTPUT = "residual"
    # Initial weight of BN0. 0 with pretrained weights (step 0 is the pretrained baseline); from
    # scratch about 0.1-1, or weight decay keeps the branch dead in a short schedule. Of a residual
    # only; other outputs start at 1.
    cfg.MODEL.SDCE.INIT_SCALE = 0.0

    # ICREHead's test feature: after (b, behind the BNNeck) | before (f). MODEL.HEADS.NECK_FEAT is
    # fast-reid's: the feature that the metric losses see.
    cfg.MODEL.HEADS.TEST_FEAT = "after"
    _add_losses(cfg.MODEL.LOSSES)


def _add_losses(node: CN) -> None:
    # ICG and the losses for comparison over all ranks' batches together; False: over each rank's own
    node.GATHER = False
    # SCALE: weight of a loss; NORM: L2-normalise the features first
    node.ICG = CN({"SCALE": 1.0, "NORM": True})  # SCALE is the paper's lambda
    node.ICG.VARIANT = "pull_push"  # pull_push | rank | soft_rank | guided
    node.ICG.MAPS = ("enhanced",)  # whose pooled features: enhanced (f), clues (of F_c)
    # Margins [rho_1, rho_2]; None: the variant's own (pull_push 0.7 and 0.01, rank 0.5 and 0.1,
    # soft_rank 0.3 alone, guided 0 and 0.7). What each does: icre/modeling/losses/icg.py.
    node.ICG.RHO1 = None
    node.ICG.RHO2 = None

    # ID losses on other maps, each with its own neck and classifier (in training only)
    node.AUX_ID = CN({"SCALE": 1.0, "MAPS": ("clues",)})  # deep: X_4; clues: F_c

    # For comparison, with their authors' margins (Liu et al., TMM 2021; Wu et al., CVPR 2021; Ye
    # et al., TPAMI 2021); WRT has none.
    node.HC_TRIPLET = CN({"SCALE": 1.0, "MARGIN": 0.3, "NORM": False})
    node.CENTER_CLUSTER = CN({"SCALE": 1.0, "MARGIN": 0.7, "NORM": False})
    node.WRT = CN({"SCALE": 1.0, "NORM": False})


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

    # Augment whole 8-bit batches on the device where INPUT asks for no more than PADDING, FLIP, REA
    # and CHANNEL_AUG; with any other augmentation, or when off, image by image as fast-reid does.
    cfg.INPUT.BATCHED = True
    # Memory [GiB] of a machine, shared by its processes, for decoded training images; 0: none.
    cfg.DATALOADER.CACHE_GB = 8.0
    # A training image that cannot be read: stop | replace (by the next one of its identity and
    # modality that can; the log names both). A test image always stops: it would change the figures.
    cfg.DATALOADER.CORRUPT = "stop"
    cfg.DATALOADER.TIMEOUT = 600  # seconds that a worker may take for a batch; 0: for ever


def _add_solver(cfg: CN) -> None:
    # > 0: replaces SOLVER.WARMUP_ITERS, which depends on the size of the data set; may be a fraction
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    # learning rate of MPFR and SDCE over SOLVER.BASE_LR (they start untrained)
    cfg.SOLVER.ENHANCE_LR_FACTOR = 1.0
    # Beside CHECKPOINT_PERIOD, fast-reid's (epochs between numbered copies that stay): model_last is
    # written after every epoch and, if > 0, every CHECKPOINT_ITERS steps; the last CHECKPOINT_KEEP
    # of them stay.
    cfg.SOLVER.CHECKPOINT_ITERS = 0
    cfg.SOLVER.CHECKPOINT_KEEP = 2
    # of weights and images in memory: auto (channels_last on a GPU) | contiguous | channels_last
    cfg.SOLVER.LAYOUT = "auto"
    cfg.SOLVER.COMPILE = ""  # backend of torch.compile, such as inductor; empty: not compiled
    # auto (bfloat16; float16 on GPUs without it, float32 on CPUs that lose by it) | bfloat16 | float16
    cfg.SOLVER.AMP.DTYPE = "auto"


def _add_test(cfg: CN) -> None:
    cfg.TEST.EVAL_PERIOD = 0
    # names of icre.datasets.protocol; empty: the data set's own list
    cfg.TEST.PROTOCOLS = ()
    # TEST.RERANK.{ENABLED, K1, K2, LAMBDA} are fast-reid's; re-ranked records stand after the plain
    # ones. fastreid | original: see icre/evaluation/rerank_options.py
    cfg.TEST.RERANK.ALGORITHM = "fastreid"
