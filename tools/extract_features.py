"""Write the features of a test set from a config and a checkpoint: see `--help`."""

from icre.engine.extract import main

if __name__ == "__main__":
    main()
