"""JSON Schemas of what is read and written over HTTP: pydantic's, as :func:`json_response` really answers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

NULL = {"type": "null"}


class WrongField(BaseModel):
    """One wrong field of the request."""

    pointer: Annotated[str, Field(examples=["/parameters/num_cpus"])]
    """RFC 6901 pointer into the body; ``?name`` for a parameter of the query."""
    detail: str


class Problem(BaseModel):
    """What went wrong (RFC 9457); ``code`` is for programs, ``detail`` for people. Some problems have members of their own."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: Annotated[str, Field(examples=["https://indaco.dev/problems/not-found"])]
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(examples=["not-found"])]
    request_id: str
    errors: list[WrongField] | None = None


class IndigoError(BaseModel):
    """What went wrong, as the INDIGO PaaS Orchestrator tells it; ``errors`` is ours."""

    code: int
    title: Annotated[str, Field(examples=["Not Found"])]
    message: str
    errors: list[WrongField] | None = None
    request_id: Annotated[str, Field(serialization_alias="requestId")]


class AnswerSchemas(GenerateJsonSchema):
    """In answers a field that has no value is left out: it is not required, and never null."""

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool  # noqa: FBT001
    ) -> bool:  # fmt: skip
        return super().field_is_required(field, total) and not (self.mode == "serialization" and _is_nullable(field))

    def model_field_schema(self, schema: core_schema.ModelField) -> JsonSchemaValue:
        found = super().model_field_schema(schema)
        return without_null(found) if self.mode == "serialization" else found


def without_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return *schema* for a place where an absent value is left out instead of being null."""
    left = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    options = left.pop("anyOf", None)
    if options is None:
        return left
    kept = [option for option in options if option != NULL]
    return {**kept[0], **left} if len(kept) == 1 else {"anyOf": kept, **left}


def _is_nullable(field: Any) -> bool:
    schema = field["schema"]
    while schema["type"] in ("default", "function-before", "function-after", "function-wrap"):
        schema = schema["schema"]
    return bool(schema["type"] == "nullable")
