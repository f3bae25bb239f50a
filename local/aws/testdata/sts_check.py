"""What boto3 and the aws CLI do with STS."""

import base64
import json
import subprocess
import sys

import boto3
from botocore.exceptions import ClientError

sts = boto3.client("sts")
role = "arn:aws:iam::123456789012:role/ci/trainer"


def refused(code, call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e
        return
    raise AssertionError(f"{call.__name__} {kw} was not refused")


def identity(c):
    return boto3.client("sts", aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"]).get_caller_identity()


me = sts.get_caller_identity()
assert me["Account"] == "123456789012" and me["Arn"].startswith("arn:aws:iam::123456789012:"), me
got = sts.assume_role(RoleArn=role, RoleSessionName="job-1", DurationSeconds=900, Tags=[{"Key": "project", "Value": "7"}])
assert got["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/trainer/job-1"
assert identity(got["Credentials"])["Arn"] == got["AssumedRoleUser"]["Arn"]
assert identity(got["Credentials"])["Account"] == "123456789012"
refused("ValidationError", sts.assume_role, RoleArn="arn:aws:iam::1:role/short-account", RoleSessionName="job-1")
refused("ValidationError", sts.assume_role, RoleArn=role, RoleSessionName="job 1")
refused("ValidationError", sts.assume_role, RoleArn=role, RoleSessionName="job-1", DurationSeconds=100000)
refused("MalformedPolicyDocument", sts.assume_role, RoleArn=role, RoleSessionName="job-1", Policy="{")


def token(**claims):
    parts = [{"alg": "none"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + ".sig"


jwt = token(iss="https://gitlab.example", sub="project_path:g/p:ref_type:branch:ref:main", aud="sts")
got = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="job-2", WebIdentityToken=jwt)
assert got["SubjectFromWebIdentityToken"] == "project_path:g/p:ref_type:branch:ref:main"
assert identity(got["Credentials"])["UserId"].endswith(":job-2")
refused("InvalidIdentityToken", sts.assume_role_with_web_identity, RoleArn=role, RoleSessionName="job-2", WebIdentityToken="nonsense")
refused("ExpiredTokenException", sts.assume_role_with_web_identity, RoleArn=role, RoleSessionName="job-2", WebIdentityToken=token(exp=1000))
assert sts.get_session_token(DurationSeconds=900)["Credentials"]["AccessKeyId"].startswith("ASIA")
refused("InvalidAction", sts.get_access_key_info, AccessKeyId="AKIAIOSFODNN7EXAMPLE")
cli = subprocess.run([sys.executable, "-m", "awscli", "sts", "get-caller-identity", "--query", "Account", "--output", "text"], capture_output=True, text=True)
assert cli.stdout == "123456789012\n", cli
