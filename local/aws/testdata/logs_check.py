"""What boto3 and the aws CLI do with CloudWatch Logs."""

import subprocess
import sys
import time

import boto3
from botocore.exceptions import ClientError

logs = boto3.client("logs")
group, now = "/aws/sagemaker/TrainingJobs", int(time.time() * 1000)


def refused(code, call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return
    raise AssertionError(f"{call.__name__} {kw} was not refused")


def groups():
    refused("ResourceNotFoundException", logs.describe_log_streams, logGroupName=group)
    logs.create_log_group(logGroupName=group, tags={"a": "b"})
    refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group)
    for i in range(60):
        logs.create_log_group(logGroupName=f"many/{i:02}")
    pages = list(logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="many/"))
    assert [len(p["logGroups"]) for p in pages] == [50, 10]
    assert "nextToken" not in pages[-1]
    got = logs.describe_log_groups(logGroupNamePattern="training")["logGroups"]
    assert [g["logGroupName"] for g in got] == [group] and "retentionInDays" not in got[0]
    logs.put_retention_policy(logGroupName=group, retentionInDays=30)
    refused("InvalidParameterException", logs.put_retention_policy, logGroupName=group, retentionInDays=2)
    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"c": "d"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b", "c": "d"}
    logs.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"c": "d"}
    logs.delete_log_group(logGroupName="many/00")
    refused("ResourceNotFoundException", logs.delete_log_group, logGroupName="many/00")


def put(stream, *events):
    return logs.put_log_events(
        logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": now + t, "message": m} for t, m in events]
    )


def streams():
    for i in range(120):
        logs.create_log_stream(logGroupName=group, logStreamName=f"job-{i:03}/algo-1-1")
    refused("ResourceAlreadyExistsException", logs.create_log_stream, logGroupName=group, logStreamName="job-000/algo-1-1")
    pages = list(logs.get_paginator("describe_log_streams").paginate(logGroupName=group))
    assert [len(p["logStreams"]) for p in pages] == [50, 50, 20]
    got = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="job-007/", limit=1)
    assert [s["logStreamName"] for s in got["logStreams"]] == ["job-007/algo-1-1"]
    assert "nextToken" not in got, "the SageMaker SDK would ask for ever"
    assert "lastEventTimestamp" not in got["logStreams"][0]
    put("job-007/algo-1-1", (0, "x"))
    put("job-003/algo-1-1", (5, "y"))
    got = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True, limit=2)
    assert [s["logStreamName"][:7] for s in got["logStreams"]] == ["job-003", "job-007"]
    refused("InvalidParameterException", logs.describe_log_streams, logGroupName=group, orderBy="LastEventTime", logStreamNamePrefix="j")
    logs.delete_log_stream(logGroupName=group, logStreamName="job-003/algo-1-1")
    refused("ResourceNotFoundException", logs.get_log_events, logGroupName=group, logStreamName="job-003/algo-1-1")


def events():
    s = "long/algo-1-1"
    logs.create_log_stream(logGroupName=group, logStreamName=s)
    got = logs.get_log_events(logGroupName=group, logStreamName=s, startFromHead=True)
    assert got["events"] == []
    for start in range(0, 25000, 5000):
        put(s, *[(i, f"line {i}") for i in range(start, start + 5000)])

    def page(**kw):
        return logs.get_log_events(logGroupName=group, logStreamName=s, **kw)

    def texts(p):
        return [e["message"] for e in p["events"]]

    want = [f"line {i}" for i in range(25000)]
    seen, token = [], got["nextForwardToken"]
    while True:
        p = page(nextToken=token, startFromHead=True)
        seen += texts(p)
        if p["nextForwardToken"] == token:
            assert p["events"] == []
            break
        token = p["nextForwardToken"]
    assert seen == want
    put(s, (25000, "line 25000"))
    assert texts(page(nextToken=token)) == ["line 25000"], "a token at the end goes on when more comes"

    p = page(limit=3)
    assert texts(p) == ["line 24998", "line 24999", "line 25000"]
    back = page(nextToken=p["nextBackwardToken"], limit=2)
    assert texts(back) == ["line 24996", "line 24997"]
    assert texts(page(nextToken=back["nextForwardToken"], limit=1)) == ["line 24998"]
    head = page(limit=1, startFromHead=True)
    top = page(nextToken=head["nextBackwardToken"])
    assert top["events"] == [] and top["nextBackwardToken"] == head["nextBackwardToken"]
    p = page(startTime=now + 10, endTime=now + 12, startFromHead=True)
    assert texts(p) == ["line 10", "line 11"]
    refused("InvalidParameterException", page, nextToken="nonsense")

    big = "z" * 200_000
    logs.create_log_stream(logGroupName=group, logStreamName="big")
    for i in range(8):
        put("big", (i, big))
    p = logs.get_log_events(logGroupName=group, logStreamName="big", startFromHead=True)
    assert len(p["events"]) == 5, "a page holds 1 MiB"

    for bad in [[(1, "b"), (0, "a")], [(0, "a"), (90_000_000, "b")], [(i, big) for i in range(6)]]:
        try:
            put(s, *bad)
        except ClientError as e:
            assert e.response["Error"]["Code"] == "InvalidParameterException", e
        else:
            raise AssertionError("a bad batch was accepted")
    got = put(s, (-20 * 86_400_000, "old"))
    assert got["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}, got
    got = put(s, (3 * 3_600_000, "new"))
    assert got["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}


def filtering():
    for host in 1, 2:
        logs.create_log_stream(logGroupName=group, logStreamName=f"two/algo-{host}")
    for t in range(0, 1000, 2):
        put("two/algo-1", (t, f"one epoch {t}"))
        put("two/algo-2", (t + 1, f"two loss {t + 1}"))
    pages = list(
        logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, logStreamNamePrefix="two/", PaginationConfig={"PageSize": 300}
        )
    )
    assert [len(p["events"]) for p in pages] == [300, 300, 300, 100]
    assert [e["timestamp"] - now for p in pages for e in p["events"]] == list(range(1000))
    assert len({e["eventId"] + e["logStreamName"] for p in pages for e in p["events"]}) == 1000

    def found(pattern, **kw):
        return [e["message"] for e in logs.filter_log_events(logGroupName=group, filterPattern=pattern, **kw)["events"]]

    assert found('one "epoch 44"', logStreamNames=["two/algo-1"]) == ["one epoch 44"] + [f"one epoch {i}" for i in range(440, 450, 2)]
    assert found("?44 ?loss -epoch", logStreamNamePrefix="two/", endTime=now + 3) == ["two loss 1", "two loss 3"]
    refused("InvalidParameterException", logs.filter_log_events, logGroupName=group, filterPattern="{ $.a = 1 }")
    refused("ResourceNotFoundException", logs.filter_log_events, logGroupName=group, logStreamNames=["none"])


def cli():
    done = subprocess.run(
        [sys.executable, "-m", "awscli", "logs", "get-log-events", "--log-group-name", group, "--log-stream-name", "two/algo-1"]
        + ["--limit", "1", "--query", "events[0].message", "--output", "text"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "one epoch 998\n", done


for check in groups, streams, events, filtering, cli:
    check()
