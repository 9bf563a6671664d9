"""What the tests of accounting share."""

import pytest

from indaco_accounting.exporters.apel import ApelOptions


@pytest.fixture
def options() -> ApelOptions:
    return ApelOptions(version="1.2.3", site_names={"recas-bari": "RECAS-BARI"})
