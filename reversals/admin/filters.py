"""Filters the lists of redemptions, reversals and attempts without counting or sorting a whole table."""

from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.lookups import Exact
from django.http import HttpRequest

from loyalty.admin.filters import OfParent, OfProgram
from loyalty.models import ApiClient, Redemption
from loyalty.staff.current_org import current_org
from reversals.admin.statuses import NEEDS_APPROVAL, OPEN, PARTLY_REVERSED, REVERSED, WAITING, waiting_requests
from reversals.models import Correction, Reversal
from reversals.refusals import LADDERS


class ByStatus(admin.SimpleListFilter):
    """Whether reversals were corrected."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("valid", "Valid"), ("corrected", "Corrected"), ("waiting", "Waiting for correction")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "valid":
                return queryset.filter(corrected_at__isnull=True)
            case "corrected":
                return queryset.filter(id__in=Correction.objects.filter(org=current_org(request)).values("reversal"))
            case "waiting":
                waiting = waiting_requests().filter(org=current_org(request), corrects__isnull=False)
                return queryset.filter(corrected_at__isnull=True, id__in=waiting.values("corrects"))
            case _:
                return queryset


class ByStatusOfRedemption(admin.SimpleListFilter):
    """How much of a redemption was reversed, or that a reversal of it waits for approval."""

    title = "status"
    parameter_name = "status"

    @property
    def scans(self) -> bool:
        """Whether no index finds the rows. Requests that wait are few, and have an index."""
        return self.value() != "waiting"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        statuses = {"open": OPEN, "partly": PARTLY_REVERSED, "reversed": REVERSED, "waiting": WAITING}
        return [(name, status.text.capitalize()) for name, status in statuses.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "waiting":
                waiting = waiting_requests().filter(org=current_org(request), corrects__isnull=True)
                return queryset.filter(id__in=waiting.values("redemption"))
            case "open":
                return queryset.filter(is_waiting=False, points_reversed=0)
            case "partly":
                return queryset.filter(is_waiting=False, points_reversed__gt=0, points_reversed__lt=F("points"))
            case "reversed":
                return queryset.filter(is_waiting=False, points_reversed=F("points"))
            case _:
                return queryset


class ByRule(admin.SimpleListFilter):
    """The rule that refused the call, by code. Rules with the same name and different codes are separate choices."""

    title = "result"
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rules = sorted({(error.code, error.name) for ladder in LADDERS.values() for error in ladder})
        return [
            ("accepted", "Accepted"),
            ("refused", "Refused"),
            (NEEDS_APPROVAL, "Approval requested"),
            *((f"{name}.{code}", f"{code} {name}") for code, name in rules if name != NEEDS_APPROVAL),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case "accepted":
                return queryset.filter(rule="")
            case "refused":
                return queryset.exclude(rule__in=("", NEEDS_APPROVAL))
            case rule:
                name, _, code = rule.partition(".")
                return queryset.filter(rule=name, code=code) if code.isdecimal() else queryset.filter(rule=name)


class ByOperation(admin.SimpleListFilter):
    """The requested operation."""

    title = "operation"
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(operation, operation.capitalize()) for operation in LADDERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(operation=self.value())


class OfClient(OfParent):
    """The API client that called."""

    title = "client"
    parameter_name = "client"
    parents = ApiClient
    scans = True

    def of(self, parent_id: int, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(client_id=parent_id)


class OfProgramOfRedemption(OfProgram):
    """The program of the redemption that was reversed."""

    programs: ClassVar = [
        Subquery(
            Redemption.objects.filter(org_id=OuterRef("org_id"), id=OuterRef("redemption_id")).values("program_id")[:1]
        )
    ]

    def of(self, parent_id: int, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # One value for each row, because PostgreSQL would read all redemptions of the org for a join or an EXISTS.
        return queryset.filter(reduce(or_, (Q(Exact(program, parent_id)) for program in self.programs)))


class OfProgramAsked(OfProgramOfRedemption):
    """The program of the redemption that the call named, made or reversed."""

    programs: ClassVar = [
        *OfProgramOfRedemption.programs,
        Subquery(
            Reversal.objects.filter(org_id=OuterRef("org_id"), id=OuterRef("reversal_id")).values(
                "redemption__program_id"
            )[:1]
        ),
        Subquery(
            Redemption.objects.filter(org_id=OuterRef("org_id"), public_id=OuterRef("redemption_id_asked")).values(
                "program_id"
            )[:1]
        ),
    ]
