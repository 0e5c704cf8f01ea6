"""The cache never goes back in time."""

from typing import Any

import pytest

from eagleray_operator.cluster.port import Ref
from eagleray_operator.controller.cache import Cache
from tests.support.makers import deployment_manifest, job_manifest

JOB = Ref("TrainingJob", "default", "iris")


def at(version: int, uid: str = "first", **metadata: Any) -> dict[str, Any]:
    made = job_manifest()
    made["metadata"] |= {"uid": uid, "resourceVersion": str(version)} | metadata
    return made


def version_of(cache: Cache) -> str | None:
    found = cache.get(JOB)
    return found["metadata"]["resourceVersion"] if found else None


@pytest.mark.parametrize("stale", [at(4), at(3, uid="earlier one of that name")], ids=["same object", "the one before"])
def test_an_older_version_is_refused(stale: dict[str, Any]):
    cache = Cache()
    assert cache.put(at(5))
    assert not cache.put(stale)
    assert version_of(cache) == "5"


def test_a_new_object_of_the_name_takes_the_place_of_one_whose_deletion_was_missed():
    cache = Cache()
    cache.put(at(5))
    assert cache.put(at(9, uid="second"))
    assert cache.by_uid(["first"], ["TrainingJob"]) == []
    assert not cache.remove(at(8)), "its deletion comes late"
    assert version_of(cache) == "9"


def test_a_watch_that_starts_from_the_past_does_not_bring_a_deleted_object_back():
    cache = Cache()
    cache.put(at(5))
    assert cache.remove(at(6))
    assert not cache.put(at(5))
    assert cache.get(JOB) is None


def test_followers_are_known_as_long_as_they_follow():
    cache = Cache()
    follower = deployment_manifest(model={"trainingJobRef": {"name": "iris"}})
    cache.put(follower)
    assert cache.followers(JOB) == {Ref("ModelDeployment", "default", "iris")}
    other = deployment_manifest(model={"uri": "s3://models/x"})
    other["metadata"]["resourceVersion"] = "2"
    cache.put(other)
    assert cache.followers(JOB) == set()


def test_who_set_which_field_takes_no_room():
    cache = Cache()
    cache.put(at(5, managedFields=[{"manager": "kubectl"}]))
    assert "managedFields" not in (cache.get(JOB) or {})["metadata"]
