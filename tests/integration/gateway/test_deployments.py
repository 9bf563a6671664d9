"""Create, show and delete, as INDIGO's clients do."""

from .world import World


async def test_a_deployment_is_created_and_shown(world: World) -> None:
    answer = await world.create()
    assert answer.status == 201, answer.text
    print(answer.text)
    shown = await world.get(f"/deployments/{answer.json['uuid']}")
    assert shown.json == answer.json
    print(await world.messages())
