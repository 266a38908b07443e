"""Write a model as ONNX or TorchScript, checked against PyTorch: see `--help`."""

import sys

from icre.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
