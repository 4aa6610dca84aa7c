"""The live boxes of this app: which noun has which parts, and who may look at them."""

from jobs.pages import head_view, may_read_job
from live.registry import Fragment, Noun

JOB = Noun(
    name="job",
    may_read=may_read_job,
    fragments=(Fragment(noun="job", name="head", template="jobs/_job_head.html", query=head_view),),
)
