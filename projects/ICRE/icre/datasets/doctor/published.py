"""How many identities and images the published sets have.

SYSU-MM01: Wu et al., ICCV 2017, and, per camera, the authors' rand_perm_cam.mat; the training set
of papers (train and val) is 22,258 visible and 11,909 infrared images. RegDB: Nguyen et al.,
Sensors 2017. LLCM: Zhang and Wang, CVPR 2023, whose four numbers add up to its 46,767 images.
"""

from icre.modality import INFRARED, VISIBLE

# {(role, modality or None for both, camera or None for all): (identities, images)}, None: unknown.
Counts = dict[tuple[str, int | None, int | None], tuple[int | None, int | None]]

_SYSU_CAMERAS = {
    "train": ((194, 4721), (195, 5753), (293, 5929), (283, 4821), (294, 4989), (200, 4000)),
    "test": ((56, 1374), (56, 1565), (93, 1883), (94, 1918), (95, 1918), (96, 1920)),
}

PUBLISHED: dict[str, Counts] = {
    "sysu": {
        ("train", None, None): (296, 30_213),
        ("train", VISIBLE, None): (None, 20_284),
        ("train", INFRARED, None): (None, 9_929),
        ("val", None, None): (99, 3_954),
        ("val", VISIBLE, None): (None, 1_974),
        ("val", INFRARED, None): (None, 1_980),
        ("test", None, None): (96, 10_578),
        ("test", VISIBLE, None): (None, 6_775),
        ("test", INFRARED, None): (None, 3_803),
        **{
            (role, INFRARED if camera in (3, 6) else VISIBLE, camera): counts
            for role, cameras in _SYSU_CAMERAS.items()
            for camera, counts in enumerate(cameras, start=1)
        },
    },
    "regdb": {
        (role, modality, camera): (206, images)
        for role in ("train", "test")
        for modality, camera, images in (
            (VISIBLE, 1, 2_060),
            (INFRARED, 2, 2_060),
            (None, None, 4_120),
        )
    },
    "llcm": {
        ("train", None, None): (713, 30_921),
        ("train", VISIBLE, None): (None, 16_946),
        ("train", INFRARED, None): (None, 13_975),
        ("test", None, None): (351, 15_846),
        ("test", VISIBLE, None): (None, 8_680),
        ("test", INFRARED, None): (None, 7_166),
    },
}
