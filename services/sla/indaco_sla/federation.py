"""The federation file: providers and agreements that operators write down, put into the registry at each start.

Nothing is removed by leaving it out: what the registry knows stays in force, and the start warns of what the file no longer
names. To end an agreement, set ``suspended: true`` or an earlier ``valid_to``; to retire a provider, set its ``state``.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydantic
import yaml

from indaco_common.errors import FieldError, Invalid

from .model.registry import AgreementRecord, ProviderRecord

DEMO = Path(__file__).with_name("demo.yaml")
MAX_BYTES = 4 * 1024 * 1024
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHOWN = 5  # faults that the sentence tells; the error's fields have all


class Federation(pydantic.BaseModel):
    """All that a federation file says; each agreement is with a provider of the same file."""

    model_config = pydantic.ConfigDict(extra="forbid")

    providers: tuple[ProviderRecord, ...] = ()
    agreements: tuple[AgreementRecord, ...] = ()


def load(path: Path) -> Federation:
    """Read a federation file (YAML or JSON); ``${NAME}`` in a value is taken from the environment.

    Raises: Invalid, with the file and the place of every fault.
    """
    faults: list[FieldError] = []
    document = _from_environment(_parsed(path), "", faults)
    _raise(path, faults)
    try:
        federation = Federation.model_validate(document)
    except pydantic.ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        _raise(path, [FieldError("".join(f"/{part}" for part in e["loc"]), e["msg"]) for e in found])
        raise
    _raise(path, [*_inconsistencies(federation)])
    return federation


def _parsed(path: Path) -> object:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"federation file {path}: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise Invalid(f"federation file {path}: larger than {MAX_BYTES} bytes")
    try:
        return yaml.safe_load(body.decode()) or {}
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Invalid(f"federation file {path}: not YAML: {' '.join(str(error).split())}") from error


def _from_environment(value: object, place: str, faults: list[FieldError]) -> object:
    """Return *value* with the variables that its texts name; a value cannot change what the file is made of."""
    if isinstance(value, dict):
        return {key: _from_environment(part, f"{place}/{key}", faults) for key, part in value.items()}
    if isinstance(value, list):
        return [_from_environment(part, f"{place}/{i}", faults) for i, part in enumerate(value)]
    if not isinstance(value, str):
        return value
    unset = [name for name in _VARIABLE.findall(value) if name not in os.environ]
    faults += [FieldError(place, f"the environment has no {name}") for name in unset]
    return value if unset else _VARIABLE.sub(lambda found: os.environ[found[1]], value)


def _inconsistencies(federation: Federation) -> Iterator[FieldError]:
    """Yield what no part shows alone: names used twice, agreements with what is not there."""
    providers = {provider.id: provider for provider in federation.providers}
    ids = {"providers": [p.id for p in federation.providers], "agreements": [a.id for a in federation.agreements]}
    for kind, names in ids.items():
        count = Counter(names)
        for i, name in enumerate(names):
            if count[name] > 1:
                yield FieldError(f"/{kind}/{i}/id", f"{name} is named twice")
    for i, agreement in enumerate(federation.agreements):
        provider = providers.get(agreement.provider)
        if provider is None:
            yield FieldError(f"/agreements/{i}/provider", f"agreement {agreement.id}: no provider {agreement.provider}")
        elif agreement.region not in provider.regions:
            detail = f"agreement {agreement.id}: {provider.id} has no region {agreement.region}"
            yield FieldError(f"/agreements/{i}/region", detail)


def _raise(path: Path, faults: list[FieldError]) -> None:
    if not faults:
        return
    told = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:_SHOWN])
    more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
    raise Invalid(f"federation file {path}: {told}{more}", errors=tuple(faults))
