"""Store, index, images, calibration, answers, page."""
