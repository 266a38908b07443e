"""Find and load a backbone's pretrained weights: fast-reid's keys, files and addresses.

fast-reid's own loader (fastreid/modeling/backbones/resnet.py:209) imports gdown even for a file
that it has, lets an incomplete file pass and dies in a long traceback offline. This one takes the
same file from the same place, and its errors are one line.
"""

import logging
import os
import pickle
from pathlib import Path

import torch
from torch import nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones.resnet import model_urls
from fastreid.utils import comm

from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

KEY = "MODEL.BACKBONE.PRETRAIN_PATH"


def pretrained_file(cfg: CfgNode) -> Path:
    """Path of the weights that `cfg` asks for, downloaded first where they are not yet kept.

    Without `MODEL.BACKBONE.PRETRAIN_PATH` it is fast-reid's file for the backbone's depth and
    blocks, kept in `$TORCH_HOME/checkpoints` (`~/.cache/torch/checkpoints`).

    Raises:
        UserError: no such file and no way to download it, or fast-reid knows no weights for this
            kind of backbone.
    """
    node = cfg.MODEL.BACKBONE
    if node.PRETRAIN_PATH:
        path = Path(node.PRETRAIN_PATH).expanduser()
        if not path.is_file():
            raise UserError(f"{KEY}: no file {path}; correct the path or leave it empty")
        return path
    kind = "se_" * node.WITH_SE + "ibn_" * node.WITH_IBN + node.DEPTH
    if kind not in model_urls:
        raise UserError(
            f"{KEY} is empty and fast-reid has no weights for '{kind}'; it has "
            f"{', '.join(model_urls)}"
        )
    return _downloaded(model_urls[kind])


def _downloaded(url: str) -> Path:
    """Path of the kept copy of `url`; the main process downloads it where it is missing."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.getenv("TORCH_HOME", f"{cache}/torch")).expanduser()
    path = home / "checkpoints" / url.rsplit("/", 1)[-1]
    failure = "another process could not download it"
    if not path.is_file() and comm.is_main_process():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            failure = str(error)
    comm.synchronize()
    if not path.is_file():
        raise UserError(
            f"no pretrained weights at {path} and {url} cannot be downloaded ({failure}); "
            f"put the file there, name it in {KEY}, or set MODEL.BACKBONE.PRETRAIN False"
        )
    return path


def load_pretrained(resnet: nn.Module, path: Path) -> None:
    """Load the state dict in `path` into `resnet`; what only one of them has is logged.

    The file is read with `weights_only=True`: a pickle that would run code is refused.

    Raises:
        UserError: the file is no plain state dict, or not of this kind of network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        # torch's own message is long and explains how to run the code in the file
        raise UserError(f"{KEY}: {path} is broken, or not a plain state dict of tensors") from None
    own = resnet.state_dict()
    if not isinstance(state, dict) or "conv1.weight" not in state:
        raise UserError(f"{KEY}: {path} holds no 'conv1.weight', so it is not a ResNet's weights")
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    if wrong:
        raise UserError(
            f"{KEY}: in {path} {wrong[0]} is {tuple(state[wrong[0]].shape)}, the backbone needs "
            f"{tuple(own[wrong[0]].shape)}; it is of another MODEL.BACKBONE.DEPTH"
        )
    incompatible = resnet.load_state_dict(state, strict=False)
    logger.info(
        "Loaded pretrained weights %s; not in the file: %s; not in the backbone: %s",
        path,
        incompatible.missing_keys,
        incompatible.unexpected_keys,
    )
