"""Drives every operation of the local SageMaker through boto3.

usage: clients.py ENDPOINT IMAGE ROLE
"""
import datetime
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, image, role = sys.argv[1:]
sm = boto3.client(
    "sagemaker", endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id="test", aws_secret_access_key="test", config=Config(retries={"max_attempts": 1}),
)


def create(name, script, **more):
    request = dict(
        TrainingJobName=name, RoleArn=role,
        AlgorithmSpecification=dict(
            TrainingImage=image, TrainingInputMode="File",
            ContainerEntrypoint=["/bin/sh", "-c"], ContainerArguments=[script],
            MetricDefinitions=[dict(Name="loss", Regex="loss=([0-9.]+)")],
        ),
        OutputDataConfig=dict(S3OutputPath="s3://bucket/out"),
        ResourceConfig=dict(InstanceType="ml.m5.large", InstanceCount=1, VolumeSizeInGB=1),
        StoppingCondition=dict(MaxRuntimeInSeconds=600),
    )
    request.update(more)
    return sm.create_training_job(**request)["TrainingJobArn"]


def wait(name):
    while True:
        d = sm.describe_training_job(TrainingJobName=name)
        if d["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return d
        time.sleep(0.05)


def refused(code, text, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e
        assert text in e.response["Error"]["Message"], e
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 400, e
        return
    raise AssertionError("not refused")


arn = create("py-one", "echo loss=0.5; echo m > /opt/ml/model/m", Tags=[dict(Key="team", Value="red")])
assert arn.endswith(":training-job/py-one"), arn
d = wait("py-one")
assert d["TrainingJobStatus"] == "Completed", d
assert d["FinalMetricDataList"][0]["Value"] == 0.5, d
assert isinstance(d["TrainingEndTime"], datetime.datetime)
assert "VpcConfig" not in d and "FailureReason" not in d

# The waiter that AWS ships.
sm.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="py-one")

create("py-two", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
assert sm.stop_training_job(TrainingJobName="py-two")["ResponseMetadata"]["HTTPStatusCode"] == 200
assert wait("py-two")["TrainingJobStatus"] == "Stopped"
refused("ValidationException", "The request was rejected because the training job is in status Stopped.", sm.stop_training_job, TrainingJobName="py-two")
refused("ValidationException", "Requested resource not found.", sm.describe_training_job, TrainingJobName="nope")
try:
    create("py-one", "true")
    raise AssertionError("a used name was accepted")
except sm.exceptions.ResourceInUse as e:
    assert "already exists" in str(e)

create("py-three", "true", ResourceConfig=dict(InstanceType="ml.m5.large", InstanceCount=1, VolumeSizeInGB=1, KeepAlivePeriodInSeconds=600))
assert wait("py-three")["WarmPoolStatus"]["Status"] == "Available"
sm.update_training_job(TrainingJobName="py-three", ResourceConfig=dict(KeepAlivePeriodInSeconds=0))
assert sm.describe_training_job(TrainingJobName="py-three")["WarmPoolStatus"]["Status"] == "Terminated"

names = [s["TrainingJobName"] for page in sm.get_paginator("list_training_jobs").paginate(
    SortBy="Name", SortOrder="Ascending", PaginationConfig=dict(PageSize=1)) for s in page["TrainingJobSummaries"]]
assert names == ["py-one", "py-three", "py-two"], names

sm.add_tags(ResourceArn=arn, Tags=[dict(Key="more", Value="x")])
sm.delete_tags(ResourceArn=arn, TagKeys=["team"])
tags = [t for page in sm.get_paginator("list_tags").paginate(ResourceArn=arn) for t in page["Tags"]]
assert tags == [dict(Key="more", Value="x")], tags

found = [r["TrainingJob"]["TrainingJobName"] for page in sm.get_paginator("search").paginate(
    Resource="TrainingJob", SearchExpression=dict(Filters=[dict(Name="Tags.more", Operator="Equals", Value="x")])) for r in page["Results"]]
assert found == ["py-one"], found

sm.delete_training_job(TrainingJobName="py-two")
refused("ValidationException", "Requested resource not found.", sm.delete_training_job, TrainingJobName="py-two")
print("all operations answered")
