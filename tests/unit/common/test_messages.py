"""Rules that every message keeps, checked where its class is written."""

import pydantic
import pytest

from indaco_common import contracts
from indaco_common.launcher.specs import all_specs
from indaco_common.messages import NAME, REGISTRY, Command, Event

ALL = sorted(name for name in REGISTRY if not name.startswith("test."))
_ = contracts


def test_a_name_has_service_aggregate_verb_and_version() -> None:
    with pytest.raises(TypeError, match="is not <service>"):

        class Wrong(Event, type="thing-happened"):
            deployment_id: str


def test_the_field_of_the_subjects_id_must_be_there() -> None:
    with pytest.raises(TypeError, match="no field 'thing_id'"):

        class Wrong(Event, type="test.thing.happened.v1", subject="thing"):
            other: str


def test_a_name_belongs_to_one_class() -> None:
    class First(Event, type="test.twin.born.v1"):
        deployment_id: str

    with pytest.raises(TypeError, match="declared twice"):

        class Second(Event, type="test.twin.born.v1"):
            deployment_id: str

    del REGISTRY[First.TYPE]


def test_a_new_event_is_one_class() -> None:
    class Cooled(Event, type="test.room.cooled.v1", subject="room"):
        room_id: str

    assert REGISTRY["test.room.cooled.v1"] is Cooled
    assert Cooled(room_id="r").key == "r"
    del REGISTRY[Cooled.TYPE]


def test_a_message_cannot_be_changed_and_ignores_what_it_does_not_know() -> None:
    class Said(Event, type="test.word.said.v1", subject="word"):
        word_id: str

    said = Said.model_validate({"word_id": "w", "unknown": 1})
    with pytest.raises(pydantic.ValidationError):
        said.word_id = "x"  # type: ignore[misc]
    del REGISTRY[Said.TYPE]


@pytest.mark.parametrize("name", ALL)
def test_each_message_says_what_it_is_about(name: str) -> None:
    kind = REGISTRY[name]
    assert NAME.match(name)
    assert issubclass(kind, Event | Command)
    assert kind.KEY in kind.model_fields


def test_each_command_has_one_owner_and_each_event_is_named_for_its_publisher() -> None:
    owners = {name: [spec.name for spec in all_specs() if REGISTRY[name] in spec.messages] for name in ALL}
    commands = [name for name in ALL if issubclass(REGISTRY[name], Command)]
    assert {name: owners[name] for name in commands if len(owners[name]) != 1} == {}
    publishers = {spec.name.partition("-")[0] for spec in all_specs()}
    assert {name.partition(".")[0] for name in ALL} <= publishers
