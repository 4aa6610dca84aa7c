"""REST for rollouts, executions and evaluations: thin doors to services and reads."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import actor_of
from access.problems import Refused
from access.rest import list_parameter, page_body, paginate, read_page, refuse_unknown
from access.services import Actor
from jobs.api import since_of
from jobs.queries import events_of, find_job
from jobs.records import event_record, job_records, version_record
from rollouts import lookup, records, serializers, services

LOG_LIMIT = 500
_EXECUTION_FILTERS = ("states", "nodes", "versions", "namespace")


def _job(request: Request, key: str, permission: str = "job:read") -> Any:  # noqa: ANN401 - a job row
    return find_job(request.user, key, permission, request.query_params.get("namespace"))


class JobExecutionsView(APIView):
    """The executions of a job."""

    @extend_schema(
        operation_id="job_executions",
        parameters=[OpenApiParameter(name, str) for name in _EXECUTION_FILTERS],
        responses=serializers.ExecutionPage,
    )
    def get(self, request: Request, key: str) -> Response:
        return _execution_page(request, job=_job(request, key))


class ExecutionsView(APIView):
    """Every execution one may see."""

    @extend_schema(
        operation_id="executions_list",
        parameters=[OpenApiParameter(name, str) for name in _EXECUTION_FILTERS],
        responses=serializers.ExecutionPage,
    )
    def get(self, request: Request) -> Response:
        return _execution_page(request, job=None)


def _execution_page(request: Request, *, job: Any) -> Response:  # noqa: ANN401 - a job row
    params = request.query_params
    page = read_page(params, filters=_EXECUTION_FILTERS)
    executions = lookup.executions_for(
        request.user,
        job=job,
        states=list_parameter(params, "states"),
        nodes=list_parameter(params, "nodes"),
        versions=list_parameter(params, "versions"),
    )
    if job is None and (namespaces := list_parameter(params, "namespace")):
        executions = executions.filter(namespace__in=namespaces)
    rows, token = paginate(executions, page)
    return Response(page_body([records.execution_record(row) for row in rows], token))


class ExecutionView(APIView):
    """One execution."""

    @extend_schema(operation_id="executions_get", responses=serializers.Execution)
    def get(self, request: Request, key: str) -> Response:
        refuse_unknown(request.query_params, ())
        return Response(records.execution_record(lookup.find_execution(request.user, key)))


class ExecutionHistoryView(APIView):
    """What happened to an execution, newest first."""

    @extend_schema(
        operation_id="executions_history",
        parameters=[OpenApiParameter("since", int)],
        responses=serializers.HistoryPage,
    )
    def get(self, request: Request, key: str) -> Response:
        execution = lookup.find_execution(request.user, key)
        page = read_page(request.query_params, filters=("since",), orders=("id",))
        events = events_of(execution.job, execution_id=execution.pk, since=since_of(request))
        rows, token = paginate(events, page)
        return Response(page_body([event_record(row) for row in rows], token))


class ExecutionLogsView(APIView):
    """What an execution wrote; `after` continues from an earlier answer."""

    @extend_schema(
        operation_id="executions_logs",
        parameters=[OpenApiParameter("after", int)],
        responses=serializers.LogPage,
    )
    def get(self, request: Request, key: str) -> Response:
        refuse_unknown(request.query_params, ("after",))
        text = request.query_params.get("after", "-1")
        if not text.removeprefix("-").isdecimal() or len(text) > 18:
            raise Refused("invalid_value", "after is the seq of a chunk of lines.")
        execution = lookup.find_execution(request.user, key)
        chunks = lookup.log_of(execution, after=int(text), limit=LOG_LIMIT)
        last = chunks[-1].seq if chunks else int(text)
        body = {"items": [records.log_record(chunk) for chunk in chunks], "next_after": last}
        return Response(body)


class ExecutionResultView(APIView):
    """How an execution ended."""

    @extend_schema(operation_id="executions_result", responses=serializers.Result)
    def get(self, request: Request, key: str) -> Response:
        refuse_unknown(request.query_params, ())
        execution = lookup.find_execution(request.user, key)
        result = lookup.result_of(execution)
        return Response(records.result_record(execution, result, execution.node.hostname))


class JobResultsView(APIView):
    """How the executions of a job ended."""

    @extend_schema(operation_id="job_results", responses=serializers.ResultPage)
    def get(self, request: Request, key: str) -> Response:
        page = read_page(request.query_params, filters=("namespace",), orders=("completed_at",))
        rows, token = paginate(lookup.results_of(_job(request, key)), page)
        items = [
            records.result_record(row.execution, row, row.execution.node.hostname) for row in rows
        ]
        return Response(page_body(items, token))


class JobEvaluationsView(APIView):
    """Why things happened to a job: its evaluations, newest first."""

    @extend_schema(operation_id="job_evaluations", responses=serializers.EvaluationPage)
    def get(self, request: Request, key: str) -> Response:
        page = read_page(request.query_params, filters=("namespace",))
        rows, token = paginate(lookup.evaluations_of(_job(request, key)), page)
        return Response(page_body([records.evaluation_record(row) for row in rows], token))


class EvaluationView(APIView):
    """One evaluation."""

    @extend_schema(operation_id="evaluations_get", responses=serializers.Evaluation)
    def get(self, request: Request, key: str) -> Response:
        return Response(records.evaluation_record(lookup.find_evaluation(request.user, key)))


class JobRolloutView(APIView):
    """The newest rollout of a job."""

    @extend_schema(operation_id="job_rollout", responses=serializers.Rollout)
    def get(self, request: Request, key: str) -> Response:
        job = _job(request, key, "rollout:read")
        return Response(records.rollout_record(lookup.rollout_of(job)))


class JobRolloutsView(APIView):
    """Every rollout of a job, newest first."""

    @extend_schema(operation_id="job_rollouts", responses=serializers.RolloutPage)
    def get(self, request: Request, key: str) -> Response:
        job = _job(request, key, "rollout:read")
        page = read_page(request.query_params, filters=("namespace",), orders=("started_at",))
        rows, token = paginate(lookup.rollouts_of(job), page)
        return Response(page_body([records.rollout_record(row) for row in rows], token))


Act = Callable[[Actor, UUID, str, UUID | None], Any]
ACTS: dict[str, Act] = {
    "pause": services.pause_rollout,
    "resume": services.resume_rollout,
    "promote": services.promote_rollout,
    "cancel": services.cancel_rollout,
}


class RolloutActView(APIView):
    """Pauses, resumes, promotes or cancels the active rollout of a job.

    With `rollout` only if that one is still the active one; 409 `conflict` otherwise.
    """

    @extend_schema(request=serializers.RolloutAct, responses=serializers.Rollout)
    def post(self, request: Request, key: str, verb: str) -> Response:
        job = _job(request, key, "rollout:write")
        expected = _uuid(request, "rollout")
        rollout = ACTS[verb](actor_of(request), job.pk, _text(request, "reason"), expected)
        return Response(records.rollout_record(rollout))


class RolloutRollbackView(APIView):
    """Returns a job to an earlier version, as a new version."""

    @extend_schema(
        operation_id="job_rollback", request=serializers.RollbackRequest, responses={200: dict}
    )
    def post(self, request: Request, key: str) -> Response:
        job = _job(request, key, "rollout:write")
        target = _member(request, "target_version")
        if target is not None and (not isinstance(target, int) or isinstance(target, bool)):
            raise Refused("invalid_type", "target_version is the number of a version.")
        version = services.roll_back(actor_of(request), job.pk, target, _text(request, "reason"))
        fresh = find_job(request.user, str(job.pk))
        return Response({"version": version_record(version), "job": job_records([fresh])[0]})


def _text(request: Request, name: str) -> str:
    value = _member(request, name)
    return value if isinstance(value, str) else ""


def _uuid(request: Request, name: str) -> UUID | None:
    value = _member(request, name)
    if value is None:
        return None
    try:
        return UUID(str(value))
    except ValueError as error:
        raise Refused("invalid_type", f"{name} is the id of a rollout.") from error


def _member(request: Request, name: str) -> object:
    """Return a member of the body, which may be absent altogether."""
    body = request.data
    return body.get(name) if isinstance(body, Mapping) else None
