"""The keys below MODEL.LOSSES: weight and margins of each loss."""

from icre.config.key import Key
from icre.config.papers import AGW, CAJ, DEEN, HCTRI, ICRE, MPANET, MSCMNET

LOSSES = (
    Key("MODEL.LOSSES.GATHER", False, "ICG and the losses for comparison over all ranks' batches"),
    Key("MODEL.LOSSES.ICG.SCALE", 1.0, "weight of the loss [lambda]", minimum=0, source=ICRE),
    Key("MODEL.LOSSES.ICG.NORM", True, "L2-normalise the features first"),
    Key(
        "MODEL.LOSSES.ICG.VARIANT",
        "pull_push",
        "reading of the loss",
        choices=("pull_push", "rank", "soft_rank", "guided"),
    ),
    Key(
        "MODEL.LOSSES.ICG.MAPS",
        ("enhanced",),
        "maps whose pooled features the loss sees: enhanced (f), clues (of F_c)",
        choices=("enhanced", "clues"),
    ),
    Key(
        "MODEL.LOSSES.ICG.RHO1",
        None,
        "margin [rho_1]; None: the variant's own (pull_push 0.7, rank "
        "0.5, soft_rank 0.3, guided 0)",
        number=True,
    ),
    Key(
        "MODEL.LOSSES.ICG.RHO2",
        None,
        "margin [rho_2]; None: the variant's own (pull_push 0.01, rank "
        "0.1, soft_rank has none, guided 0.7)",
        number=True,
    ),
    Key("MODEL.LOSSES.AUX_ID.SCALE", 1.0, "weight of each auxiliary ID loss", minimum=0),
    Key(
        "MODEL.LOSSES.AUX_ID.MAPS",
        ("clues",),
        "maps with an ID loss, neck and classifier of their "
        "own in training: deep (X_4), clues (F_c)",
        choices=("deep", "clues"),
    ),
    Key(
        "MODEL.LOSSES.HC_TRIPLET.SCALE", 1.0, "weight of the hetero-centre triplet loss", minimum=0
    ),
    Key("MODEL.LOSSES.HC_TRIPLET.MARGIN", 0.3, "margin between distances", source=HCTRI),
    Key("MODEL.LOSSES.HC_TRIPLET.NORM", False, "L2-normalise the features first"),
    Key("MODEL.LOSSES.CENTER_CLUSTER.SCALE", 1.0, "weight of the centre cluster loss", minimum=0),
    Key(
        "MODEL.LOSSES.CENTER_CLUSTER.MARGIN",
        0.7,
        "distance below which two centres repel each other",
        source=MPANET,
    ),
    Key("MODEL.LOSSES.CENTER_CLUSTER.NORM", False, "L2-normalise the features first"),
    Key(
        "MODEL.LOSSES.WRT.SCALE",
        1.0,
        "weight of the weighted regularised triplet loss",
        minimum=0,
        source=AGW,
    ),
    Key(
        "MODEL.LOSSES.WRT.EPSILON",
        0.0,
        "in the denominator of the negatives' weights; the public code has 1e-6, by which the loss "
        "does not push while all negatives are more than some 14 units away",
        minimum=0,
        source=AGW,
    ),
    Key("MODEL.LOSSES.WRT.NORM", False, "L2-normalise the features first"),
    Key(
        "MODEL.LOSSES.SQUARED_DIFFERENCE.SCALE",
        1.0,
        "weight of the enhanced squared difference",
        minimum=0,
        source=CAJ,
    ),
    Key("MODEL.LOSSES.SQUARED_DIFFERENCE.NORM", False, "L2-normalise the features first"),
    Key(
        "MODEL.LOSSES.QUADRUPLE_CENTER.SCALE",
        0.5,
        "weight of the quadruple centre loss",
        minimum=0,
        source=MSCMNET,
    ),
    Key(
        "MODEL.LOSSES.QUADRUPLE_CENTER.MARGIN",
        0.7,
        "distance below which another identity's centre repels a feature",
    ),
    Key("MODEL.LOSSES.QUADRUPLE_CENTER.NORM", False, "L2-normalise the features first"),
    Key(
        "MODEL.LOSSES.CPM.SCALE",
        0.8,
        "weight of the cross-modality pattern loss",
        minimum=0,
        source=DEEN,
    ),
    Key("MODEL.LOSSES.CPM.MARGIN", 0.2, "margin between its distances", source=DEEN),
    Key(
        "MODEL.LOSSES.ORTHOGONAL.SCALE",
        0.01,
        "weight of the orthogonality of generated embeddings",
        minimum=0,
        source=DEEN,
    ),
    Key(
        "MODEL.LOSSES.PART_SEPARATION.SCALE",
        0.5,
        "weight of the separation of part masks",
        minimum=0,
        source=MPANET,
    ),
    Key(
        "MODEL.LOSSES.MODALITY_CLASSIFIER.SCALE",
        1.0,
        "weight of each modality classifier's ID loss (twice the public code's `weight_sid`)",
        minimum=0,
        source=MPANET,
    ),
    Key(
        "MODEL.LOSSES.MODALITY_CLASSIFIER.SCALE_KL",
        2.5,
        "weight of the divergence from the other modality's classifier",
        minimum=0,
        source=MPANET,
    ),
    Key(
        "MODEL.LOSSES.MODALITY_CLASSIFIER.RATE",
        0.2,
        "share of a classifier that its slow copy takes over in a step",
        minimum=0,
        maximum=1,
        source=MPANET,
    ),
)
