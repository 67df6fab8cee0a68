"""What is derived for other tools is held against their schemas: OSCAL's models, made from NIST's JSON schema, and OCSF's
compiled schema. The document and the events are those of a made-up ledger (`crates/evidence/examples/sample.rs`)."""

import json
import pathlib
import shutil
import subprocess

import pytest

from rig import Missing
from rig.need import need

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The directory with everything derived."""
    def make():
        if shutil.which("cargo") is None:
            raise Missing("cargo")
        return tmp_path_factory.mktemp("sample")

    where = need(make)
    subprocess.run(["cargo", "run", "--quiet", "--locked", "--package", "chancery-evidence", "--example", "sample", "--", where],
                   cwd=ROOT, check=True, timeout=600)
    return where


@pytest.mark.seconds(600)
def test_oscal_results_are_of_oscals_model(sample):
    import oscal_bindings

    text = (sample / "controls/results.oscal.json").read_text()
    document = oscal_bindings.parse_oscal(text)
    assert type(document.root).__name__ == "AssessmentResultsDocument"
    parsed = json.loads(text)["assessment-results"]
    assert parsed["metadata"]["oscal-version"] == "1.2.2"

    # What the model cannot say: references inside the document lead somewhere.
    [result] = parsed["results"]
    observations = {one["uuid"] for one in result["observations"]}
    related = {one["observation-uuid"] for finding in result["findings"] for one in finding["related-observations"]}
    assert related == observations
    resources = {one["uuid"] for one in parsed["back-matter"]["resources"]}
    assert parsed["import-ap"]["href"].removeprefix("#") in resources
    objectives = {part["id"] for one in parsed["local-definitions"]["objectives-and-methods"] for part in one["parts"]}
    assert {finding["target"]["target-id"] for finding in result["findings"]} == objectives

    # And it does see what is wrong.
    parsed["results"][0]["findings"][0]["target"]["status"]["state"] = "perhaps"
    with pytest.raises(oscal_bindings.v1.parser.OscalParseError):
        oscal_bindings.parse_oscal(json.dumps({"assessment-results": parsed}))
