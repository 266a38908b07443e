"""What the service accepts; imported for its options too, so without what is slow to import."""

from dataclasses import dataclass, field, fields
from typing import Any

from icre.utils.errors import UserError

RETRY_AFTER = {"Retry-After": "2"}  # seconds, of an answer 503


def _limit(default: float, option: str, text: str) -> Any:
    return field(default=default, metadata={"option": option, "help": text})


@dataclass(frozen=True)
class Limits:
    """Limits of each request, and of all together.

    Args:
        bytes: of a request's body.
        pixels: of an image.
        images: in a request.
        top: matches per image.
        waiting: requests at a time; more are answered 503.
        seconds: from a request's begin to its answer; later it is 503, or 408 if it is not sent.
        batch: images that the model computes at once.
    """

    bytes: int = _limit(20 * 2**20, "max-bytes", "of a request")
    pixels: int = _limit(16 * 2**20, "max-pixels", "of an image")
    images: int = _limit(16, "max-images", "in a request")
    top: int = _limit(100, "max-top", "matches per image")
    waiting: int = _limit(64, "max-waiting", "requests at a time; more are answered 503")
    seconds: float = _limit(30.0, "time-limit", "seconds from a request's begin to its answer")
    batch: int = _limit(32, "batch", "images that the model computes at once")

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise UserError(f"--{one.metadata['option']}: it must be above 0")

    @property
    def allowed(self) -> str:
        """Images that are accepted, in words."""
        from icre.utils.image import FORMATS

        return (
            f"1 to {self.images} images ({', '.join(FORMATS)}) of at most {self.pixels} pixels "
            f"each, together at most {self.bytes} bytes"
        )
