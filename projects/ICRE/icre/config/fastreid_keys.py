"""Limits of fast-reid's own config keys, whose wrong values it ignores or meets late."""

from icre.config.key import KEEP, Key

_NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
_LOSS_SCALES = tuple(
    Key(f"MODEL.LOSSES.{loss}.SCALE", KEEP, "weight of the loss", minimum=0)
    for loss in ("CE", "FL", "TRI", "CIRCLE", "COSFACE")
)
_PROBABILITIES = tuple(
    Key(f"INPUT.{name}.PROB", KEEP, "chance that an image is changed", minimum=0, maximum=1)
    for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")
)
_SIZES = tuple(
    Key(f"INPUT.{name}", KEEP, "height and width", minimum=1, lengths=(2,), unit="pixels")
    for name in ("SIZE_TRAIN", "SIZE_TEST", "CROP.SIZE")
)
_FACTORS = tuple(
    Key(f"SOLVER.{name}", KEEP, meaning, minimum=0)
    for name, meaning in {
        "HEADS_LR_FACTOR": "learning rate of the head over SOLVER.BASE_LR",
        "BIAS_LR_FACTOR": "learning rate of biases over SOLVER.BASE_LR",
        "WEIGHT_DECAY": "weight decay",
        "WEIGHT_DECAY_NORM": "weight decay of normalisation layers",
        "WEIGHT_DECAY_BIAS": "weight decay of biases",
        "ETA_MIN_LR": "learning rate at the end of CosineAnnealingLR",
    }.items()
)

FASTREID = (
    Key("MODEL.BACKBONE.NORM", KEEP, "normalisation layers of the backbone", _NORMS),
    Key("MODEL.BACKBONE.LAST_STRIDE", KEEP, "stride of the last stage", (1, 2)),
    Key("MODEL.BACKBONE.FEAT_DIM", KEEP, "channels of the last map", minimum=1),
    Key("MODEL.HEADS.NORM", KEEP, "normalisation layer of the neck", _NORMS),
    Key("MODEL.HEADS.NECK_FEAT", KEEP, "feature that the metric losses see", ("before", "after")),
    Key(
        "MODEL.HEADS.POOL_LAYER",
        KEEP,
        "pooling of the last map",
        (
            "Identity",
            "Flatten",
            "GlobalAvgPool",
            "GlobalMaxPool",
            "GeneralizedMeanPooling",
            "GeneralizedMeanPoolingP",
            "FastGlobalAvgPool",
            "AdaptiveAvgMaxPool",
            "ClipGlobalAvgPool",
        ),
    ),
    Key(
        "MODEL.HEADS.CLS_LAYER",
        KEEP,
        "classifier",
        ("Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"),
    ),
    Key("MODEL.HEADS.NUM_CLASSES", KEEP, "identities; 0: those of the training set", minimum=0),
    Key("MODEL.HEADS.EMBEDDING_DIM", KEEP, "size of the feature; 0: the backbone's", minimum=0),
    Key("MODEL.HEADS.SCALE", KEEP, "scale of a margin-based classifier", above=0),
    Key("MODEL.LOSSES.CE.EPSILON", KEEP, "label smoothing; -1: adaptive", minimum=-1, maximum=1),
    Key("MODEL.LOSSES.TRI.MARGIN", KEEP, "margin of the triplet loss", minimum=0),
    *_LOSS_SCALES,
    Key("MODEL.PIXEL_MEAN", KEEP, "mean of red, green and blue", lengths=(1, 3)),
    Key("MODEL.PIXEL_STD", KEEP, "deviation of red, green and blue", above=0, lengths=(1, 3)),
    *_SIZES,
    *_PROBABILITIES,
    Key("INPUT.CROP.SCALE", KEEP, "part of the image", above=0, maximum=1, lengths=(2,)),
    Key("INPUT.CROP.RATIO", KEEP, "width over height", above=0, lengths=(2,)),
    Key(
        "INPUT.PADDING.MODE",
        KEEP,
        "what the border is filled with",
        ("constant", "edge", "reflect", "symmetric"),
    ),
    Key("INPUT.PADDING.SIZE", KEEP, "width of the border", minimum=0, unit="pixels"),
    Key("INPUT.CJ.BRIGHTNESS", KEEP, "largest change", minimum=0),
    Key("INPUT.CJ.CONTRAST", KEEP, "largest change", minimum=0),
    Key("INPUT.CJ.SATURATION", KEEP, "largest change", minimum=0),
    Key("INPUT.CJ.HUE", KEEP, "largest change", minimum=0, maximum=0.5),
    Key(
        "INPUT.AFFINE.ENABLED",
        KEEP,
        "not supported: fast-reid's call needs torchvision < 0.13",
        (False,),
    ),
    Key(
        "DATALOADER.SAMPLER_TRAIN",
        KEEP,
        "how identities are drawn into batches",
        (
            "CrossModalitySampler",
            "NaiveIdentitySampler",
            "BalancedIdentitySampler",
            "TrainingSampler",
            "ImbalancedDatasetSampler",
        ),
    ),
    Key("DATALOADER.NUM_INSTANCE", KEEP, "images of an identity in a batch", minimum=1),
    Key("DATALOADER.NUM_WORKERS", KEEP, "processes that read images; 0: none", minimum=0),
    Key(
        "SOLVER.OPT",
        KEEP,
        "optimiser of torch",
        ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"),
    ),
    Key("SOLVER.MAX_EPOCH", KEEP, "epochs", minimum=1),
    Key("SOLVER.BASE_LR", KEEP, "learning rate", above=0),
    *_FACTORS,
    Key("SOLVER.MOMENTUM", KEEP, "of SGD", minimum=0, maximum=1),
    Key("SOLVER.SCHED", KEEP, "learning rate schedule", ("MultiStepLR", "CosineAnnealingLR")),
    Key("SOLVER.GAMMA", KEEP, "factor of MultiStepLR", above=0),
    Key("SOLVER.STEPS", KEEP, "epochs at which MultiStepLR changes the rate", minimum=0),
    Key("SOLVER.DELAY_EPOCHS", KEEP, "epochs before the schedule begins", minimum=0),
    Key("SOLVER.WARMUP_FACTOR", KEEP, "first learning rate over the full one", minimum=0),
    Key("SOLVER.WARMUP_ITERS", KEEP, "steps of the warmup; 0: none", minimum=0),
    Key("SOLVER.WARMUP_METHOD", KEEP, "course of the warmup", ("linear", "constant", "exp")),
    Key("SOLVER.FREEZE_ITERS", KEEP, "steps that MODEL.FREEZE_LAYERS stay frozen", minimum=0),
    Key("SOLVER.CHECKPOINT_PERIOD", KEEP, "epochs between numbered checkpoints", minimum=1),
    Key("SOLVER.IMS_PER_BATCH", KEEP, "images in a batch, of all ranks together", minimum=1),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", KEEP, "what is clipped", ("norm", "value")),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", KEEP, "limit of gradients", above=0),
    Key("SOLVER.CLIP_GRADIENTS.NORM_TYPE", KEEP, "order of the norm", above=0),
    Key("TEST.IMS_PER_BATCH", KEEP, "images in a batch", minimum=1),
    Key("TEST.METRIC", KEEP, "distance of fast-reid's evaluator", ("cosine", "euclidean")),
    Key("TEST.AQE.QE_TIME", KEEP, "rounds of query expansion", minimum=1),
    Key("TEST.AQE.QE_K", KEEP, "neighbours in query expansion", minimum=1),
    Key("TEST.PRECISE_BN.ENABLED", KEEP, "not supported by this trainer", (False,)),
)
