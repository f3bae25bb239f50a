"""Makes api.json.zz, the constraints of AWS's APIs that model.go checks.

Reads the models of the botocore that this Python has (testdata/python/install
puts the newest one there) and keeps of the services below what a request is
checked against: shapes that inputs reach, without documentation.

    go generate ./local/aws/model
"""

import gzip
import json
import os
import sys
import zlib

import botocore

SERVICES = {"sagemaker": "2017-07-24", "logs": "2014-03-28", "sts": "2011-06-15"}
KEPT = ("type", "required", "min", "max", "pattern", "enum", "union", "flattened")


def reached(model, start):
    seen, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        shape = model["shapes"][name]
        todo += [m["shape"] for m in shape.get("members", {}).values()]
        todo += [shape[part]["shape"] for part in ("member", "key", "value") if part in shape]
    return seen


def reduced(shape):
    out = {k: shape[k] for k in KEPT if k in shape}
    if "members" in shape:
        out["members"] = {name: m["shape"] for name, m in shape["members"].items()}
    out |= {part: shape[part]["shape"] for part in ("member", "key", "value") if part in shape}
    return out


def main(target):
    services = {}
    for service, version in SERVICES.items():
        path = os.path.join(os.path.dirname(botocore.__file__), "data", service, version, "service-2.json.gz")
        with gzip.open(path) as f:
            model = json.load(f)
        inputs = {name: op["input"]["shape"] for name, op in model["operations"].items() if "input" in op}
        names = sorted(set().union(*(reached(model, shape) for shape in inputs.values())))
        services[service] = {
            "protocol": model["metadata"]["protocol"],
            "operations": {name: inputs.get(name, "") for name in sorted(model["operations"])},
            "shapes": {name: reduced(model["shapes"][name]) for name in names},
        }
    document = {"botocore": botocore.__version__, "services": services}
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
    with open(target, "wb") as f:
        f.write(packed)
    print(f"{target}: botocore {botocore.__version__}, {len(packed)} bytes")


main(sys.argv[1])
