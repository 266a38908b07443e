"""Models of finished runs: one image, a test set, a gallery, on one machine or many."""
