"""Two-stream backbone, MPFR, SDCE, head, losses and the ICRE meta-architecture."""
