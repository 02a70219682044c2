"""The template as it is written, and as CloudFormation gets it, expanded by SAM's translator."""

from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from local.places import ROOT
from tests.infra.template import Template, expanded


@pytest.fixture(scope="session")
def written() -> dict[str, Any]:
    """`template.yaml` as it is written."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return parsed


@pytest.fixture(scope="session")
def template(written: dict[str, Any]) -> Template:
    """The template that `sam deploy` sends to CloudFormation."""
    return expanded(written)
