"""Shows the tasks of the worker, and runs failed ones again."""

import json
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django_tasks_db.models import DBTaskResult

from loyalty.admin.base import BackOfficeAdmin, ReadOnly
from loyalty.staff.access import orgs_of
from loyalty.staff.audit import record_change
from reversals.operations.worker import queue

admin.site.unregister(DBTaskResult)  # the page of django-tasks-db has neither roles nor this action


class OnlyFailing(admin.SimpleListFilter):
    title = "failures"
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Only failing tasks")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(id__in=queue.failing().values("id")) if self.value() == "yes" else queryset


@admin.register(DBTaskResult)
class TaskAdmin(ReadOnly, BackOfficeAdmin):
    list_display = ["task", "state", "tries", "failure", "enqueued_at", "started_at", "finished_at"]
    list_filter = [OnlyFailing, "status"]
    ordering = ["-enqueued_at"]
    sortable_by = ()
    fields = ["task", "arguments", "state", "tries", "failure", "result", "enqueued_at", "started_at", "finished_at"]
    actions = ["run_again"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Tasks of the user's orgs, whose first argument is the org's id, and tasks that belong to no org."""
        rows = DBTaskResult.objects.all()
        if request.user.is_superuser:
            return rows
        org_ids = list(orgs_of(request.user).values_list("id", flat=True))
        return rows.filter(Q(args_kwargs__args=[]) | Q(args_kwargs__args__0__in=org_ids))

    def has_run_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_tasks_database.change_dbtaskresult")

    @admin.display(description="task")
    def task(self, row: queue.Row) -> str:
        return in_words(row.task_path)

    @admin.display(description="status")
    def state(self, row: queue.Row) -> str:
        if row.status == queue.Status.READY and row.traceback:
            return f"failed; tried again from {row.run_after:%Y-%m-%d %H:%M} UTC"
        return str(row.get_status_display()).lower()

    @admin.display(description="tries")
    def tries(self, row: queue.Row) -> int:
        return len(row.worker_ids)

    @admin.display(description="failure")
    def failure(self, row: queue.Row) -> str:
        return f"{row.exception_class_path.rpartition('.')[2]}: {row.traceback}".removeprefix(": ")

    @admin.display(description="arguments")
    def arguments(self, row: queue.Row) -> str:
        return ", ".join(str(each) for each in row.args_kwargs["args"])

    @admin.display(description="result")
    def result(self, row: queue.Row) -> str:
        return "" if row.return_value is None else json.dumps(row.return_value)

    @admin.action(description="Run again", permissions=["run_again"])
    @transaction.atomic
    def run_again(self, request: HttpRequest, tasks: QuerySet[queue.Row]) -> None:
        failing = list(queue.failing().filter(id__in=tasks.values("id")))
        for row in failing:
            record_change(
                row,
                org=None,
                action="run again",
                made_by=request.user.get_username(),
                reason="selected in the list of background tasks",
                before={"status": row.status, "tries": len(row.worker_ids)},
                after={"status": queue.Status.READY.value, "tries": 0},
            )
        due = queue.run_again([row.id for row in failing])
        self.message_user(request, f"{due} failed {'task is' if due == 1 else 'tasks are'} due now.")


def in_words(task_path: str) -> str:
    """The name of a task for people, such as "Seal ledger"."""
    return task_path.rpartition(".")[2].replace("_", " ").capitalize()
