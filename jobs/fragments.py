"""The live boxes of this app: which noun has which parts, and who may look at them."""

from jobs.pages import head_view, may_read_job
from live.registry import Fragment, Noun

JOB = Noun(
    name="job",
    may_read=may_read_job,
    fragments=tuple(
        Fragment(noun="job", name=name, template=f"jobs/_job_{name}.html", query=head_view)
        for name in ("head", "watch")
    ),
)
