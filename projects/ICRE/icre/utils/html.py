"""HTML pages from Jinja2 templates: one file, text escaped, pictures embedded, no network."""

import base64
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **values: object) -> str:
    """Render a template of a package's folder `templates`; all text in `values` is escaped.

    Templates may extend `base.html` (values `title`) and import the macro `picture` from
    `picture.html`, both of this package.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("icre.utils")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    environment.filters["filename"] = lambda path: Path(path).name
    return environment.get_template(template).render(**values)
