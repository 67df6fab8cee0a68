"""What is derived for other tools is held against their schemas: OSCAL's models, made from NIST's JSON schema, and OCSF's
compiled schema. The document and the events are those of a made-up ledger (`crates/evidence/examples/sample.rs`)."""

import json
import pathlib
import shutil
import subprocess

import pytest

from rig import Missing, ocsf
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


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.seconds(600)
@pytest.mark.parametrize("name", ("controls/findings.ocsf.jsonl", "events.ocsf.jsonl"))
def test_events_are_of_ocsfs_schema(sample, name):
    classes = set()
    for event in events(sample / name):
        assert ocsf.wrong(event) == [], event
        classes.add(event["class_uid"])
    wrong = event | {"severity_id": "high"}
    assert ocsf.wrong(wrong)
    assert classes == ({2003} if name.startswith("controls") else {0, 2004, 3002, 3004, 6002, 6003, 6005, 6008})


@pytest.mark.seconds(600)
def test_every_entry_has_one_event_and_outcomes_name_who_and_what(sample):
    all_events = events(sample / "events.ocsf.jsonl")
    assert [event["metadata"]["sequence"] for event in all_events] == list(range(len(all_events)))
    assert len({event["metadata"]["uid"] for event in all_events}) == len(all_events)

    done = [event for event in all_events if event["metadata"]["event_code"] == "act.done"]
    assert len(done) > 100
    for event in done:
        assert event["actor"]["user"]["uid"].endswith("@https://idp.example")
        assert event["database"]["name"] in ("shop", "ledger-db") and event["database"]["type_id"] == 1
        assert "fingerprint" in event["query_info"]["query_string"]
    assert {event["activity_id"] for event in done} == {1, 5}

    [delegated] = {event["actor"].get("invoked_by") for event in done} - {None}
    assert delegated == "support-agent@https://idp.example > sql-sub-agent@https://idp.example"
    for event in (one for one in all_events if one["metadata"]["event_code"] == "approval.decide"):
        assert event["actor"]["user"]["name"] in ("ada", "grace")
        assert event["metadata"]["correlation_uid"]


@pytest.mark.seconds(600)
def test_the_readme_s_commands_show_the_hash_of_entry_0_twice(sample):
    lines = (sample / "README.txt").read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if line.strip() == "cd ledger/tile")
    block = lines[first:lines.index("", first)]
    shown = subprocess.run(["sh", "-euc", "\n".join(block)], cwd=sample, check=True, capture_output=True, text=True)
    one, other = shown.stdout.splitlines()
    assert len(other) == 64 and one.split() == [other, "-"]
    [event] = [one for one in events(sample / "events.ocsf.jsonl") if one["metadata"]["sequence"] == 0]
    assert event["metadata"]["uid"] == other
