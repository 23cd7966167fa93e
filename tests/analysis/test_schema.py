"""The schema of analysis.json: installed as it is derived, and kept by what is written."""

import json

import pytest
from records import record

from clorg_scale.analysis.schema import SCHEMA, analysis_schema

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

BROKEN = {
    "text for a number": lambda document: document["rld"]["values"].__setitem__(0, "high"),
    "unknown entry": lambda document: document.update(extra=1),
    "missing entry": lambda document: document["communities"].pop("nmi"),
    "k is not a number": lambda document: document["class_homogeneity"].update(ten=0.5),
    "another format": lambda document: document.update(format="clorg-scale analysis 1"),
}


def written(tmp_path):
    return json.loads(record().to_json(tmp_path / "analysis.json").read_text())


def test_the_installed_schema_is_the_derived_one():
    """After a change of the record: python -m clorg_scale.analysis.schema."""
    schema = json.loads(SCHEMA.read_text())
    assert schema == analysis_schema()
    jsonschema.Draft202012Validator.check_schema(schema)


def test_what_is_written_keeps_the_schema(tmp_path):
    jsonschema.validate(written(tmp_path), json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("change", BROKEN)
def test_the_schema_refuses_what_is_broken(tmp_path, change):
    document = written(tmp_path)
    BROKEN[change](document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))
