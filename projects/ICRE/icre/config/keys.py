"""Every config key that this project adds to fast-reid's, and limits of some of its own.

One entry per key: default, meaning, allowed values, unit and source. Symbols of the method card
(projects/ICRE/README.md) stand in brackets. Where a default is the paper's, `source` says so; all
others are our reading.
"""

from icre.config.fastreid_keys import FASTREID
from icre.config.key import KEEP, Key
from icre.config.loss_keys import LOSSES
from icre.config.model_keys import MODEL
from icre.config.papers import CAJ, MSCMNET

__all__ = ["KEEP", "KEYS", "Key"]


RUN = (
    Key(
        "IMPORTS",
        (),
        "modules of your own that are imported before the config is checked, from the current "
        "folder or installed: they register losses, backbones, data sets; their add_config(cfg) "
        "adds keys",
    ),
    Key(
        "SEED",
        0,
        "seeds Python, NumPy, torch and the sampler; each rank adds its own number; fast-reid's "
        "-1 (another one in each run) is not supported",
        minimum=0,
        maximum=2**31 - 1,
    ),
    Key("MODEL.DEVICE", "auto", "auto (a GPU where there is one), cpu, cuda or cuda:N"),
    Key(
        "TRACKERS",
        ("tensorboard",),
        "where a training's scalars, config and final scores go besides scalars.json; wandb and "
        "mlflow: extras of the installation, offline in OUTPUT_DIR unless a login (wandb) or "
        "MLFLOW_TRACKING_URI says otherwise",
        choices=("tensorboard", "wandb", "mlflow"),
    ),
    Key(
        "DIST_TIMEOUT",
        1800,
        "how long ranks wait for each other; must exceed the time that the "
        "first rank needs to score",
        minimum=1,
        unit="s",
    ),
)

DATA = (
    Key("DATASETS.ROOT", "datasets", "folder that holds SYSU-MM01/, RegDB/, LLCM/"),
    Key(
        "DATASETS.TABLE",
        "",
        "a .csv, .tsv or .parquet of path, identity, camera, modality (visible or infrared) and "
        "split (train, val or test): the data set of DATASETS.NAMES and TESTS, unless one of them "
        "names Table among others",
    ),
    Key(
        "DATASETS.REGDB_SPLIT",
        1,
        "RegDB's split; published results are the mean of all ten",
        choices=tuple(range(1, 11)),
    ),
    Key(
        "DATASETS.VALIDATION",
        False,
        "hold out training identities, score them while training, and "
        "keep the checkpoint that is best on them (SYSU-MM01: its val_id; else a seeded quarter)",
    ),
    Key(
        "INPUT.CHANNEL_AUG.ENABLED",
        False,
        "the channels of visible images change: with equal chances each of KINDS, or not",
        source=CAJ,
    ),
    Key(
        "INPUT.CHANNEL_AUG.KINDS",
        ("channel", "gray"),
        "channel (one of the three, in all), gray (of random weights), luma (gray of the weights "
        "0.299, 0.587, 0.114, in DEEN and MSCMNet)",
        choices=("channel", "gray", "luma"),
        source=CAJ,
    ),
    Key(
        "INPUT.VIEWS",
        1,
        "2: each visible training image comes twice in a step, as it is and with its channels "
        "changed (CHANNEL_AUG), both seen by every loss; 4: so do the infrared ones, whose second "
        "view alone is jittered (INFRARED_JITTER). luma among KINDS is of the first view (with a "
        "chance of one half), the others are of the second",
        choices=(1, 2, 4),
        source=f"{CAJ}; {MSCMNET}",
    ),
    Key(
        "INPUT.INTERPOLATION",
        "bicubic",
        "resizing of images in whole batches (INPUT.BATCHED): bicubic (as fast-reid), bilinear or "
        "lanczos",
        choices=("bicubic", "bilinear", "lanczos"),
        source="AGW, CAJ and DEEN: lanczos; MPANet: bilinear",
    ),
    Key(
        "INPUT.REA.AREA",
        (0.02, 0.33),
        "least and largest share of the image that REA erases",
        above=0.0,
        maximum=1.0,
        lengths=(2,),
        source="DEEN: 0.2 to 0.8; CAJ: 0.02 to 0.4",
    ),
    Key(
        "INPUT.INFRARED_JITTER.PROB",
        0.0,
        "chance that an infrared image gets another brightness and contrast, each by a factor of "
        "0.5 to 1.5",
        minimum=0.0,
        maximum=1.0,
        source="CAJ, MSCMNet",
    ),
    Key(
        "INPUT.LOCAL_LINEAR.PROB",
        0.0,
        "chance that a random part of an image (of INPUT.REA.AREA) is multiplied by a factor of "
        "0.5 to 1.5",
        minimum=0.0,
        maximum=1.0,
        source="local linear enhancement, RLE, Tan et al., NeurIPS 2024",
    ),
    Key(
        "INPUT.BATCHED",
        True,
        "augment whole 8-bit batches on the device where INPUT asks for no "
        "more than PADDING, FLIP, REA, CHANNEL_AUG, INFRARED_JITTER and LOCAL_LINEAR; else image "
        "by image, as fast-reid does",
    ),
    Key(
        "DATALOADER.CACHE_GB",
        8.0,
        "memory of a machine for decoded training images; 0: none",
        minimum=0.0,
        unit="GiB",
    ),
    Key(
        "DATALOADER.CORRUPT",
        "stop",
        "a training image that cannot be read: stop, or replace it by "
        "the next readable one of its identity and modality; a test image always stops",
        choices=("stop", "replace"),
    ),
    Key(
        "DATALOADER.TIMEOUT",
        600,
        "how long a worker may take for a batch; 0: for ever",
        minimum=0,
        unit="s",
    ),
)

SOLVER = (
    Key(
        "SOLVER.WARMUP_EPOCHS",
        0.0,
        "> 0: replaces SOLVER.WARMUP_ITERS, which depends on the size of "
        "the data set; may be a fraction; 0: SOLVER.WARMUP_ITERS holds (0 there: no warmup)",
        minimum=0.0,
        unit="epochs",
    ),
    Key(
        "SOLVER.ENHANCE_LR_FACTOR",
        1.0,
        "learning rate of MPFR and SDCE over SOLVER.BASE_LR",
        minimum=0.0,
    ),
    Key(
        "SOLVER.SCHED_BY_STEP",
        False,
        "whether SCHED changes the learning rate after every step; False: after whole epochs, as "
        "in fast-reid, where the last epoch of CosineAnnealingLR is at ETA_MIN_LR",
    ),
    Key(
        "SOLVER.CHECKPOINT_ITERS",
        0,
        "time between two writings of model_last inside an epoch; 0: at its end only",
        minimum=0,
        unit="steps",
    ),
    Key(
        "SOLVER.CHECKPOINT_KEEP",
        2,
        "how many of model_last's checkpoints are kept",
        minimum=1,
        unit="files",
    ),
    Key(
        "SOLVER.LAYOUT",
        "auto",
        "memory format of weights and images; auto: channels_last on a GPU, contiguous on a CPU",
        choices=("auto", "contiguous", "channels_last"),
    ),
    Key(
        "SOLVER.COMPILE",
        "",
        "torch.compile of the training steps: a backend (inductor; cudagraphs: CUDA graphs without "
        "generated code) or a mode of inductor (reduce-overhead: with CUDA graphs); empty: not "
        "compiled",
    ),
    Key(
        "SOLVER.DETERMINISTIC",
        False,
        "the same training again gives the same weights on a GPU, bit by bit, at some speed (a CPU "
        "always does): deterministic algorithms of torch and cuDNN; an operation that has none "
        "stops the run",
    ),
    Key(
        "SOLVER.AMP.DTYPE",
        "auto",
        "with SOLVER.AMP.ENABLED; auto: bfloat16 on a GPU that has it, "
        "else float16; float32 on a CPU, where only some gain by bfloat16",
        choices=("auto", "bfloat16", "float16"),
    ),
)

TEST = (
    Key(
        "TEST.EVAL_PERIOD",
        0,
        "time between evaluations; 0: after the last one only",
        minimum=0,
        unit="epochs",
    ),
    Key("TEST.PROTOCOLS", (), "test protocols; empty: the data set's own list"),
    Key(
        "TEST.SPLIT",
        "test",
        "identities that are scored: test, or val (those that "
        "DATASETS.VALIDATION holds out of the training)",
        choices=("test", "val"),
    ),
    Key(
        "TEST.RERANK.ALGORITHM",
        "fastreid",
        "fastreid (its evaluator's Jaccard distance) or original "
        "(Zhong et al., CVPR 2017); TEST.RERANK.{ENABLED,K1,K2,LAMBDA} are fast-reid's",
        choices=("fastreid", "original"),
    ),
)

KEYS: tuple[Key, ...] = RUN + MODEL + LOSSES + DATA + SOLVER + TEST + FASTREID
