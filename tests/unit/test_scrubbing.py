"""A provider's texts without secrets and provider names, for the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.scrubbing import LONGEST_TEXT, Scrubber

KEY = "a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5"
REF, INPUT = "batch_6871f5b1c8e881909f0a5d1c4d3e2f10", "file-9Xy8Wv7Ut6Sr5Qp4"
AZURE = Scrubber(
    host="acme-prod.openai.azure.com",
    secrets=(KEY,),
    model="gpt-4o-mini-general-deployment",
    shown_as="gpt-4o-batch",
    own={REF: "batch_Ours", INPUT: "file-Ours"},
)


def named(model: str) -> Scrubber:
    return Scrubber(model=model, shown_as="our-group", own={REF: "batch_Ours"})


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (
            "Enqueued token limit reached for gpt-4o in organization org-AbCdEf123456. Limit: 90,000 enqueued tokens.",
            "Enqueued token limit reached for gpt-4o in organization ***. Limit: 90,000 enqueued tokens.",
        ),
        (
            "Incorrect API key provided: sk-proj-****************abcd. You can find your API key at"
            " https://platform.openai.com/account/api-keys.",
            "Incorrect API key provided: ***. You can find your API key at ***",
        ),
        ("Incorrect API key provided: very-sec***ret-1.", "Incorrect API key provided: ***."),
        (f"Wrong key {KEY}", "Wrong key ***"),
        (f"Wrong key {KEY[:8]}...", "Wrong key ***"),
        ("No access to project proj_abc123def.", "No access to project ***."),
        ("project 123456789012 has no quota", "project *** has no quota"),
        (f"Batch {REF} failed: {INPUT} is gone.", "Batch batch_Ours failed: file-Ours is gone."),
        (f"BATCH {REF.upper()} failed: {INPUT.lower()}", "BATCH batch_Ours failed: file-Ours"),
        (f"x{REF} and {REF}_output", "xbatch_Ours and batch_Ours_output"),
        ("模型gpt-4o-mini-general-deployment不存在。见platform.acme.com。", "模型gpt-4o-batch不存在。见***。"),
        ("See batch_0123456789abcdef and file-Zz0123456789.", "See *** and ***."),
        (
            "Resource acme-prod (acme-prod.openai.azure.com:443) at 10.0.3.7:8443, [fd00:ab::12:7] and localhost:9000",
            "Resource *** (***) at ***, [***] and ***",
        ),
        ("Request id: 0f9e8d7c-1234-5678-9abc-def012345678 failed", "Request id: *** failed"),
        ("include the request ID req_0123abcd in your message", "include the request ID *** in your message"),
        ("/subscriptions/1b2c/resourceGroups/rg/providers/x is unknown", "*** is unknown"),
        ("arn:aws:bedrock:us-east-1:123456789012:model/x is unknown", "*** is unknown"),
        ("internal-host-17 and ip-10-0-3-7 say no", "*** and *** say no"),
        ("ask ops@acme.example.com", "ask ***"),
        ("no route to proxy.svc.cluster.local", "no route to ***"),
        ("The deployment gpt-4o-mini-general-deployment is busy", "The deployment gpt-4o-batch is busy"),
        ("a\0b\ud800c\nd\te\x1b[0m", "a bc d e [0m"),
    ],
)
def test_what_tells_where_a_request_went_is_left_out(text: str, scrubbed: str) -> None:
    assert AZURE.text(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Batch job kv56ypwkcoqs has too few records", "Batch job batch_Ours has too few records"),
        ("Batch job KV56YPWKCOQS of arn:aws:bedrock:x:1:job/other", "Batch job batch_Ours of ***"),
        ("Dataset manifold-0aB9cD is empty", "Dataset file-Ours is empty"),
        ("projects/acme/locations/us-east5/batchPredictionJobs/5 has ended", "*** has ended"),
        ("no access to 'projects/acme'", "no access to '***'"),
        ("model accounts/acme/models/llama-x not found", "model *** not found"),
        ("model accounts/acme/models/llama not found", "model our-group not found"),
        ("publishers/google/models/gemini does not exist", "*** does not exist"),
        ("your projects and accounts: and/or", "your projects and accounts: and/or"),
    ],
)
def test_an_id_is_also_the_last_part_of_a_path(text: str, scrubbed: str) -> None:
    scrubber = Scrubber(
        model="accounts/acme/models/llama",
        shown_as="our-group",
        own={
            "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/kv56ypwkcoqs": "batch_Ours",
            "accounts/acme/datasets/manifold-0aB9cD": "file-Ours",
            "s3://a-bucket/a-folder/": "file-Folder",
        },
    )

    assert scrubber.text(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Duplicate custom_id 'request-17' in line 17.",
        "Duplicate custom_id '0f9e8d7c-1234-5678-9abc-def012345678' in line 17.",
        "Invalid value: 'max_tokens' must be at least 1. At 12:30:45 of 2026-11-26.",
        "The batch_size, file_size and file-format of job-specific settings, gpt-4o-mini-general-deployments",
        "The custom_id is no key_id; version 1.2.3 of gpt-4.1-mini, e.g. in data.jsonl",
        "Ratio 3.14 of 1,000 tokens.",
    ],
)
def test_what_is_the_callers_own_stays(text: str) -> None:
    assert AZURE.text(text) == text


@pytest.mark.parametrize(
    ("model", "text", "scrubbed"),
    [
        ("batch", f"The batch failed: batch {REF}.", "The batch failed: batch batch_Ours."),
        ("batch", "The model `batch` does not exist.", "The model `our-group` does not exist."),
        ("batch", "The deployment batch is gone; model: batch", "The deployment our-group is gone; model: our-group"),
        ("batch", "'batch' does not exist; purpose 'batch' does.", "'our-group' does not exist; purpose 'batch' does."),
        ("batch", "A batch-wide limit on batches, models/batch", "A batch-wide limit on batches, models/our-group"),
        (
            "gpt-4",
            "gpt-4o-mini, gpt-4.1 and gpt-4-turbo, not gpt-4.",
            "gpt-4o-mini, gpt-4.1 and gpt-4-turbo, not our-group.",
        ),
        ("gpt-4", "azure/gpt-4 (GPT-4-2024-08-06)", "azure/our-group (our-group)"),
        ("o1", "o1-mini is no o1, and to1 is none", "o1-mini is no our-group, and to1 is none"),
        ("4", "line 4 of 14 for deployment 4", "line our-group of 14 for deployment our-group"),
        ("a+b(c", "a+b(c is no model", "our-group is no model"),
    ],
)
def test_a_model_is_a_whole_word(model: str, text: str, scrubbed: str) -> None:
    assert named(model).text(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("invalid_request", "invalid_request"),
        ("body.messages[0].content", "body.messages[0].content"),
        ("gpt-4o-mini-general-deployment", "gpt-4o-batch"),
        ("x" * 65, None),
        ("two words", None),
        ("org-AbCdEf123456", None),
        ("a\0b", None),
        ("é", None),
        ("", None),
        (None, None),
        (400, None),
        (["x"], None),
    ],
)
def test_a_code_is_a_short_plain_word_or_none(text: object, scrubbed: str | None) -> None:
    assert AZURE.word(text) == scrubbed


def test_a_long_text_is_cut() -> None:
    assert len(AZURE.text("word " * 100_000)) <= LONGEST_TEXT


@given(st.text(st.characters()))
def test_any_text_can_be_stored_and_sent(text: str) -> None:
    scrubbed = AZURE.text(text)
    assert scrubbed.isprintable()
    assert scrubbed.encode().decode() == scrubbed


@given(st.text(alphabet=st.sampled_from("ab.:-/*@'0 "), max_size=200))
def test_no_secret_is_left(text: str) -> None:
    assert KEY not in AZURE.text(f"{text}{KEY}{text}")
    assert REF not in AZURE.text(f"{text} {REF} {text}")
