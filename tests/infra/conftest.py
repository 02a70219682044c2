"""The template as it is written, and as CloudFormation gets it, expanded by SAM's translator."""

from copy import deepcopy
from typing import Any

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from local.places import ROOT
from tests.infra.template import Template


@pytest.fixture(scope="session")
def written() -> dict[str, Any]:
    """`template.yaml` as it is written."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return parsed


@pytest.fixture(scope="session")
def template(written: dict[str, Any]) -> Template:
    """The template that `sam deploy` sends to CloudFormation."""
    packaged = deepcopy(written)
    for resource in packaged["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource["Properties"]:
                resource["Properties"][place] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return Template(Translator(managed_policy_map={}, sam_parser=Parser()).translate(packaged, {})["Resources"])
