"""The keys below MODEL, but for the losses."""

from icre.config.key import Key
from icre.config.papers import AGW, CAJ, DEEN, HCTRI, ICRE, MPANET, PCB

MODEL = (
    Key(
        "MODEL.BACKBONE.TIMM",
        "",
        "network of timm (extra timm) that MODEL.BACKBONE.NAME build_timm_backbone builds",
    ),
    Key(
        "MODEL.BACKBONE.SPECIFIC_STAGES",
        0,
        "layers that each modality has of its own: 0 the stem (conv1 and bn1), 1 layer1 too",
        choices=(0, 1),
        source=f"{AGW}; {HCTRI}",
    ),
    Key(
        "MODEL.BACKBONE.POOL_PADDING",
        0,
        "max pooling of our ResNets' stem: 0 without a border (fast-reid's), 1 with one of a pixel "
        "(torchvision's, and so that of ImageNet's weights and of the public codes)",
        choices=(0, 1),
    ),
    Key("MODEL.MPFR.ENABLED", True, "refine several stages into the clue map"),
    Key(
        "MODEL.MPFR.STAGES",
        ("layer1", "layer2", "layer3"),
        "stages that are refined [S]",
        choices=("layer1", "layer2", "layer3", "layer4"),
        source=f"{ICRE} (its stages 2-4)",
    ),
    Key(
        "MODEL.MPFR.DIM",
        512,
        "width of the clue map and of SDCE's tokens [d]",
        minimum=1,
        unit="channels",
    ),
    Key(
        "MODEL.MPFR.ALIGN",
        "avg",
        "resampling to layer4's grid: adaptive average pooling or bilinear",
        choices=("avg", "bilinear"),
    ),
    Key(
        "MODEL.MPFR.MASK",
        "sigmoid",
        "spatial mask of a stage: sigmoid, softmax (the stages compete) or cbam",
        choices=("sigmoid", "softmax", "cbam"),
    ),
    Key("MODEL.MPFR.FUSE", "sum", "fusion of the masked maps", choices=("sum", "concat")),
    Key("MODEL.MPFR.INSTANCE_NORM", False, "instance-normalise the aligned maps"),
    Key("MODEL.SDCE.ENABLED", True, "enhance the deep map by attention to the clue map"),
    Key("MODEL.SDCE.HEADS", 8, "attention heads [H]; must divide MODEL.MPFR.DIM", minimum=1),
    Key("MODEL.SDCE.FFN_RATIO", 4.0, "hidden width of the feed-forward over d", minimum=0.0),
    Key(
        "MODEL.SDCE.DROPOUT", 0.0, "dropout of attention and feed-forward", minimum=0.0, maximum=1.0
    ),
    Key(
        "MODEL.SDCE.QUERY",
        "deep",
        "map that gives the queries and is enhanced",
        choices=("deep", "clue"),
    ),
    Key(
        "MODEL.SDCE.ORDER",
        "cascade",
        "cascade (cross-, then self-attention), cross alone, self alone (clues added) or parallel",
        choices=("cascade", "cross", "self", "parallel"),
    ),
    Key(
        "MODEL.SDCE.OUTPUT",
        "residual",
        "F_e: residual (X_4 + BN0(..)), replace (BN0(..)) or concat (BN0 of X_4 and the new map)",
        choices=("residual", "replace", "concat"),
    ),
    Key(
        "MODEL.SDCE.PLACE",
        "layer4",
        "stage whose map is enhanced: layer4 (our reading of the paper) or layer3, where "
        "published modules of this kind gain most (MSCMNet, MDGRN, MFEN)",
        choices=("layer4", "layer3"),
    ),
    Key(
        "MODEL.SDCE.INIT_SCALE",
        0.0,
        "initial weight of BN0 in a residual: 0 with pretrained weights "
        "(step 0 is the pretrained baseline); 0.1 to 1 from scratch, where weight decay would keep "
        "the branch dead in a short schedule",
    ),
    Key(
        "MODEL.HEADS.TEST_FEAT",
        "after",
        "ICREHead's test feature: after (b) or before (f) the BNNeck, or both (each L2-normalised, "
        "one behind the other, as DEEN); all three are scored on the test set. "
        "MODEL.HEADS.NECK_FEAT is what the metric losses see",
        choices=("after", "before", "both"),
    ),
    Key(
        "MODEL.HEADS.TEST_NORM",
        False,
        "L2-normalise ICREHead's test feature before that of the mirrored image is added "
        "(TEST.FLIP)",
        source=CAJ,
    ),
    Key(
        "MODEL.HEADS.PARTS",
        6,
        "parts of MPANetHead (masks) and PCBHead (strips)",
        minimum=1,
        source=f"{MPANET}; {PCB}",
    ),
    Key(
        "MODEL.DEEN.LAST_STAGE",
        "layer4",
        "last stage of build_deen_backbone, in front of which the embeddings are made; layer3 for "
        "RegDB",
        choices=("layer4", "layer3"),
        source=DEEN,
    ),
)
