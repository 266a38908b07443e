"""Read YAML that somebody wrote or sent: configs, specs of ablations.

PyYAML's safe loader keeps the last of two equal keys in silence, and lets a few lines of aliases
stand for billions of values; here both are errors with file and line.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from icre.utils.errors import UserError
from icre.utils.files import read_bytes

MAX_BYTES = 2**20  # a whole config has 10 kB
MAX_VALUES = 100_000  # after the expansion of aliases


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: the file is missing, no regular file, too large, no UTF-8 text or no YAML, or has
            a key twice; names the file, and the line where there is one.
    """
    content = read_bytes(path, MAX_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: no UTF-8 text: save it as UTF-8") from None
    return parse_yaml(text, path)


def read_mapping(path: str | Path, what: str) -> dict[Any, Any]:
    """As `read_yaml`, and raises UserError unless the content is a mapping; `what` it should be."""
    return require_mapping(read_yaml(path), path, what)


def require_mapping(content: Any, name: str | Path, what: str) -> dict[Any, Any]:
    """Return `content`; raises UserError unless it is a mapping."""
    if content is None:
        raise UserError(f"{name} is empty; {what}")
    if not isinstance(content, dict):
        kinds: dict[type, str] = {list: "a list", str: "text"}
        kind = kinds.get(type(content), f"a {type(content).__name__}")
        raise UserError(f"{name} holds {kind}; {what}")
    return content


def parse_yaml(text: str, name: str | Path) -> Any:
    """The content of YAML text.

    Args:
        text: the YAML.
        name: where it is from, for messages.

    Raises:
        UserError: as `read_yaml`.
    """
    if len(text) > MAX_BYTES:  # also of text inside other files
        raise UserError(f"{name} has {len(text)} characters; at most {MAX_BYTES} are read")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: {error.problem or error.context}") from None
    except RecursionError:
        raise UserError(f"{name}: its values are nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date such as 0-0-0
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None


class _Loader(yaml.SafeLoader):
    """Refuses what the module's docstring names, before any value is made."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node stands for.

    Args:
        counts: of the nodes seen so far, by id; 0 of those that contain `node`.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in counts:  # an alias
        if not counts[id(node)]:
            raise yaml.MarkedYAMLError(
                problem="a value contains itself", problem_mark=node.start_mark
            )
        return counts[id(node)]
    counts[id(node)] = 0
    children = node.value
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
        children = [part for pair in node.value for part in pair]
    count = 1 + sum(_count(child, counts) for child in children)
    if count > MAX_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"stands for more than {MAX_VALUES} values", problem_mark=node.start_mark
        )
    counts[id(node)] = count
    return count


def _refuse_repeated(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in lines:  # 1 and "1" too: both become one name
            raise yaml.MarkedYAMLError(
                problem=f"key {key.value!r} is in line {lines[key.value]} already",
                problem_mark=key.start_mark,
            )
        lines[key.value] = key.start_mark.line + 1


def leaves(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of each value of a nested config that is no section."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
