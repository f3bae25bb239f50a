"""Checks recorded requests of AWS's JSON services against botocore's API model.

Reads one JSON object a line: {"service": "sagemaker", "operation":
"CreateTrainingJob", "body": {...}}. Prints a line for each mistake, and exits
with 1 if there is one, with 2 if there was nothing to check.

botocore's own ParamValidator checks names, types, required members and lower
bounds. AWS refuses more, so enums, patterns and upper bounds are checked too.
"""

import json
import re
import sys

import botocore
import botocore.session
from botocore.validate import ParamValidator


def constraints(shape, value, path):
    """Yield what the model says and ParamValidator does not check."""
    metadata = shape.metadata
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from constraints(member, value[name], f"{path}.{name}")
    elif shape.type_name == "list":
        if len(value) > metadata.get("max", len(value)):
            yield f"{path}: {len(value)} items, at most {metadata['max']}"
        for index, item in enumerate(value):
            yield from constraints(shape.member, item, f"{path}[{index}]")
    elif shape.type_name == "map":
        if len(value) > metadata.get("max", len(value)):
            yield f"{path}: {len(value)} entries, at most {metadata['max']}"
        for key, item in value.items():
            yield from constraints(shape.key, key, f"{path}.key({key})")
            yield from constraints(shape.value, item, f"{path}[{key}]")
    elif shape.type_name == "string":
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{path}: {value!r} is none of {shape.enum}"
        if len(value) > metadata.get("max", len(value)):
            yield f"{path}: {len(value)} characters, at most {metadata['max']}"
        pattern = metadata.get("pattern")
        if pattern and not matches(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"
    elif shape.type_name in ("integer", "long", "float", "double"):
        if value > metadata.get("max", value):
            yield f"{path}: {value}, at most {metadata['max']}"


def matches(pattern, value):
    """Match as AWS does: the whole value, with Java's classes for Unicode."""
    pattern = re.sub(r"\\p\{L\}|\\p\{N\}", r"\\w", pattern).replace(r"\p{Z}", r"\s").replace(r"\p{M}", "")
    return re.fullmatch(pattern, value) is not None


def main():
    session = botocore.session.get_session()
    models = {}
    checked = mistakes = 0
    for line in sys.stdin:
        if not line.strip():
            continue
        request = json.loads(line)
        service = request["service"]
        if service not in models:
            models[service] = session.get_service_model(service)
        shape = models[service].operation_model(request["operation"]).input_shape
        report = ParamValidator().validate(request["body"], shape)
        found = [report.generate_report()] if report.has_errors() else []
        if not found:
            found = list(constraints(shape, request["body"], request["operation"]))
        for mistake in found:
            print(mistake)
        checked += 1
        mistakes += len(found)
    print(f"botocore {botocore.__version__}: {checked} requests checked, {mistakes} mistakes")
    if mistakes:
        return 1
    return 0 if checked else 2


if __name__ == "__main__":
    sys.exit(main())
