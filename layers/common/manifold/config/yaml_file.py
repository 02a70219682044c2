"""Strict YAML: a duplicate key is an error, and a date stays text."""

from pathlib import Path
from typing import Any

import yaml

from manifold.errors import ConfigError

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it was built in

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"
_RESOLVERS: dict[str, list[Any]] = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]  # `api_version: 2024-10-21` is no date
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> object:
    """The document in the file, as plain Python values. Raises `ConfigError` if it cannot be read or is not YAML."""
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        # The error's own text may quote the line, and the line may hold a key.
        raise ConfigError(f"{path}{_line(error.problem_mark)}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: not YAML: it must be text in UTF-8") from None


def scalar(text: str) -> object:
    """The value of the text as an unquoted YAML scalar; the text itself if it is no valid scalar."""
    loader: Any = _Loader("")
    loader.yaml_implicit_resolvers = _RESOLVERS
    plain = text.strip()
    try:
        return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, plain, (True, False)), plain))
    except (yaml.YAMLError, ValueError):  # such as `<<`, or `0x_`, which only looks like a number
        return text
    finally:
        loader.dispose()


def _parse(text: bytes) -> object:
    loader = _Loader(text)
    loader.yaml_implicit_resolvers = _RESOLVERS
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_duplicates(node, seen=set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_duplicates(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:  # an alias may point to any earlier node, even to its own parent
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(child, seen)
    elif isinstance(node, yaml.MappingNode):
        _refuse_duplicate_keys(node)
        for _, child in node.value:
            _refuse_duplicates(child, seen)


def _refuse_duplicate_keys(node: yaml.MappingNode) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        if key.value in keys:
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} is written twice", problem_mark=key.start_mark)
        keys.add(key.value)


def _line(mark: yaml.Mark | None) -> str:
    return f", line {mark.line + 1}" if mark else ""
