"""The members of a create: known ones, LiteLLM's, and those that name models."""

from typing import Any

import pytest

from batches.bodies import BatchCreate
from files import forms, model_names
from manifold.create_body import LITELLM, names_in
from manifold.errors import InvalidRequest

BATCH = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, []),
        ("", []),
        (" a , b,, a", ["a", "b"]),
        (["a,b", "c"], ["a", "b", "c"]),
        ('["a", "b"]', ["a", "b"]),
        (' ["a"]', ["a"]),
        (['["a"]', "b"], ["a", "b"]),
    ],
)
def test_names_in_each_spelling(value: object, names: list[str]) -> None:
    assert names_in(value) == names


@pytest.mark.parametrize("value", [1, {"a": "b"}, [1], "[1]", '["a"', '[["a"]]'])
def test_what_names_no_model_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        names_in(value)

    assert refused.value.param == "target_model_names"


def test_a_batch_with_an_unknown_member_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest) as refused:
        BatchCreate.model_validate(BATCH | {"output_expires_after[seconds]": 3600})

    assert (refused.value.param, refused.value.code) == ("output_expires_after[seconds]", "unknown_parameter")
    assert "input_file_id, endpoint, completion_window, metadata, output_expires_after, model" in refused.value.message


def test_a_batch_has_nothing_of_litellms_own_members() -> None:
    assert BatchCreate.model_validate(BATCH | dict.fromkeys(LITELLM, "x")) == BatchCreate.model_validate(BATCH)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([("purpose", "batch"), ("model", "")], {"purpose": "batch", "model": [""]}),
        ([("target_model_names[1]", "b"), ("target_model_names[0]", "a")], {"target_model_names": ["b", "a"]}),
        ([("expires_after[seconds]", "1"), ("expires_after.a", "x")], {"expires_after": {"seconds": "1", "a": "x"}}),
        ([("expires_after", ' {"seconds": 1}')], {"expires_after": {"seconds": 1}}),
        ([("expires_after", "3600")], {"expires_after": "3600"}),
        ([("litellm_metadata[a][b]", "1"), ("timeout", "3")], {}),
    ],
)  # fmt: skip
def test_a_form_is_the_body_that_it_stands_for(fields: list[tuple[str, object]], body: dict[str, Any]) -> None:
    assert forms.body(fields, ("purpose", "expires_after", "target_model_names", "model")) == body


def test_the_first_place_that_names_groups_counts() -> None:
    assert model_names.requested([[], ["a", "b"], ["c"]], [[], []]) == ["a", "b"]
    assert model_names.requested([[]], [[], ["a"], ["a"]]) == model_names.requested([["a"]], [["a"]]) == ["a"]


@pytest.mark.parametrize(("names", "model"), [([["a"]], [["b"]]), ([["a", "b"]], [["a"]]), ([[]], [["a"], ["b"]])])
def test_models_that_contradict_each_other(names: list[list[str]], model: list[list[str]]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        model_names.requested(names, model)

    assert refused.value.code == "contradictory_parameters"
