"""docs/configuration.md names each setting, variable and metric of the code, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from manifold import config
from manifold.config import BatchLimits, Environment, document
from manifold.config.loader import LIMIT_SETTINGS
from manifold.errors import ConfigError
from manifold.observe import Metric
from manifold.profiles import COMPATIBLE, ENDPOINTS, PROFILES, Ability, Profile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()


def sections(level: str) -> dict[str, str]:
    """The text under each heading of that level, without what follows the next heading of its own level or above."""
    parts = re.split(rf"^(#{{1,{len(level)}}}) (.+)$", PAGE, flags=re.MULTILINE)
    return {
        title: text
        for hashes, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if hashes == level
    }


def rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each table row whose first cell is a name in backticks: the name, and all the cells."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        if line.startswith("| `") and (name := re.fullmatch(r"`([^`]+)`", cells[0])):
            yield name[1], cells


def documented_settings() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for title, text in sections("###").items():
        prefix = "" if title == "The document" else title.strip("`") + "."
        settings |= {prefix + name: cells for name, cells in rows(text)}
    return settings


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The path and the name of each setting below that model."""
    for name, field in model.model_fields.items():
        yield prefix + name, name
        nested = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        for child in nested:
            if issubclass(child, BaseModel):
                yield from settings(child, f"{prefix}{name}{'' if child is field.annotation else '[]'}.")


def test_the_settings_are_those_of_the_code() -> None:
    assert set(documented_settings()) == {path for path, _ in settings(document.Document)}


def test_every_setting_has_all_its_cells() -> None:
    lengths = {path: len(cells) for path, cells in documented_settings().items()}
    assert set(lengths.values()) == {6}, lengths


def test_the_page_says_what_is_not_acted_on() -> None:
    names = dict(settings(document.Document))
    idle = {path for path, cells in documented_settings().items() if cells[-1] == "no"}
    assert idle == {path for path, name in names.items() if name in document.NOT_ACTED_ON}


class Recorder(dict[str, str]):
    """An environment that records the names which are read."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def variables() -> set[str]:
    recorder = Recorder()
    environment = Environment(recorder)
    for name, member in vars(Environment).items():
        if isinstance(member, property):
            try:
                getattr(environment, name)
            except ConfigError:
                continue
    return recorder.names


def test_the_variables_are_those_of_the_code() -> None:
    ours, _ = sections("##")["Environment variables"].split("These are read by libraries and by Lambda:")
    assert {name for name, _ in rows(ours)} == variables()


def test_every_variable_of_the_template_is_documented() -> None:
    template = (ROOT / "template.yaml").read_text()
    set_there = set(re.findall(r"^\s+((?:MANIFOLD|POWERTOOLS|AWS)_[A-Z_]+):", template, flags=re.MULTILINE))
    assert set_there
    assert set_there <= {name for name, _ in rows(sections("##")["Environment variables"])}


def test_the_template_sets_every_required_variable() -> None:
    template = (ROOT / "template.yaml").read_text()
    assert {name for name in variables() if name.startswith("MANIFOLD_") and f" {name}:" not in template} == set()


def test_the_metrics_are_those_of_the_code() -> None:
    assert [name for name, _ in rows(sections("##")["Logs and metrics"])] == [str(metric) for metric in Metric]


def test_the_providers_are_those_of_the_code() -> None:
    addresses, batches, needs, *_ = sections("###")["Providers"].strip().split("\n\n")
    _, may_leave_it_out = addresses.split("may leave it out:")
    _, run_here = re.split(r"gateway runs those of|These need", batches)[:2]
    assert in_backticks(may_leave_it_out) == {name for name, one in PROFILES.items() if one.address}
    assert in_backticks(run_here) == {name for name, one in PROFILES.items() if one.dialect is None}
    needed = {provider: in_backticks(names) for provider, names in re.findall(r"(?m)^- `(\w+)`: (.+)$", needs)}
    assert needed == {name: set(one.needs) for name, one in PROFILES.items() if one.needs}


def test_the_shares_are_those_of_the_code() -> None:
    written = re.search(r"If the tables have none for the model,\s(.+?)\[as they document", PAGE, flags=re.DOTALL)
    assert written
    assert in_backticks(written[1]) == {name for name, one in PROFILES.items() if one.batch_share != 1}


def test_the_limits_of_batches_are_those_of_the_code() -> None:
    documented: dict[str, BatchLimits] = {}
    for prefixes, requests, size, others in table("max_batch_requests"):
        written = {
            "max_batch_requests": requests,
            "max_batch_bytes": size,
            **dict(re.findall(r"`(\w+)` ([\d,]+)", others)),
        }
        limits = {
            name: int(written[setting].replace(",", ""))
            for name, setting in LIMIT_SETTINGS.items()
            if written.get(setting)
        }
        documented |= dict.fromkeys(in_backticks(prefixes) or {"other"}, BatchLimits(**limits))
    assert documented == {name: one.limits for name, one in with_batches().items()}


def test_what_batches_are_is_as_in_the_code() -> None:
    documented = {
        prefix: cells for prefixes, *cells in table("endpoints") for prefix in in_backticks(prefixes) or {"other"}
    }
    assert documented == {name: facts(one) for name, one in with_batches().items()}


def table(column: str) -> Iterator[list[str]]:
    """The rows of the table of docs/providers.md that has this column."""
    page = (ROOT / "docs" / "providers.md").read_text()
    found = re.search(rf"^\| prefix \|.*{column}.*\n\|[-|]+\n((?:\|.+\n)+)", page, flags=re.MULTILINE)
    assert found
    for line in found[1].splitlines():
        yield [cell.strip() for cell in line[1:-1].split("|")]


def with_batches() -> dict[str, Profile]:
    return {"other": COMPATIBLE, **{name: one for name, one in PROFILES.items() if one.dialect}}


def facts(one: Profile) -> list[str]:
    """A profile as the table has it."""
    endpoints = "all" if one.endpoints == ENDPOINTS else ", ".join(sorted(name[4:] for name in one.endpoints))
    hours = "" if one.window_hours is None else " to ".join(dict.fromkeys(map(str, one.window_hours)))
    price = "" if one.batch_share == 1 else f"{one.batch_share:.0%}"
    return [
        endpoints,
        hours,
        price,
        ", ".join(name for name in get_args(Ability) if name in one.abilities),
        one.found_by,
    ]


def in_backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.+?)```", PAGE, flags=re.DOTALL))
def test_the_examples_load_without_a_warning(example: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(example)
    assert config.load(path, dict[str, str]().get).warnings == ()


def test_the_example_of_each_setting_is_accepted(tmp_path: Path) -> None:
    entry: dict[str, Any] = {"model_name": "group", "litellm_params": {}, "model_info": {}}
    for path, cells in documented_settings().items():
        if path.startswith("model_list[].") and cells[4]:
            *place, name = path.removeprefix("model_list[].").split(".")
            (entry[place[0]] if place else entry)[name] = yaml.safe_load(cells[4].strip("`"))
    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump({"model_list": [entry]}))
    [deployment] = config.load(written, dict[str, str]().get).deployments
    assert deployment.rpm == entry["litellm_params"]["rpm"]
