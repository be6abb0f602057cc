from typing import Any

from django.core.management.base import CommandParser

from loyalty.emf.stored import set_emf
from loyalty.errors import NeedsSecondUser
from loyalty.management.base import LoyaltyCommand, operator
from loyalty.orgs import find_org, find_program
from loyalty.staff.held_changes import hold_limit


class Command(LoyaltyCommand):
    help = "Sets one EMF setting of an org, or of one of its programs. An empty VALUE removes the setting."

    def add_own_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org_id", type=int, metavar="ORG_ID")
        parser.add_argument("key", metavar="KEY")
        parser.add_argument("value", metavar="VALUE")
        parser.add_argument("--program", type=int, metavar="ID")
        parser.add_argument("--ticket", required=True, metavar="T")
        parser.add_argument("--reason", required=True, metavar="R")

    def run(self, **options: Any) -> dict[str, Any]:
        org = find_org(options["org_id"])
        program = None if options["program"] is None else find_program(org, options["program"])
        wanted = {name: options[name] for name in ("key", "value", "ticket", "reason")}
        try:
            change = set_emf(org=org, program=program, changed_by=operator(), **wanted)
        except NeedsSecondUser:
            held = hold_limit(org=org, program=program, asked_by=operator(), **wanted)
            return {"org_id": org.id, "key": options["key"], "waits_for_second_user": held.id}
        return {
            "org_id": org.id,
            "program_id": None if program is None else program.public_id,
            "key": change.key,
            "old_value": change.old_value,
            "new_value": change.new_value,
            "ticket": change.ticket,
        }
