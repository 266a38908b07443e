"""One HTML file with queries and what was found; pictures inside, nothing from a network."""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from icre.data.image import read_image
from icre.gallery.answers import Answer, Match
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.webpage import document, picture

HEIGHT, QUALITY = 208, 85  # of the pictures, in pixels and JPEG's scale

_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #1d2329; --soft: #66707a;
  --line: #dde1e6; --right: #2ea043; --wrong: #cf222e; --none: #aab2bb; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1e2327; --text: #e8eaed;
  --soft: #9aa4ae; --line: #343b42; --none: #59636d; } }
body { margin: 0 auto; max-width: 1500px; padding: 24px; background: var(--back);
  color: var(--text); font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } p { margin: 0 0 16px; color: var(--soft); }
section { display: grid; grid-template-columns: 150px 1fr; gap: 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin-bottom: 16px; }
.query { border-right: 1px solid var(--line); padding-right: 16px; }
h2 { font-size: 15px; margin: 0 0 10px; } h2 small { color: var(--soft); font-weight: 400; }
h2 b { color: #fff; background: #6e7781; border-radius: 4px; padding: 1px 7px; }
h2 b.here { background: #1a6fb5; } h2 b.absent { background: #57606a; }
.found { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
figure { margin: 0; min-width: 0; } figure.refused img { opacity: .55; }
img, .lost { height: 168px; max-width: 100%; object-fit: contain; border: 4px solid var(--none);
  border-radius: 6px; display: block; background: #000; box-sizing: border-box; }
.lost { width: 84px; font-size: 11px; color: #ccc; overflow: hidden; }
.right img { border-color: var(--right); } .wrong img { border-color: var(--wrong); }
.query img { border-color: #3572b0; }
figcaption { font-size: 12px; color: var(--soft); overflow-wrap: anywhere; }
figcaption b { color: var(--text); }
@media (max-width: 700px) { section { grid-template-columns: 1fr; }
  .query { border-right: 0; padding-right: 0; } }
"""


def save_page(answers: Sequence[Answer], path: str | Path, title: str) -> None:
    """Write the page.

    Each query stands beside its matches: a green frame is the same person, a red one another, a
    gray one unknown; matches that are not above the threshold are pale.

    Args:
        answers: of `icre.gallery.answers.answer`.
        path: of the page.
        title: its heading, plain text.
    """
    body = "\n".join(_section(one) for one in answers)
    heading = f"<h1>{escape(title)}</h1>\n<p>{_legend(answers)}</p>"
    text = document(title, _STYLE, f"{heading}\n{body}")
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def _legend(answers: Sequence[Answer]) -> str:
    queries = f"{len(answers)} quer{'y' if len(answers) == 1 else 'ies'}"
    parts = [f"{queries}; below each match: rank, distance (smaller is nearer), person and place"]
    matches = [match for one in answers for match in one.matches]
    if any(match.right is not None for match in matches):
        parts.append("green frame: the same person, red: another")
    if any(match.accepted is not None for match in matches):
        parts.append("pale: not above the threshold")
    if answers and answers[0].rerank:
        parts.append(f"re-ranked ({answers[0].rerank}); s is the plain cosine similarity")
    return "; ".join(parts) + "."


def _section(one: Answer) -> str:
    style = {True: "here", False: "absent", None: ""}[one.here]
    query = one.query
    name = f"<b>{escape(query['identity'])}</b><br>" if query["identity"] else ""
    found = "\n".join(_figure(match, bool(one.rerank)) for match in one.matches)
    return (
        f'<section><div class="query"><figure>{_picture(query["path"])}<figcaption>{name}'
        f"{_where(query['modality'], query['camera'])}<br>{escape(Path(query['path']).name)}"
        f'</figcaption></figure></div>\n<div><h2><b class="{style}">{one.verdict}</b> '
        f"<small>{escape(one.reason)}</small></h2>\n"
        f'<div class="found">{found}</div></div></section>'
    )


def _figure(match: Match, reranked: bool) -> str:
    styles = [{True: "right", False: "wrong", None: ""}[match.right]]
    styles += ["refused"] if match.accepted is False else []
    lines = [f"<b>#{match.rank}</b> {match.distance:.3f}"]
    lines += [f"s {match.similarity:.3f}"] if reranked else []
    lines += [escape(match.identity)] if match.identity else []
    lines.append(_where(match.modality, match.camera))
    return (
        f'<figure class="{" ".join(styles)}" title="{escape(match.path)}">{_picture(match.path)}'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def _where(modality: str, camera: str) -> str:
    return escape(f"{modality}, cam {camera}" if camera else modality)


def _picture(path: str) -> str:
    """The image inside the page; a gallery may outlive its images, so one may be gone."""
    try:
        image = read_image(path)
    except UserError:
        return f'<div class="lost">cannot be read: {escape(Path(path).name)}</div>'
    width = max(1, round(image.width * HEIGHT / image.height))
    buffer = io.BytesIO()
    image.resize((width, HEIGHT), Image.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
    return picture(buffer.getvalue(), "jpeg", Path(path).name)
