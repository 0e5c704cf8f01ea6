"""What the cluster commands fail with, told apart because the two ask different things of the reader."""


class ClusterError(Exception):
    """Something that should have worked did not: the message says which step, and where its log is."""


class UnavailableError(ClusterError):
    """This machine cannot run the command at all: the message names the one thing that is missing.

    Test tiers turn it into a skip and the command line into exit code 3, so it must never stand for a defect.
    """
