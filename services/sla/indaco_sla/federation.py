"""The federation file: providers and agreements that operators write down, put into the registry at each start."""

import os
from pathlib import Path

import pydantic
import yaml

from indaco_common.errors import FieldError, Invalid

from .model.registry import AgreementRecord, ProviderRecord

DEMO = Path(__file__).with_name("demo.yaml")
MAX_BYTES = 4 * 1024 * 1024


class Federation(pydantic.BaseModel):
    """All that a federation file says; each agreement is with a provider of the same file."""

    model_config = pydantic.ConfigDict(extra="forbid")

    providers: tuple[ProviderRecord, ...] = ()
    agreements: tuple[AgreementRecord, ...] = ()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Federation":
        known = {provider.id for provider in self.providers}
        for agreement in self.agreements:
            if agreement.provider not in known:
                raise ValueError(f"agreement {agreement.id}: no provider {agreement.provider}")
        for kind, ids in (("provider", [p.id for p in self.providers]), ("agreement", [a.id for a in self.agreements])):
            if twice := {i for i in ids if ids.count(i) > 1}:
                raise ValueError(f"{kind} named twice: {', '.join(sorted(twice))}")
        return self


def load(path: Path) -> Federation:
    """Read a federation file (YAML or JSON); ``${NAME}`` in it is taken from the environment. Raises: Invalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"federation file {path}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise Invalid(f"federation file {path}: larger than {MAX_BYTES} bytes")
    try:
        return Federation.model_validate(yaml.safe_load(os.path.expandvars(text)) or {})
    except yaml.YAMLError as error:
        raise Invalid(f"federation file {path}: not YAML: {error}") from error
    except pydantic.ValidationError as error:
        details = tuple(
            FieldError("/" + "/".join(str(part) for part in e["loc"]), e["msg"])
            for e in error.errors(include_input=False, include_url=False)
        )
        first = f"{details[0].pointer}: {details[0].detail}"
        raise Invalid(f"federation file {path}: {first}", errors=details) from error
