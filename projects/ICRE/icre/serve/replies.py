"""Answers in JSON, and errors in one line."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from icre.gallery.backend import StoreUnavailable
from icre.serve.limits import RETRY_AFTER
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")


class Json(JSONResponse):
    """JSON in ASCII, as paths may hold bytes that are no text."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def add_handlers(app: FastAPI, brief: Callable[[Exception], str]) -> None:
    """Let every error be answered by {"detail": one line}.

    Args:
        app: gets the handlers.
        brief: the line of an error.
    """

    async def user_error(request: Request, error: Exception) -> Json:
        text = brief(error)
        if isinstance(error, StoreUnavailable):
            logger.error("%s", error)
            detail = "the store of the gallery does not answer: ask again later"
            return Json({"detail": detail}, 503, RETRY_AFTER)
        if "is damaged" in text or "the model's features" in text:
            logger.error("%s", error)
            return Json({"detail": text}, 500)
        return Json({"detail": re.sub(r"--(?=[a-z])", "", text)}, 422)

    async def invalid(request: Request, error: Exception) -> Json:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return Json({"detail": f"{where or 'the request'}: {first['msg']}"}, 422)

    async def http_error(request: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        return Json({"detail": error.detail}, error.status_code, error.headers)

    async def late(request: Request, error: Exception) -> Json:
        detail = "the time limit has passed: ask for less, or later"
        return Json({"detail": detail}, 503, RETRY_AFTER)

    app.add_exception_handler(UserError, user_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(TimeoutError, late)
