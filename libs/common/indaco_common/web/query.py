"""Reading a query string as strictly as a body: an unknown or repeated parameter is told, and not passed over."""

from collections.abc import Iterable, Iterator
from typing import TypeVar, get_origin

from aiohttp import web
from pydantic import BaseModel, ValidationError

from indaco_common.errors import FieldError, Invalid
from indaco_common.web.problems import excerpt

MAX_QUERY = 8 * 1024  # characters
MAX_VALUES = 50  # of one parameter that may be repeated

M = TypeVar("M", bound=BaseModel)


class NoQuery(BaseModel):
    """No parameters."""


def read_query(request: web.Request, model: type[M]) -> M:
    """Return the query string as *model*; a field that is a list or tuple takes a parameter's every occurrence.

    Raises: Invalid, with an error per wrong parameter.
    """
    if len(request.query_string) > MAX_QUERY:
        raise Invalid(f"The query is longer than {MAX_QUERY} characters")
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    given = request.query
    errors = [FieldError(f"?{excerpt(name)}", _unknown(fields)) for name in given if name not in fields]
    values: dict[str, object] = {}
    for name in fields.keys() & set(given):
        found = given.getall(name)
        is_list = get_origin(fields[name].annotation) in (list, tuple)
        if len(found) > (MAX_VALUES if is_list else 1):
            errors.append(FieldError(f"?{name}", f"is given {len(found)} times"))
        values[name] = found if is_list else found[0]
    if errors:
        raise _wrong(errors)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _wrong(list(_told(error))) from None


def _unknown(fields: Iterable[str]) -> str:
    names = ", ".join(sorted(fields))
    return f"is not known here; known are: {names}" if names else "is not known here; this takes no parameters"


def _told(error: ValidationError) -> Iterator[FieldError]:
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        yield FieldError(f"?{each['loc'][0]}", excerpt(each["msg"], 300))


def _wrong(errors: list[FieldError]) -> Invalid:
    return Invalid(f"{len(errors)} parameter(s) of the query are wrong", errors=errors)
