"""``imports.lock``: which text stands for which URL."""

import json
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal, Self

import pydantic
from pydantic import AwareDatetime, Field

from indaco_common.errors import Invalid

MAX_TEXT_BYTES = 1024 * 1024  # of one import, as indaco_tosca reads them
MAX_PINS = 500
MAX_LOCK_BYTES = MAX_PINS * 4096

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Origin = Literal["https", "mirror", "file"]


class Pin(pydantic.BaseModel):
    """One text: its digest, its size in bytes, since when it stands for its URL, and where it came from."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=MAX_TEXT_BYTES)]
    fetched_at: AwareDatetime
    origin: Origin

    @classmethod
    def of(cls, text: bytes, *, origin: Origin, now: datetime) -> Self:
        return cls(sha256=sha256(text).hexdigest(), size=len(text), fetched_at=now, origin=origin)

    def is_same(self, other: Self | None) -> bool:
        """Return whether *other* is a pin of the same text from the same origin, whenever it was made."""
        return other is not None and (other.sha256, other.origin) == (self.sha256, self.origin)


class Lock(pydantic.BaseModel):
    """All pins by URL."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    imports: Annotated[dict[Url, Pin], Field(max_length=MAX_PINS)] = Field(default_factory=dict)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Raises: Invalid, naming the first field that is wrong."""
        if len(body) > MAX_LOCK_BYTES:
            raise Invalid(f"imports.lock has more than {MAX_LOCK_BYTES} bytes")
        try:
            return cls.model_validate_json(body)
        except pydantic.ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise Invalid(f"imports.lock: /{where}: {first['msg']}") from None

    def render(self) -> bytes:
        """Return it as JSON in the order of the URLs, so that two versions can be compared line by line."""
        content = self.model_dump(mode="json") | {
            "imports": {url: pin.model_dump(mode="json") for url, pin in sorted(self.imports.items())}
        }
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
