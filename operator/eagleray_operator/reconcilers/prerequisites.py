"""What must be there before a resource can get any children."""

from eagleray_operator.api.reasons import Reason
from eagleray_operator.reconcilers.causes import KUBERAY, Cause
from eagleray_operator.reconcilers.plan import Observed


def unmet(observed: Observed) -> Cause | None:
    """The first thing that is missing or in the way."""
    if observed.missing_kinds:
        kinds = ", ".join(observed.missing_kinds)
        return Cause(
            Reason.PREREQUISITE_MISSING,
            f"KubeRay is missing: this cluster does not know {kinds}. Install {KUBERAY}; this goes on by itself.",
        )
    for ref in sorted(observed.absent):
        return Cause(
            Reason.REFERENCE_NOT_FOUND, f"{ref.kind} {ref.name} is not in this namespace. Create it; this goes on by itself."
        )
    for ref, owner in sorted(observed.conflicts.items()):
        return Cause(Reason.CONFLICT, f"{ref.kind} {ref.name} belongs to {owner}. Rename this resource or remove that object.")
    return None
