"""A web page in one file: its pictures are inside, and nothing comes from a network."""

import base64
from html import escape

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>
{body}
</body></html>
"""


def document(title: str, style: str, body: str) -> str:
    """The whole page.

    Args:
        title: plain text, for the browser's tab.
        style: CSS.
        body: HTML.
    """
    return _FRAME.format(title=escape(title), style=style, body=body)


def picture(content: bytes, kind: str, alt: str, width: int | None = None) -> str:
    """An <img> with the picture inside.

    Args:
        content: of the file.
        kind: of the file, such as "jpeg".
        alt: plain text in its place.
        width: in CSS pixels; None: as CSS or the file says.
    """
    data = base64.b64encode(content).decode("ascii")
    size = f' width="{width}"' if width else ""
    return f'<img alt="{escape(alt)}"{size} src="data:image/{kind};base64,{data}">'
