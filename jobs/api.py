"""REST for jobs: thin doors to services and queries, in the seed documents' shapes."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import actor_of
from access.problems import Refused
from access.rest import list_parameter, page_body, paginate, read_page, refuse_unknown
from jobs import records, serializers
from jobs.canonical import run_hash, spec_hash
from jobs.diff import semantic_diff, text_diff
from jobs.document import Document
from jobs.intake import Intake, read_spec
from jobs.planning import plan_spec
from jobs.queries import events_of, find_job, jobs_for, version_of, versions_of
from jobs.services import (
    Submission,
    check_nodes,
    current_job,
    delete_job,
    etag_of,
    rerun_job,
    stop_job,
    submit_job,
)
from jobs.spec import JobSpec, json_schema

_TRUE = frozenset({"1", "true", "yes"})
_NAMESPACE = OpenApiParameter("namespace", str, description="Needed when a name is ambiguous.")
_FILTERS = ("types", "states", "labels", "namespace", "name", "outcome", "counts")


def _flag(request: Request, document: Document | None, name: str) -> bool:
    """Read a yes-or-no that may stand in the query or beside `spec` in the body."""
    if request.query_params.get(name, "").lower() in _TRUE:
        return True
    value = document.value.get(name) if document and "spec" in document.value else None
    if value is not None and not isinstance(value, bool):
        raise Refused("invalid_type", f"{name} must be true or false.")
    return bool(value)


def _read_body(request: Request) -> tuple[Document, str]:
    """Return the body and the JSON pointer of the spec in it: both shapes are taken (1.12)."""
    _ = request.data  # parsing is lazy
    document: Document | None = getattr(request, "document", None)
    if document is None:
        raise Refused("malformed_body", "The body is empty.", hint="Send a job spec.")
    if not isinstance(document.value.get("spec"), dict):
        return document, ""
    odd = sorted(document.value.keys() - {"spec", "dry_run", "force", "reason"})
    if odd:
        raise Refused(
            "unknown_field",
            f"The body has an unknown member {odd[0][:64]}.",
            hint="Beside spec there may be dry_run, force and reason.",
            errors=[{"path": f"/{name}", "code": "unknown_field"} for name in odd],
        )
    return document, "/spec"


def _expected(request: Request) -> str | None:
    header = request.headers.get("If-Match")
    return header.strip().removeprefix("W/").strip('"') if header else None


class JobsView(APIView):
    """Every job one may see, and the door for new specs."""

    @extend_schema(
        operation_id="jobs_list",
        parameters=[OpenApiParameter(name, str) for name in _FILTERS],
        responses=serializers.JobPage,
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        page = read_page(params, filters=_FILTERS, orders=("created_at", "updated_at", "name"))
        jobs = jobs_for(
            request.user,
            namespaces=list_parameter(params, "namespace"),
            types=list_parameter(params, "types"),
            states=list_parameter(params, "states"),
            labels=params.get("labels", ""),
            name=params.get("name", ""),
            outcomes=list_parameter(params, "outcome"),
        )
        rows, token = paginate(jobs, page)
        body = page_body(records.job_records(rows), token)
        if params.get("counts", "") in _TRUE:
            body |= serializers.counts_of(jobs)
        return Response(body)

    @extend_schema(
        operation_id="jobs_submit",
        summary="Create a job, or update the job of that name",
        parameters=[
            OpenApiParameter("dry_run", bool),
            OpenApiParameter("force", bool),
            OpenApiParameter("compat", bool),
            OpenApiParameter("If-Match", str, OpenApiParameter.HEADER),
        ],
        request=serializers.Submission,
        responses={200: serializers.Submitted, 201: serializers.Submitted},
    )
    def put(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("dry_run", "force", "compat"))
        document, at = _read_body(request)
        compat = request.query_params.get("compat", "") in _TRUE
        intake = read_spec(request.user, document, at=at, compat=compat)
        if _flag(request, document, "dry_run"):
            return Response(_dry_run(intake, force=_flag(request, document, "force")))
        reason = document.value.get("reason") if at else None
        done = submit_job(
            actor_of(request),
            Submission(
                spec=intake.spec,
                source_text=document.text if not at else "",
                force=_flag(request, document, "force"),
                expected=_expected(request),
                reason=reason if isinstance(reason, str) else "",
                signatures=intake.signatures,
            ),
        )
        body = {
            "job": records.job_records([done.job])[0],
            "evaluation_id": "",
            "warnings": [records.problem_record(w) for w in intake.warnings],
        }
        headers = {"ETag": f'"{etag_of(done.job)}"'}
        return Response(body, status=201 if done.created else 200, headers=headers)


def _dry_run(intake: Intake, *, force: bool) -> dict[str, Any]:
    """Say what a submission would do; nothing is stored (docs/semantics.md 4.9)."""
    spec = intake.spec
    job = current_job(spec.namespace, spec.name)
    before = JobSpec.model_validate(version_of(job, job.version).spec) if job else None
    plan = plan_spec(spec, job, run_hash=run_hash(spec))
    check_nodes(spec, plan)
    equal = before is not None and spec_hash(before) == spec_hash(spec)
    restart = job is not None and (force or job.state == "stopped")
    return {
        "valid": True,
        "would_change": not equal or restart,
        "job": {"id": str(job.pk) if job else "", "spec": spec.to_json()},
        "diff": text_diff(before, spec),
        "changes": _changes(before, spec),
        **records.plan_record(plan),
        "warnings": [records.problem_record(w) for w in intake.warnings],
    }


def _changes(before: JobSpec | None, after: JobSpec) -> list[dict[str, Any]]:
    if before is None:
        return []
    return [
        {"path": c.path, "old": c.old, "new": c.new, "effect": c.effect, "summary": c.summary}
        for c in semantic_diff(before, after)
    ]


class JobSchemaView(APIView):
    """The JSON Schema of a spec, for editors."""

    @extend_schema(operation_id="jobs_schema", responses={200: dict})
    def get(self, request: Request) -> Response:
        return Response(json_schema())


class JobValidateView(APIView):
    """Checks a spec as submission would, without looking at what exists."""

    @extend_schema(
        operation_id="jobs_validate",
        request=serializers.Submission,
        responses=serializers.Validated,
    )
    def post(self, request: Request) -> Response:
        document, at = _read_body(request)
        intake = read_spec(request.user, document, at=at)
        return Response(
            {
                "valid": True,
                "spec": intake.spec.to_json(),
                "warnings": [records.problem_record(w) for w in intake.warnings],
            }
        )


class JobDiffView(APIView):
    """The difference between a proposed spec and the current one."""

    @extend_schema(
        operation_id="jobs_diff", request=serializers.Submission, responses=serializers.Diff
    )
    def put(self, request: Request) -> Response:
        document, at = _read_body(request)
        spec = read_spec(request.user, document, at=at).spec
        job = find_job(request.user, spec.name, namespace=spec.namespace)
        before = JobSpec.model_validate(version_of(job, job.version).spec)
        return Response({"diff": text_diff(before, spec), "changes": _changes(before, spec)})


class JobView(APIView):
    """One job, by id or name."""

    @extend_schema(operation_id="jobs_get", parameters=[_NAMESPACE], responses=serializers.Job)
    def get(self, request: Request, key: str) -> Response:
        job = _job(request, key)
        return Response(records.job_records([job])[0], headers={"ETag": f'"{etag_of(job)}"'})

    @extend_schema(
        operation_id="jobs_delete", parameters=[_NAMESPACE], responses={202: serializers.Job}
    )
    def delete(self, request: Request, key: str) -> Response:
        job = _job(request, key, "job:write")
        deleted = delete_job(actor_of(request), job.pk)
        return Response(records.job_records([deleted])[0], status=202)


class JobStopView(APIView):
    """Stops a job everywhere."""

    @extend_schema(operation_id="jobs_stop", request=None, responses=serializers.Stopped)
    def post(self, request: Request, key: str) -> Response:
        job = _job(request, key, "job:write")
        stopped, changed = stop_job(actor_of(request), job.pk)
        return Response({"changed": changed, "job": records.job_records([stopped])[0]})


class JobRerunView(APIView):
    """Has the scheduler look at a job again."""

    @extend_schema(operation_id="jobs_rerun", request=None, responses={202: serializers.Job})
    def put(self, request: Request, key: str) -> Response:
        job = _job(request, key, "job:write")
        again = rerun_job(actor_of(request), job.pk)
        return Response(records.job_records([again])[0], status=202)


class JobVersionsView(APIView):
    """Every version of a job, newest first."""

    @extend_schema(operation_id="jobs_versions", responses=serializers.VersionPage)
    def get(self, request: Request, key: str) -> Response:
        job = _job(request, key, known=False)
        page = read_page(request.query_params, filters=("namespace",), orders=("number",))
        rows, token = paginate(versions_of(job), page)
        return Response(page_body([records.version_record(row) for row in rows], token))


class JobVersionView(APIView):
    """One version of a job."""

    @extend_schema(operation_id="jobs_version", responses=serializers.Version)
    def get(self, request: Request, key: str, number: int) -> Response:
        return Response(records.version_record(version_of(_job(request, key), number)))


class JobHistoryView(APIView):
    """What happened to a job, newest first."""

    @extend_schema(
        operation_id="jobs_history",
        parameters=[OpenApiParameter("since", int)],
        responses=serializers.EventPage,
    )
    def get(self, request: Request, key: str) -> Response:
        job = _job(request, key, known=False)
        page = read_page(request.query_params, filters=("namespace", "since"), orders=("id",))
        rows, token = paginate(events_of(job, since=since_of(request)), page)
        return Response(page_body([records.event_record(row) for row in rows], token))


def since_of(request: Request) -> int:
    """Return the event number after which history is asked for."""
    text = request.query_params.get("since", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused("invalid_value", "since is the seq_num of an event.")
    return int(text)


def _job(request: Request, key: str, permission: str = "job:read", *, known: bool = True) -> Any:  # noqa: ANN401 - a job row
    if known:
        refuse_unknown(request.query_params, ("namespace",))
    return find_job(request.user, key, permission, request.query_params.get("namespace"))
