"""Which number stands for which modality: the only place of that choice.

Every batch, feature file and data set of the project carries one of these two integers per image.
"""

VISIBLE = 0
INFRARED = 1
NAMES = ("visible", "infrared")

# SYSU-MM01 names only the camera; what it sees follows (Wu et al., ICCV 2017).
SYSU_VISIBLE_CAMERAS = (1, 2, 4, 5)
SYSU_INFRARED_CAMERAS = (3, 6)
