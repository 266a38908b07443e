"""The command `icre`: one sub-command per module of this package, each also in tools/."""

import importlib
import sys

import icre

# name -> (module, what it does)
COMMANDS = {
    "try": ("try_it", "search at once: a small model and 200 crops come with the package"),
    "train": ("train", "train, resume or evaluate any fast-reid model"),
    "list": ("list", "models, losses, data sets, protocols, config keys"),
    "extract": ("extract", "write the features of a test set"),
    "convert": ("convert", "make a checkpoint of ours of a public code's"),
    "score": ("score", "score features under the test protocols"),
    "compare": ("compare", "difference of two models with intervals"),
    "search": ("search", "index a gallery, calibrate it, query it"),
    "export": ("export", "write a model as ONNX or TorchScript"),
    "report": ("report", "one HTML page that compares runs"),
    "visualize": ("visualize", "figures of runs and features"),
    "ablate": ("ablate", "train variants times seeds, and tabulate them"),
    "regdb-splits": ("regdb_splits", "RegDB's ten splits and their mean"),
    "check": ("check_dataset", "is a data set complete and the published one?"),
    "analyze": ("analyze", "parameters, MACs and milliseconds per part"),
    "render": ("render", "render demo data or a SynthVI benchmark"),
    "benchmark": ("benchmark", "speed beside other implementations"),
    "completion": ("completion", "what bash, zsh or tcsh need to complete `icre`"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command; returns its exit status, 2 for an unknown one."""
    words = sys.argv[1:] if argv is None else argv
    name = words[0] if words else "--help"
    if name in ("-V", "--version"):
        print(f"icre {icre.__version__}")
        return 0
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"icre.commands.{COMMANDS[name][0]}")
    sys.argv[0] = f"icre {name}"  # argparse's name of the program
    return module.main(words[1:])


def _usage() -> str:
    lines = [f"  {name:<13} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: icre COMMAND [ARGUMENT ...]   (icre COMMAND --help for its arguments)",
            "",
            "Visible-infrared person re-identification on fast-reid.",
            "",
            *lines,
        ]
    )
