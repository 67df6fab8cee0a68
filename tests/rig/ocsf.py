"""Events held against OCSF's own schema, as compiled by its maintainers."""

import functools


@functools.cache
def _validator(uid, profiles):
    import ocsf_json_schema
    from jsonschema import Draft202012Validator

    embedded = _schema(ocsf_json_schema)
    return Draft202012Validator(embedded.get_class_schema(embedded.lookup_class_name_from_uid(uid), list(profiles)))


@functools.cache
def _schema(package):
    return package.OcsfJsonSchemaEmbedded(package.get_ocsf_schema(version="1.8.0"))


def wrong(event):
    """What the schema has against an event: nothing, if it is as it should be."""
    uid = event["class_uid"]
    found = _validator(uid, tuple(event["metadata"].get("profiles", ()))).iter_errors(event)
    said = [f"{list(one.absolute_path)}: {one.message}" for one in found]
    if event["type_uid"] != 100 * uid + event["activity_id"]:
        said.append(f"type_uid {event['type_uid']}")
    return said
