"""Arguments that several commands share."""

import argparse


def add_config_file(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--config-file."""
    parser.add_argument(
        "--config-file",
        required=required,
        default="",
        metavar="FILE",
        help="YAML: a path, or a name of `icre list configs`",
    )


class _Trust(argparse.Action):
    """Acts when it is read: whatever is loaded afterwards may import."""

    def __call__(self, *words: object) -> None:
        from icre.config import imports

        imports.trust()


def add_trust(parser: argparse.ArgumentParser) -> None:
    """--trust-imports."""
    parser.add_argument(
        "--trust-imports",
        nargs=0,
        default=argparse.SUPPRESS,  # it acts, and has no value
        action=_Trust,
        help="import the Python modules that a run's config names (IMPORTS); needed by models "
        "with parts of their own; only for runs of people you trust",
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """--import, in `imports`."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of your own, with losses, backbones or data sets; as the config key "
        "IMPORTS",
    )


def import_modules(args: argparse.Namespace) -> None:
    """Import what `--import` names, for commands that read no config."""
    if args.imports:
        from icre.config import load_config

        load_config(options=["IMPORTS", str(tuple(args.imports))])


def add_source(parser: "argparse._ActionsContainer", required: bool = False) -> None:
    """--source NAME FILE."""
    parser.add_argument(
        "--source",
        nargs=2,
        required=required,
        metavar=("NAME", "FILE"),
        help="a checkpoint that the training of a public code wrote: agw, caj, deen or mpanet",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """KEY VALUE pairs after all other arguments, in `opts`."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to override"
    )


def add_launch(parser: argparse.ArgumentParser) -> None:
    """fast-reid's arguments of a launch."""
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on each machine (1)")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0, help="of this one, from 0")
    parser.add_argument(
        "--dist-url", default="auto", help="tcp://HOST:PORT of the first machine (auto: this one)"
    )


def add_cluster(parser: argparse.ArgumentParser, what: str) -> None:
    """--cluster; `what` the machines do."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=f"{what} on the machines of a Ray cluster (extra cluster), which share the files: "
        "HOST:PORT of its head; auto: that in RAY_ADDRESS, or else one that is started on this "
        "machine; local: the latter",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers, with --cluster."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="with --cluster: models at a time (default: one on each GPU, without GPUs on each "
        "CPU)",
    )


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """--device."""
    parser.add_argument("--device", default=default, help=f"auto, cpu or cuda:N ({default})")


def add_protocol(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """--protocol, --draw and --perm: which test protocol, and its gallery sampling."""
    what = "the data set's own" if several else "the data set's first"
    parser.add_argument(
        "--protocol",
        nargs="+" if several else None,
        metavar="NAME",
        help=f"default: {what}; an unknown name prints the list",
    )
    parser.add_argument(
        "--draw",
        choices=("official", "seeded"),
        help="gallery sampling; default: official where rand_perm_cam.mat is known, else seeded",
    )
    parser.add_argument(
        "--perm", metavar="rand_perm_cam.mat", help="SYSU-MM01's official gallery sampling"
    )


def add_rerank(parser: argparse.ArgumentParser) -> None:
    """--rerank, --k1, --k2 and --lambda; read by `icre.evaluation.rerank_options`."""
    parser.add_argument(
        "--rerank", choices=("fastreid", "original"), help="re-rank too, by k-reciprocal neighbours"
    )
    parser.add_argument("--k1", type=int, help="neighbours of the reciprocal lists (20)")
    parser.add_argument("--k2", type=int, help="lists that are averaged (6)")
    parser.add_argument(
        "--lambda",
        type=float,
        dest="lambda_value",
        metavar="L",
        help="share of the plain distance, 0 to 1 (0.3)",
    )
