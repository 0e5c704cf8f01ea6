"""URIs come from tenants: the apiserver's rule and the process that reads them refuse the same ones, each by itself."""

from typing import Any

import pytest

from eagleray_operator.api import crd
from eagleray_operator.cluster.admission import RefusedError, judges
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage.uris import parse

JUDGES = judges(crd.URI_SCHEMES)

BAD = {
    "a file of the node": "file:///etc/passwd",
    "a file by another spelling": "FILE:///etc/passwd",
    "the web": "http://example.com/model",
    "a scheme that fsspec would load code for": "zip://model.zip::s3://bucket/x",
    "a user and a password": "s3://key:secret@bucket/model",
    "a user": "s3://key@bucket/model",
    "a port": "s3://bucket:9000/model",
    "an address in numbers": "s3://169.254.169.254/latest/meta-data",
    "an address in six groups": "s3://[fd00:ec2::254]/latest",
    "a number": "s3://2852039166/latest",
    "a way up": "pvc://claim/../other",
    "a way up at the end": "pvc://claim/model/..",
    "an encoded way up": "pvc://claim/%2e%2e/other",
    "an encoded slash": "s3://bucket%2fother/model",
    "a query": "s3://bucket/model?versionId=1",
    "a fragment": "s3://bucket/model#x",
    "a line break": "s3://bucket/model\nHost: x",
    "a backslash": "pvc://claim\\..\\other",
    "nothing behind the scheme": "s3:///model",
    "no scheme": "bucket/model",
    "a repository without its owner": "hf://repository",
    "a set of data without its owner": "hf://datasets/repository",
    "a bucket of a hub": "hf://buckets/owner/bucket/path",
}
GOOD = [
    "s3://bucket",
    "gs://bucket/a/b",
    "abfs://container/a/b",
    "hf://owner/name",
    "hf://owner/name@v1.0/a",
    "hf://datasets/o/n/*.csv",
    "s3://bucket/a/b-c_d.e",
    "pvc://claim/rows/*.csv",
    "s3://9a/x=1/y,z",
]


def deployment(uri: str) -> dict[str, Any]:
    return {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"model": {"uri": uri}},
    }


def job(uri: str) -> dict[str, Any]:
    return {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"data": {"uri": uri, "target": "y"}, "model": {"family": "LinearRegression"}, "output": {"uri": uri}},
    }


@pytest.mark.parametrize("what", BAD)
def test_both_refuse(what: str) -> None:
    for manifest in (deployment(BAD[what]), job(BAD[what])):
        with pytest.raises(RefusedError):
            JUDGES[manifest["kind"]](manifest, None)
    with pytest.raises(StoreRefused):
        parse(BAD[what], {})


def test_a_zero_byte_is_refused_where_it_is_read() -> None:
    with pytest.raises(StoreRefused):
        parse("pvc://claim/model\x00.json", {})


@pytest.mark.parametrize("uri", GOOD)
def test_both_take(uri: str) -> None:
    for manifest in (deployment(uri), job(uri)):
        JUDGES[manifest["kind"]](manifest, None)
    assert parse(uri, {}).path
