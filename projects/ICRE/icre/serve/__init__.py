"""An HTTP service and a page on top of a gallery."""
