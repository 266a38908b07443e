"""One HTML file with queries and their matches, pictures embedded."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from icre.gallery.answers import Answer
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.html import render
from icre.utils.image import Crop, read_image

HEIGHT, QUALITY = 208, 85  # of the pictures, in pixels and on JPEG's scale


def save_page(answers: Sequence[Answer], path: str | Path, title: str) -> None:
    """Write the page.

    Each query has its matches beside it: a green frame is the same person, a red one another, a
    gray one unknown; matches that are not above the threshold are pale.

    Args:
        answers: of `icre.gallery.answers.answer`.
        path: of the page.
        title: its heading.
    """
    text = render(
        "icre.gallery",
        "answers.html",
        title=title,
        legend=_legend(answers),
        answers=answers,
        read=thumbnail,
    )
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def _legend(answers: Sequence[Answer]) -> str:
    queries = f"{len(answers)} quer{'y' if len(answers) == 1 else 'ies'}"
    parts = [f"{queries}; below each match: rank, distance (smaller is nearer), person and camera"]
    matches = [match for one in answers for match in one.matches]
    if any(match.right is not None for match in matches):
        parts.append("green frame: the same person, red: another")
    if any(match.accepted is not None for match in matches):
        parts.append("pale: not above the threshold")
    if answers and answers[0].rerank:
        parts.append(f"re-ranked ({answers[0].rerank}); s is the plain cosine similarity")
    if any(one.comparable for one in answers):
        parts.append("c compares images of both modalities, s, the cosine, does not")
    return "; ".join(parts) + "."


def thumbnail(path: str, box: tuple[int, int, int, int] | None) -> bytes | None:
    """The image, or the box in it, as a JPEG file of HEIGHT pixels.

    None if it cannot be read, as a gallery may outlive it.
    """
    try:
        image = read_image(Crop(path, *box) if box else path)
    except UserError:
        return None
    width = max(1, round(image.width * HEIGHT / image.height))
    buffer = io.BytesIO()
    image.resize((width, HEIGHT), Image.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
