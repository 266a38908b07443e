"""Comments of fast-reid's own table of defaults, for keys that nothing else explains."""

import ast
import inspect
import io
import re
import tokenize

import icre.compat  # noqa: F401

from fastreid.config import defaults

_ROOT = "_C."  # what a key's assignment begins with


def fastreid_comments() -> dict[str, str]:
    """Dotted key -> the comment behind its assignment, or right above it."""
    source = inspect.getsource(defaults)
    behind, alone = _comments(source)
    found = {}
    for name, line in _assignments(source):
        above: list[str] = []
        row = line - 1
        while row in alone:
            above.insert(0, alone[row])
            row -= 1
        text = " ".join(one for one in above if one.strip("-")) or behind.get(line, "")
        if text:
            found[name] = re.sub(r"\s+", " ", text).strip().rstrip(".")
    return found


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Line number -> text of the comments behind code, and of those with a line of their own."""
    behind: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            group = behind if token.line[: token.start[1]].strip() else alone
            group[token.start[0]] = token.string.strip("# ")
    return behind, alone


def _assignments(source: str) -> list[tuple[str, int]]:
    """(key, line) of every value; CN({"ENABLED": False}) is the key ENABLED of its section."""
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign):
            continue
        name = ast.unparse(node.targets[0])
        if not name.startswith(_ROOT):
            continue
        name, value = name.removeprefix(_ROOT), node.value
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "CN":
            keys = value.args[0].keys if value.args and isinstance(value.args[0], ast.Dict) else []
            inside = [one.value for one in keys if isinstance(one, ast.Constant)]
            found += [(f"{name}.{key}", node.lineno) for key in inside]
        else:
            found.append((name, node.lineno))
    return found
