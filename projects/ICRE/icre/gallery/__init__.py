"""Store, changes, index, images, filters, calibration, answers, page."""
