"""What boto3 and the aws CLI do with S3."""

import base64
import concurrent.futures
import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(max_pool_connections=20))
sts = boto3.client("sts")
account = sts.get_caller_identity()["Account"]


def refused(code, status, call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        got = e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]
        assert got == (code, status), (got, code, status)
        return e.response
    raise AssertionError(f"{call.__name__} {kw} was not refused")


def aws(*args, check=True, **kw):
    done = subprocess.run([sys.executable, "-m", "awscli", *args], capture_output=True, text=True, **kw)
    if check:
        assert done.returncode == 0, (args, done.stderr)
    return done


def buckets():
    s3.create_bucket(Bucket="b-one")
    refused("BucketAlreadyOwnedByYou", 409, s3.create_bucket, Bucket="b-one")
    refused("InvalidBucketName", 400, s3.create_bucket, Bucket="b..two")
    s3.create_bucket(Bucket="b-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert s3.get_bucket_location(Bucket="b-eu")["LocationConstraint"] == "eu-west-1"
    assert s3.get_bucket_location(Bucket="b-one").get("LocationConstraint") is None
    assert s3.head_bucket(Bucket="b-eu")["BucketRegion"] == "eu-west-1"
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["b-eu", "b-one"]
    s3.head_bucket(Bucket="b-one", ExpectedBucketOwner=account)
    refused("403", 403, s3.head_bucket, Bucket="b-one", ExpectedBucketOwner="999999999999")
    refused("404", 404, s3.head_bucket, Bucket="missing")
    refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket="missing")
    s3.put_object(Bucket="b-eu", Key="k")
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket="b-eu")
    s3.delete_object(Bucket="b-eu", Key="k")
    s3.delete_bucket(Bucket="b-eu")
    refused("404", 404, s3.head_bucket, Bucket="b-eu")


def configuration():
    b = "b-one"
    refused("NoSuchLifecycleConfiguration", 404, s3.get_bucket_lifecycle_configuration, Bucket=b)
    rule = {"ID": "two days", "Status": "Enabled", "Filter": {"Prefix": "jobs/"}, "Expiration": {"Days": 2}}
    s3.put_bucket_lifecycle_configuration(Bucket=b, LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(Bucket=b)["Rules"] == [rule]
    s3.delete_bucket_lifecycle(Bucket=b)
    refused("NoSuchLifecycleConfiguration", 404, s3.get_bucket_lifecycle_configuration, Bucket=b)

    def default():
        conf = s3.get_bucket_encryption(Bucket=b)["ServerSideEncryptionConfiguration"]
        return conf["Rules"][0]["ApplyServerSideEncryptionByDefault"]

    assert default() == {"SSEAlgorithm": "AES256"}
    kms = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/key"}
    conf = {"Rules": [{"ApplyServerSideEncryptionByDefault": kms, "BucketKeyEnabled": True}]}
    s3.put_bucket_encryption(Bucket=b, ServerSideEncryptionConfiguration=conf)
    assert default() == kms
    s3.put_object(Bucket=b, Key="enc", Body=b"x")
    assert s3.head_object(Bucket=b, Key="enc")["SSEKMSKeyId"] == "alias/key"
    s3.delete_bucket_encryption(Bucket=b)
    put = s3.put_object(Bucket=b, Key="enc", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="other", BucketKeyEnabled=True)
    head = s3.head_object(Bucket=b, Key="enc")
    for answer in put, head:
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"], answer["BucketKeyEnabled"]) == ("aws:kms", "other", True)
    assert s3.put_object(Bucket=b, Key="enc", Body=b"x")["ServerSideEncryption"] == "AES256"

    access = s3.get_public_access_block(Bucket=b)["PublicAccessBlockConfiguration"]
    assert all(access.values()) and len(access) == 4
    s3.put_public_access_block(Bucket=b, PublicAccessBlockConfiguration={**access, "BlockPublicAcls": False})
    assert not s3.get_public_access_block(Bucket=b)["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    s3.delete_public_access_block(Bucket=b)
    refused("NoSuchPublicAccessBlockConfiguration", 404, s3.get_public_access_block, Bucket=b)

    refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket=b)
    tags = [{"Key": "team", "Value": "ml ops"}]
    s3.put_bucket_tagging(Bucket=b, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=b)["TagSet"] == tags
    refused("NoSuchBucketPolicy", 404, s3.get_bucket_policy, Bucket=b)
    s3.put_bucket_policy(Bucket=b, Policy='{"Version":"2012-10-17","Statement":[]}')
    assert '"Statement":[]' in s3.get_bucket_policy(Bucket=b)["Policy"]
    refused("MalformedPolicy", 400, s3.put_bucket_policy, Bucket=b, Policy="{")
    assert "Status" not in s3.get_bucket_versioning(Bucket=b)
    s3.put_bucket_versioning(Bucket=b, VersioningConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_versioning(Bucket=b)["Status"] == "Suspended"


def objects():
    b = "b-one"
    odd = "dir//ünï code/+ &%25?#'\"<>.txt"
    for key in ["a", "a/b", odd, "../../up", "x" * 1024]:
        body = key.encode() * 7
        put = s3.put_object(Bucket=b, Key=key, Body=body, ContentType="text/x", Metadata={"Mixed-Case": "v"}, CacheControl="no-store")
        assert put["ETag"] == '"' + hashlib.md5(body).hexdigest() + '"'
        got = s3.get_object(Bucket=b, Key=key)
        assert got["Body"].read() == body
        assert got["ContentType"] == "text/x" and got["CacheControl"] == "no-store"
        assert got["Metadata"] == {"mixed-case": "v"}, got["Metadata"]
        assert got["ContentLength"] == len(body) and got["ETag"] == put["ETag"]
    refused("KeyTooLongError", 400, s3.put_object, Bucket=b, Key="x" * 1025, Body=b"")
    refused("NoSuchKey", 404, s3.get_object, Bucket=b, Key="missing")
    refused("404", 404, s3.head_object, Bucket=b, Key="missing")
    refused("NoSuchBucket", 404, s3.get_object, Bucket="missing", Key="k")
    refused("NoSuchBucket", 404, s3.put_object, Bucket="missing", Key="k", Body=b"")

    s3.put_object(Bucket=b, Key="range", Body=b"0123456789")
    for spec, want in {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-3": b"789", "bytes=8-100": b"89"}.items():
        got = s3.get_object(Bucket=b, Key="range", Range=spec)
        assert got["Body"].read() == want, spec
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"].endswith("/10")
    refused("InvalidRange", 416, s3.get_object, Bucket=b, Key="range", Range="bytes=10-")
    s3.put_object(Bucket=b, Key="empty", Body=b"")
    assert s3.get_object(Bucket=b, Key="empty")["Body"].read() == b""

    etag = s3.head_object(Bucket=b, Key="range")["ETag"]
    refused("304", 304, s3.get_object, Bucket=b, Key="range", IfNoneMatch=etag)
    refused("PreconditionFailed", 412, s3.get_object, Bucket=b, Key="range", IfMatch='"other"')
    refused("PreconditionFailed", 412, s3.put_object, Bucket=b, Key="range", Body=b"", IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.put_object, Bucket=b, Key="range", Body=b"", IfMatch='"other"')
    refused("NoSuchKey", 404, s3.put_object, Bucket=b, Key="missing", Body=b"", IfMatch=etag)
    s3.put_object(Bucket=b, Key="range", Body=b"new", IfMatch=etag)

    def race(i):
        try:
            s3.put_object(Bucket=b, Key="race", Body=str(i).encode(), IfNoneMatch="*")
            return i
        except ClientError as e:
            assert e.response["Error"]["Code"] == "PreconditionFailed"

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        won = [i for i in pool.map(race, range(20)) if i is not None]
    assert len(won) == 1
    assert s3.get_object(Bucket=b, Key="race")["Body"].read() == str(won[0]).encode()

    s3.copy_object(Bucket=b, Key="copy", CopySource={"Bucket": b, "Key": odd})
    copied = s3.get_object(Bucket=b, Key="copy")
    assert copied["Body"].read() == odd.encode() * 7 and copied["Metadata"] == {"mixed-case": "v"}
    s3.copy_object(Bucket=b, Key="copy", CopySource={"Bucket": b, "Key": odd}, MetadataDirective="REPLACE", Metadata={"n": "1"})
    assert s3.head_object(Bucket=b, Key="copy")["Metadata"] == {"n": "1"}
    refused("NoSuchKey", 404, s3.copy_object, Bucket=b, Key="copy", CopySource={"Bucket": b, "Key": "missing"})

    tags = [{"Key": "k", "Value": "v"}]
    s3.put_object_tagging(Bucket=b, Key="copy", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=b, Key="copy")["TagSet"] == tags
    assert s3.get_object(Bucket=b, Key="copy")["Body"].read() == odd.encode() * 7

    keys = [{"Key": k} for k in ["a", "a/b", odd, "never-there"]]
    assert len(s3.delete_objects(Bucket=b, Delete={"Objects": keys})["Deleted"]) == 4
    refused("404", 404, s3.head_object, Bucket=b, Key=odd)


def checksums():
    b = "b-one"
    for algorithm in ["CRC32", "SHA1", "SHA256"]:
        put = s3.put_object(Bucket=b, Key="sum", Body=b"data", ChecksumAlgorithm=algorithm)
        got = s3.get_object(Bucket=b, Key="sum", ChecksumMode="ENABLED")
        assert got["Body"].read() == b"data"
        assert got["Checksum" + algorithm] == put["Checksum" + algorithm], got
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    refused("BadDigest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"data", ChecksumSHA256=wrong)
    refused("404", 404, s3.head_object, Bucket=b, Key="bad")
    refused("BadDigest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"data", ContentMD5=base64.b64encode(hashlib.md5(b"no").digest()).decode())


def multipart():
    b, key = "b-one", "big"
    data = os.urandom(13 << 20)
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "f")
        with open(path, "wb") as f:
            f.write(data)
        s3.upload_file(path, b, key, Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
        parts = [data[i : i + (5 << 20)] for i in range(0, len(data), 5 << 20)]
        want = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest() + "-3"
        head = s3.head_object(Bucket=b, Key=key)
        assert head["ETag"] == f'"{want}"', head["ETag"]
        assert s3.list_objects_v2(Bucket=b, Prefix=key)["Contents"][0]["ETag"] == f'"{want}"'
        s3.download_file(b, key, path + "2")
        with open(path + "2", "rb") as f:
            assert f.read() == data
        aws("s3", "cp", f"s3://{b}/{key}", path + "3")
        with open(path + "3", "rb") as f:
            assert f.read() == data
    refused("304", 304, s3.get_object, Bucket=b, Key=key, IfNoneMatch=head["ETag"])
    assert s3.get_object(Bucket=b, Key=key, IfMatch=head["ETag"])["ContentLength"] == len(data)
    part = s3.get_object(Bucket=b, Key=key, PartNumber=2)
    assert part["PartsCount"] == 3 and part["Body"].read() == parts[1]

    assert "Uploads" not in s3.list_multipart_uploads(Bucket=b)
    up = s3.create_multipart_upload(Bucket=b, Key="mp", ContentType="x/y", Metadata={"a": "b"})["UploadId"]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=b)["Uploads"]] == [up]
    etags = [s3.upload_part(Bucket=b, Key="mp", UploadId=up, PartNumber=n, Body=bytes([n]) * 100)["ETag"] for n in (1, 2)]
    assert [p["PartNumber"] for p in s3.list_parts(Bucket=b, Key="mp", UploadId=up)["Parts"]] == [1, 2]

    def complete(*numbers, etag=None):
        return dict(Bucket=b, Key="mp", UploadId=up, MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag or etags[n - 1]} for n in numbers]})

    refused("EntityTooSmall", 400, s3.complete_multipart_upload, **complete(1, 2))
    refused("InvalidPartOrder", 400, s3.complete_multipart_upload, **complete(2, 1))
    refused("InvalidPart", 400, s3.complete_multipart_upload, **complete(1, etag='"other"'))
    s3.complete_multipart_upload(**complete(2))
    got = s3.get_object(Bucket=b, Key="mp")
    assert got["Body"].read() == b"\2" * 100 and got["ContentType"] == "x/y" and got["Metadata"] == {"a": "b"}
    up = s3.create_multipart_upload(Bucket=b, Key="mp")["UploadId"]
    s3.abort_multipart_upload(Bucket=b, Key="mp", UploadId=up)
    refused("NoSuchUpload", 404, s3.upload_part, Bucket=b, Key="mp", UploadId=up, PartNumber=1, Body=b"")


def listing():
    b = "b-list"
    s3.create_bucket(Bucket=b)
    names = sorted([f"d{i % 7}/f{i:04}" for i in range(1100)] + ["d3", "d3.x", "e/"])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda k: s3.put_object(Bucket=b, Key=k, Body=b""), names))
    for operation in "list_objects_v2", "list_objects":
        pages = list(s3.get_paginator(operation).paginate(Bucket=b))
        assert len(pages) == 2
        assert [c["Key"] for p in pages for c in p["Contents"]] == names
        for size in 1, 2, 1000:
            seen, prefixes = [], []
            for page in s3.get_paginator(operation).paginate(Bucket=b, Delimiter="/", PaginationConfig={"PageSize": size}):
                seen += [c["Key"] for c in page.get("Contents", [])]
                prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
            assert seen == ["d3", "d3.x"], seen
            assert prefixes == [f"d{i}/" for i in range(7)] + ["e/"], prefixes
    got = s3.list_objects_v2(Bucket=b, Prefix="d5/f000", StartAfter="d5/f0004")
    assert [c["Key"] for c in got["Contents"]] == ["d5/f0005"], got
    got = s3.list_objects_v2(Bucket=b, Prefix="d5/", StartAfter="d5/f1000", MaxKeys=3)
    assert got["KeyCount"] == 3 and got["IsTruncated"], got
    assert s3.list_objects_v2(Bucket=b, Prefix="none")["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=b, MaxKeys=0)["KeyCount"] == 0


def presigned():
    b = "b-one"
    url = s3.generate_presigned_url("put_object", Params={"Bucket": b, "Key": "signed"}, ExpiresIn=60)
    urllib.request.urlopen(urllib.request.Request(url, data=b"hi", method="PUT"), context=context())
    url = s3.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "signed", "ResponseContentType": "x/z"})
    with urllib.request.urlopen(url, context=context()) as r:
        assert r.read() == b"hi" and r.headers["Content-Type"] == "x/z"
    v4 = boto3.client("s3", config=Config(signature_version="s3v4"))
    url = v4.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "signed"}, ExpiresIn=60)
    assert urllib.request.urlopen(url, context=context()).read() == b"hi"
    old = s3.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "signed"}, ExpiresIn=-60)
    for url in old, re.sub("X-Amz-Date=[0-9]{4}", "X-Amz-Date=2020", url):
        try:
            urllib.request.urlopen(url, context=context())
        except urllib.error.HTTPError as e:
            assert e.code == 403 and b"Request has expired" in e.read()
        else:
            raise AssertionError("an expired URL was accepted")


def context():
    bundle = os.environ.get("AWS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle) if bundle else None


def cli():
    with tempfile.TemporaryDirectory() as d:
        for i in range(30):
            os.makedirs(f"{d}/in/sub{i % 3}", exist_ok=True)
            with open(f"{d}/in/sub{i % 3}/file {i}", "w") as f:
                f.write("x" * i)
        aws("s3", "mb", "s3://b-cli")
        aws("s3", "sync", f"{d}/in", "s3://b-cli/p")
        assert len(aws("s3", "ls", "--recursive", "s3://b-cli/p/").stdout.splitlines()) == 30
        assert aws("s3", "ls", "s3://b-cli/p/").stdout.count("PRE sub") == 3
        aws("s3", "sync", "s3://b-cli/p", f"{d}/out")
        assert subprocess.run(["diff", "-r", f"{d}/in", f"{d}/out"]).returncode == 0
        aws("s3", "mv", "s3://b-cli/p/sub1/file 1", "s3://b-cli/moved")
        aws("s3", "cp", "-", "s3://b-cli/stdin", input="from stdin")
        assert aws("s3", "cp", "s3://b-cli/stdin", "-").stdout == "from stdin"
        missing = aws("s3api", "get-object", "--bucket", "b-cli", "--key", "nothing", f"{d}/x", check=False)
        assert "NoSuchKey" in missing.stderr, missing.stderr
        aws("s3", "rb", "--force", "s3://b-cli")


over_http = [configuration, listing, presigned, cli]
for check in [buckets, objects, checksums, multipart] + ([] if os.environ.get("AWS_CA_BUNDLE") else over_http):
    check()
