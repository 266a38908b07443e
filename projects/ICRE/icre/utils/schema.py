"""Structure of data that was read from a file: declared as pydantic models, and checked here."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from icre.utils.errors import UserError


class Open(BaseModel):
    """A mapping whose declared entries have the declared types; further ones may be there.

    Types are strict: no text stands for a number, and no number for a truth value.
    """

    model_config = ConfigDict(strict=True, protected_namespaces=())


class Closed(Open):
    """As `Open`, and nothing but the declared entries is there."""

    model_config = ConfigDict(extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], value: Any, where: str) -> Model:
    """`value` as `model`.

    Raises:
        UserError: begins with `where` and names the first entry that is missing or wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None
    entry = ".".join(map(str, first["loc"]))
    if not entry:
        raise UserError(f"{where} is no mapping")
    if first["type"] == "missing":
        raise UserError(f"{where} has no {entry}")
    if first["type"] == "extra_forbidden":
        raise UserError(f"{where} has an unknown {entry}")
    raise UserError(f"{where} has a wrong {entry}: {first['msg'].lower()}")
