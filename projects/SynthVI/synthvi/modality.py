"""Numbers of the two modalities."""

VISIBLE = 0
INFRARED = 1
