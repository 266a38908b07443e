"""The numbers and names of the modalities.

Every batch, feature file and data set of the project carries one of these two integers per image.
"""

VISIBLE = 0
INFRARED = 1
NAMES = ("visible", "infrared")
