"""Together: batches nearly of OpenAI's shape, with an upload of its own. Completions are OpenAI's."""
