"""Train or evaluate all ten splits of RegDB and report their mean: see `--help`."""

from icre.engine.splits import main

if __name__ == "__main__":
    main()
