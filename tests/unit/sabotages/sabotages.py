"""Lists the sabotages: a text of the code, its replacement, and the test that must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sabotage:
    """`edits` are pairs of a text that occurs once in the file and its replacement."""

    name: str
    path: str
    edits: tuple[tuple[str, str], ...]
    test: str
    needs_postgresql: bool = False


def _edit(before: str, after: str) -> tuple[tuple[str, str], ...]:
    return ((before, after),)


SABOTAGES = (
    Sabotage(
        "the rows are read without a lock",
        "loyalty/ledger/locks.py",
        _edit('REDEMPTION_LOCK = "FOR NO KEY UPDATE OF customer, redemption, draw"', 'REDEMPTION_LOCK = ""'),
        "tests/movements/test_races.py::test_with_the_lock_two_reversals_never_decide_on_the_same_facts",
        needs_postgresql=True,
    ),
    Sabotage(
        "a key that another request holds is treated as acquired",
        "reversals/movements/attempts.py",
        _edit("return bool(cursor.rowcount == 1)", "return True"),
        "tests/movements/test_races.py::test_fifty_requests_with_one_key_make_one_reversal_and_one_reply",
        needs_postgresql=True,
    ),
    Sabotage(
        "the key is written in a separate transaction",
        "reversals/movements/engine.py",
        _edit(
            "                with transaction.atomic():\n",
            "                self.attempt.holds_key = self.attempt.uses_key\n"
            "                if self.attempt.uses_key and not attempts.record(self.attempt):\n"
            "                    return Outcome(attempts.answer_of_holder(self.attempt), None, is_replay=True)\n"
            "                with transaction.atomic():\n",
        ),
        "tests/movements/test_outages.py::test_failed_commit_is_886_and_the_key_stays_free",
    ),
    Sabotage(
        "a reversal is looked up in every org",
        "reversals/api/reads/lookups.py",
        _edit(
            "named = _reversals(org_id).filter(public_id=public_id)",
            "named = _reversals(Reversal.objects.values_list('org_id').get(public_id=public_id)[0])"
            ".filter(public_id=public_id)",
        ),
        "tests/api/test_isolation.py::test_rows_of_another_org_get_the_same_reply_as_unknown_rows",
    ),
    Sabotage(
        "the owner of a redemption is not checked",
        "loyalty/ledger/locks.py",
        _edit('of_customer = f"WHERE {condition}"', 'of_customer = f"WHERE ({condition}) OR TRUE"'),
        "tests/api/test_ladder.py",
    ),
    Sabotage(
        "points are converted to a float",
        "loyalty/ledger/points.py",
        _edit("return from_thousandths(int(significant) * 10 ** (power + DECIMALS))", "return Decimal(float(literal))"),
        "tests/unit/test_points.py::test_an_amount_is_parsed_exactly",
    ),
    Sabotage(
        "a limit of 0 is treated as no limit",
        "reversals/movements/reverse/rules.py",
        _edit("if limit is not None and used + points > limit:", "if limit and used + points > limit:"),
        "tests/unit/test_rules.py::test_an_approval_limit_of_zero_makes_every_manual_reversal_need_approval",
    ),
    Sabotage(
        "transactions on SQLite begin as readers",
        "config/settings.py",
        _edit('"transaction_mode": "IMMEDIATE"', '"transaction_mode": "DEFERRED"'),
        "tests/movements/test_outages.py::test_writers_on_sqlite_wait_for_each_other",
    ),
    Sabotage(
        "an outage before the movement is reported as a bug",
        "reversals/api/errors.py",
        _edit(
            "case Error() if (outage := outages.refusal_for(error, during_movement=False)) is not None:",
            "case Error() if (outage := None) is not None:",
        ),
        "tests/movements/test_outages.py::test_unreachable_database_is_898",
    ),
    Sabotage(
        "points are reversed in the order in which they were drawn",
        "reversals/movements/reverse/rules.py",
        _edit("for draw in reversed(facts.redemption.draws):", "for draw in facts.redemption.draws:"),
        "tests/unit/test_rules.py::test_the_last_draw_is_reversed_first",
    ),
    Sabotage(
        "a lot has not expired at the moment of its expiry",
        "loyalty/ledger/snapshots.py",
        _edit("self.lot_expires_at <= now", "self.lot_expires_at < now"),
        "tests/unit/test_rules.py::test_a_lot_expires_exactly_at_its_expiry_time",
    ),
    Sabotage(
        "a transaction is retried after its COMMIT was sent",
        "reversals/movements/engine.py",
        _edit("if is_committing or not retries_left or", "if not retries_left or"),
        "tests/movements/test_outages.py::test_failed_commit_is_not_retried",
    ),
    Sabotage(
        "a lost answer to COMMIT is not looked up",
        "reversals/movements/engine.py",
        _edit("if is_committing and self._was_committed(error):", "if False:"),
        "tests/movements/test_outages.py::test_lost_answer_to_commit_is_looked_up_before_the_reply",
    ),
    Sabotage(
        "refusals do not hold the key",
        "reversals/movements/engine.py",
        _edit("attempt.holds_key = bool(attempt.fingerprint) and refused.error.holds_key", "attempt.holds_key = False"),
        "tests/movements/test_idempotency.py::test_final_refusal_replays_for_31_days_even_after_its_cause_is_gone",
    ),
    Sabotage(
        "a key replays its answer to a different request",
        "reversals/movements/attempts.py",
        _edit("if holder.fingerprint not in {attempt.fingerprint, *attempt.former_fingerprints}:", "if False:"),
        "tests/movements/test_idempotency.py::test_same_key_with_a_different_request_is_422",
    ),
    Sabotage(
        "a key is looked for in every org",
        "reversals/movements/attempts.py",
        _edit(
            "WHERE org_id = %s AND idempotency_key = %s AND holds_key",
            "WHERE %s > 0 AND idempotency_key = %s AND holds_key",
        )
        + _edit("held.org_id = client.org_id AND held", "held"),
        "tests/api/test_isolation.py::test_idempotency_key_of_another_org_is_not_replayed",
    ),
    Sabotage(
        "users may approve their own requests",
        "reversals/manual/approvals.py",
        _edit("if decided_by in requesters_of(locked):", "if False:"),
        "tests/backoffice/test_approving.py::test_requester_cannot_approve_or_reject",
    ),
    Sabotage(
        "partial reversals of a redemption are not added up",
        "reversals/movements/reverse/rules.py",
        _edit("and used + points > limit:", "and points > limit:"),
        "tests/backoffice/test_approving.py::test_parts_of_one_redemption_count_together",
    ),
    Sabotage(
        "secrets are hashed without the pepper",
        "loyalty/clients/credentials.py",
        _edit(
            'hmac.digest(settings.API_PEPPER.encode(), text.encode(), "sha256").hex()',
            "hashlib.sha256(text.encode()).hexdigest()",
        ),
        "tests/api/test_endpoint.py::test_new_pepper_invalidates_every_secret",
    ),
    Sabotage(
        "earlier reversals do not count against the limit",
        "reversals/movements/reverse/rules.py",
        _edit(
            "if points_limit is not None and used.points + points > points_limit:",
            "if points_limit is not None and points > points_limit:",
        ),
        "tests/unit/test_rules.py::test_a_reversal_may_reach_a_limit_but_not_exceed_it",
    ),
    Sabotage(
        "a row of a bulk run gets a new key each time",
        "reversals/manual/bulk/runs.py",
        _edit('key=f"{BulkRow.KEY_PREFIX}{row.id}"', 'key=f"{BulkRow.KEY_PREFIX}{time.time_ns()}"'),
        "tests/backoffice/test_bulk.py::test_the_next_run_recovers_from_a_crash_between_reversal_and_row_status",
    ),
    Sabotage(
        "a preview reverses points",
        "reversals/movements/engine.py",
        _edit("if attempt.is_dry_run and not decision.is_replay:", "if False:"),
        "tests/api/test_preview.py::test_dry_run_has_the_same_body_without_reversal_id_and_writes_only_an_attempt",
    ),
    Sabotage(
        "an export contains formulas that a spreadsheet would run",
        "reversals/admin/export.py",
        _edit("inert(cell) if isinstance(cell, str)", "cell if isinstance(cell, str)"),
        "tests/backoffice/test_export.py::test_formulas_in_rows_are_exported_with_an_apostrophe",
    ),
    Sabotage(
        "a held key is treated as free",
        "reversals/movements/attempts.py",
        _edit('return isinstance(error, IntegrityError) and "idempotency_key" in constraint_of(error)', "return False"),
        "tests/movements/test_engine.py::test_key_that_was_already_looked_up_is_not_looked_up_again",
    ),
    Sabotage(
        "re-issued points also stay in their old lot",
        "reversals/movements/reverse/statements.py",
        _edit("(replaced if line.reissued else refilled)[line.draw.lot_id]", "refilled[line.draw.lot_id]"),
        "tests/movements/test_reissue.py::test_reissued_points_leave_their_expired_lot_for_the_new_one",
    ),
    Sabotage(
        "a correction takes points that are no longer in their lots",
        "reversals/movements/correct/rules.py",
        _edit("short = [taking for taking in takings if taking.missing]", "short: list[PlannedTaking] = []"),
        "tests/movements/test_reissue.py::test_correction_of_reversal_whose_points_were_reissued_since_is_refused",
    ),
    Sabotage(
        "a late import draws points that were re-issued",
        "loyalty/importing/replay.py",
        (
            (
                "customer.public_id, lot.points_remaining,",
                "customer.public_id, lot.points_remaining + lot.points_reissued,",
            ),
            (" AND lot.points_remaining > 0", ""),
        ),
        "tests/movements/test_reissue.py::test_late_redemption_after_reissue_is_not_covered_by_any_lot",
    ),
    Sabotage(
        "points are re-issued more than once",
        "reversals/movements/reverse/rules.py",
        _edit("(has_expired and not draw.lot_is_reissue)", "has_expired"),
        "tests/movements/test_reissue.py::test_points_redeemed_before_and_reversed_after_each_expiry_are_reissued_once",
    ),
    Sabotage(
        "the server's clock decides what has expired",
        "loyalty/ledger/clock.py",
        _edit('if connection.vendor == "postgresql":', "if False:"),
        "tests/movements/test_reissue.py::test_database_clock_decides_what_has_expired",
        needs_postgresql=True,
    ),
    Sabotage(
        "limits count only for the customer who redeemed",
        "reversals/movements/reverse/earlier.py",
        _edit(
            "_limit_use(attempt.org_id, redemption.customer_ids,",
            "_limit_use(attempt.org_id, {redemption.customer.id},",
        ),
        "tests/movements/test_reissue.py::test_second_reversal_to_the_same_members_lot_is_refused",
    ),
    Sabotage(
        "a reference number is replayed after a reversal of its redemption",
        "reversals/movements/redeem/movement.py",
        _edit("if earlier.points_reversed:", "if False:"),
        "tests/movements/test_reissue.py::test_repeat_of_reference_number_is_replayed_until_points_are_reversed",
    ),
)
