"""Where a template asks to be placed: the wishes of its policies."""

from __future__ import annotations

from collections.abc import Mapping

from indaco_tosca.model import PlacementHint, Policy
from indaco_tosca.positions import Path
from indaco_tosca.resolved import Resolver, Values
from indaco_tosca.schema import PropertyDefinition
from indaco_tosca.tree import as_list, as_map
from indaco_tosca.values import Coercer

_PLACEMENT = "tosca.policies.Placement"


def placement_of(resolver: Resolver, planned: frozenset[str]) -> PlacementHint | None:
    """Return the first wish about placement; others are ignored with a warning, as a deployment is placed as a whole."""
    template, report = resolver.evaluator.template, resolver.report
    hint: PlacementHint | None = None
    for index, policy in enumerate(template.policies):
        if not template.types.is_a("policy_types", policy.type, _PLACEMENT):
            continue
        path: Path = ("topology_template", "policies", index, policy.name)
        values = _checked(policy, template.types.properties("policy_types", policy.type), resolver, path)
        if hint is not None:
            report.warn("placement-ignored", path, "only the first placement policy is followed")
            continue
        hint = PlacementHint(
            values.text("sla_id"),
            values.text("region") or values.text("availability_zone"),
            values.text("provider") or values.text("cloud_id"),
        )
        left_out = planned - _members(policy, resolver) if policy.targets else frozenset()
        if left_out:
            message = f"a deployment is placed as a whole: the policy counts for {min(left_out)!r} too"
            report.warn("placement-of-all", path, message)
    return hint


def _checked(policy: Policy, definitions: Mapping[str, PropertyDefinition], resolver: Resolver, path: Path) -> Values:
    """Return the values of a policy; what its type does not allow goes to the report."""
    at = (*path, "properties")
    values = resolver.loose(policy.properties, "", at)
    coercer = Coercer(resolver.evaluator.template.types, resolver.report)
    for name, definition in definitions.items():
        if name in values.found and name not in values.tainted:
            coercer.coerce(values.found[name], definition.schema, (*at, name))
        elif name not in values.found and definition.required and not definition.has_default:
            resolver.report.error("property-required", path, f"{policy.type} needs the property {name!r}")
    return values


def _members(policy: Policy, resolver: Resolver) -> frozenset[str]:
    """Return the nodes of the plan that a policy names, by itself or by a group."""
    evaluator = resolver.evaluator
    content = as_map(evaluator.template.document.value)
    groups = as_map(as_map(content.get("topology_template")).get("groups"))
    names = [
        str(member)
        for target in policy.targets
        for member in (as_list(as_map(groups[target]).get("members")) if target in groups else [target])
    ]
    known = (name for name in names if name in evaluator.template.nodes)
    return frozenset(evaluator.topology.planned_for(name) for name in known)
