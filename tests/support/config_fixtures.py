"""Files that `config.load` reads.

A test module has the fixture by `pytest_plugins = ("tests.support.config_fixtures",)`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from manifold import config
from manifold.config import Config

Load = Callable[..., Config]

EVERYTHING = """
model_list:
  - model_name: gpt-4o-batch
    litellm_params:
      model: azure/gpt-4o-mini-general-deployment
      api_base: os.environ/AZURE_API_BASE
      api_key: os.environ/AZURE_API_KEY
      api_version: 2024-10-21
      organization: org-1
      weight: 2
      order: 1
      rpm: 60
      tpm: 100000
      max_enqueued_tokens: 90_000_000
      max_enqueued_requests: 1_000_000
      max_batch_requests: 10_000
      max_batch_bytes: 100_000_000
      max_concurrent_batches: 20
      timeout: 30
      stream_timeout: 6
      max_retries: 2
      tags: [eu]
    model_info:
      id: general
      mode: batch
      base_model: azure/gpt-4o-mini
      retry_failed_lines: 3
general_settings:
  master_key: os.environ/MY_MASTER_KEY
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, **values: str) -> Config:
        """The configuration of this text; `values` are those of its names."""
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return config.load(path, values.get)

    return load


def one(model: str = "openai/gpt-4.1", params: str = "", info: str = "{mode: batch}", name: str = "group") -> str:
    """A file with one deployment."""
    return f"""
model_list:
  - model_name: {name}
    litellm_params: {{model: {model}, {params}}}
    model_info: {info}
"""
