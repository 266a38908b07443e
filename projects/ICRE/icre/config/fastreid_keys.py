"""fast-reid's own config keys: limits, as it ignores wrong values or meets them late; meanings.

A key that is not here is explained by fast-reid itself, in the comments of its defaults.
"""

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
# what fast-reid's comments leave out, or say of other keys
_EXPLAINED = tuple(
    Key(name, KEEP, meaning)
    for name, meaning in {
        "OUTPUT_DIR": "folder of the run: checkpoints, log, scalars, scores",
        "MODEL.META_ARCHITECTURE": "the network: `icre list models`",
        "MODEL.FREEZE_LAYERS": "children of the model that are frozen for SOLVER.FREEZE_ITERS",
        "MODEL.BACKBONE.NAME": "builder of the backbone: `icre list backbones`",
        "MODEL.BACKBONE.DEPTH": "size of the backbone, such as 18x, 34x, 50x or 101x of a ResNet",
        "MODEL.BACKBONE.SIE_COE": "vision transformer: weight of the camera embedding",
        "MODEL.BACKBONE.STRIDE_SIZE": "vision transformer: stride of the patches, in pixels",
        "MODEL.BACKBONE.DROP_PATH_RATIO": "vision transformer: largest rate of stochastic depth",
        "MODEL.BACKBONE.DROP_RATIO": "vision transformer: dropout of tokens",
        "MODEL.BACKBONE.ATT_DROP_RATE": "vision transformer: dropout of attention",
        "MODEL.HEADS.NAME": "the head: `icre list heads`",
        "MODEL.LOSSES.NAME": "losses of the training, which are added up: `icre list losses`",
        "MODEL.LOSSES.CE.ALPHA": "strength of adaptive label smoothing (EPSILON -1)",
        "MODEL.LOSSES.FL.ALPHA": "focal loss: weight of an example",
        "MODEL.LOSSES.FL.GAMMA": "focal loss: exponent that weakens easy examples",
        "MODEL.LOSSES.TRI.NORM_FEAT": "cosine distances; False: Euclidean ones",
        "MODEL.LOSSES.TRI.HARD_MINING": "hardest positive and negative; False: weighted means",
        "MODEL.LOSSES.CIRCLE.MARGIN": "relaxation margin of the circle loss",
        "MODEL.LOSSES.CIRCLE.GAMMA": "scale of the circle loss",
        "MODEL.LOSSES.COSFACE.MARGIN": "margin of the CosFace loss, in cosine",
        "MODEL.LOSSES.COSFACE.GAMMA": "scale of the CosFace loss",
        "KD.MODEL_CONFIG": "Distiller: config files of the teachers",
        "KD.MODEL_WEIGHTS": "Distiller: checkpoints of the teachers",
        "KD.EMA.ENABLED": "Distiller: the student's moving average teaches too",
        "KD.EMA.MOMENTUM": "Distiller: share of the old weights in the moving average",
        "INPUT.FLIP.ENABLED": "mirror training images at random",
        "INPUT.PADDING.ENABLED": "pad training images, then crop them at random to their size",
        "INPUT.REA.VALUE": "red, green and blue of what random erasing fills in, 0 to 255",
        "DATALOADER.SET_WEIGHT": "of fast-reid's SetReWeightSampler, which this loader lacks",
        "SOLVER.NESTEROV": "Nesterov momentum of SGD",
        "TEST.FLIP.ENABLED": "average the features of each image and its mirror image",
        "TEST.ROC.ENABLED": "true positive rates at fixed false ones, in fast-reid's evaluator",
        "TEST.AQE.ALPHA": "exponent of the similarities that weigh neighbours",
        "TEST.RERANK.K1": "neighbours of the reciprocal lists",
        "TEST.RERANK.K2": "lists that are averaged",
        "TEST.RERANK.LAMBDA": "share of the plain distance, 0 to 1",
        "TEST.PRECISE_BN.DATASET": "not used by this trainer",
        "TEST.PRECISE_BN.NUM_ITER": "not used by this trainer",
    }.items()
)

FASTREID = (
    Key("MODEL.BACKBONE.NORM", KEEP, "normalisation layers of the backbone", _NORMS),
    Key("MODEL.BACKBONE.LAST_STRIDE", KEEP, "stride of the last stage", (1, 2)),
    Key("MODEL.BACKBONE.FEAT_DIM", KEEP, "width of the last map", minimum=1, unit="channels"),
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
    Key("MODEL.PIXEL_MEAN", KEEP, "mean of red, green and blue", lengths=(1, 3), unit="0 to 255"),
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
            "RandomCrossModalitySampler",
            "NaiveIdentitySampler",
            "BalancedIdentitySampler",
            "TrainingSampler",
            "ImbalancedDatasetSampler",
        ),
    ),
    Key(
        "DATALOADER.NUM_INSTANCE", KEEP, "an identity's share of a batch", minimum=1, unit="images"
    ),
    Key("DATALOADER.NUM_WORKERS", KEEP, "readers of images; 0: none", minimum=0, unit="processes"),
    Key(
        "SOLVER.OPT",
        KEEP,
        "optimiser of torch",
        ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"),
    ),
    Key("SOLVER.MAX_EPOCH", KEEP, "length of the training", minimum=1, unit="epochs"),
    Key("SOLVER.BASE_LR", KEEP, "learning rate", above=0),
    *_FACTORS,
    Key("SOLVER.MOMENTUM", KEEP, "of SGD", minimum=0, maximum=1),
    Key("SOLVER.SCHED", KEEP, "learning rate schedule", ("MultiStepLR", "CosineAnnealingLR")),
    Key("SOLVER.GAMMA", KEEP, "factor of MultiStepLR", above=0),
    Key("SOLVER.STEPS", KEEP, "when MultiStepLR changes the rate", minimum=0, unit="epochs"),
    Key("SOLVER.DELAY_EPOCHS", KEEP, "time before the schedule begins", minimum=0, unit="epochs"),
    Key("SOLVER.WARMUP_FACTOR", KEEP, "first learning rate over the full one", minimum=0),
    Key("SOLVER.WARMUP_ITERS", KEEP, "length of the warmup; 0: none", minimum=0, unit="steps"),
    Key("SOLVER.WARMUP_METHOD", KEEP, "course of the warmup", ("linear", "constant", "exp")),
    Key(
        "SOLVER.FREEZE_ITERS",
        KEEP,
        "how long MODEL.FREEZE_LAYERS are frozen",
        minimum=0,
        unit="steps",
    ),
    Key(
        "SOLVER.CHECKPOINT_PERIOD",
        KEEP,
        "time between numbered checkpoints",
        minimum=1,
        unit="epochs",
    ),
    Key("SOLVER.IMS_PER_BATCH", KEEP, "batch of all ranks together", minimum=1, unit="images"),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", KEEP, "what is clipped", ("norm", "value")),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", KEEP, "limit of gradients", above=0),
    Key("SOLVER.CLIP_GRADIENTS.NORM_TYPE", KEEP, "order of the norm", above=0),
    Key("TEST.IMS_PER_BATCH", KEEP, "batch of a test", minimum=1, unit="images"),
    Key("TEST.METRIC", KEEP, "distance of fast-reid's evaluator", ("cosine", "euclidean")),
    Key("TEST.AQE.QE_TIME", KEEP, "rounds of query expansion", minimum=1),
    Key("TEST.AQE.QE_K", KEEP, "neighbours in query expansion", minimum=1),
    Key("TEST.PRECISE_BN.ENABLED", KEEP, "not supported by this trainer", (False,)),
    *_EXPLAINED,
)
