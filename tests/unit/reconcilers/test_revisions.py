"""Names of revisions."""

from eagleray_operator.reconcilers.revisions import content, name_of
from tests.support.makers import deployment


def revision(**spec) -> str:
    return name_of("iris", content(deployment(**spec).spec, "s3://m/iris", None, "NumPy"))


def test_numbers_do_not_name_a_revision():
    assert revision() == revision(replicas=5)
    assert revision(autoscaling={"maxReplicas": 2}) == revision(autoscaling={"maxReplicas": 9, "minReplicas": 3})


def test_what_needs_new_pods_names_another():
    different = {
        revision(),
        revision(resources={"cpus": 2}),
        revision(runtime={"image": "x"}),
        revision(runtime={"env": [{"name": "A", "value": "1"}]}),
        revision(runtime={"env": [{"name": "A", "value": "2"}]}),
        revision(scheduling={"nodeSelector": {"gpu": "h100"}}),
        revision(autoscaling={"maxReplicas": 2}),
    }
    assert len(different) == 7


def test_the_name_of_a_content_never_changes():
    """An upgrade of the operator that named the same content otherwise would restart every service."""
    assert revision() == "iris-wsjbh6"


def test_a_name_is_one_that_a_ray_service_may_have():
    longest = "a" * 40
    assert len(name_of(longest, {})) <= 47
