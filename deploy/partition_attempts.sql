-- Partitions the attempts, for a database with hundreds of millions of them. Run it once as the application's role while
-- no server runs, because it copies the table:
--   psql --set ON_ERROR_STOP=1 --file deploy/partition_attempts.sql
-- Attempts without a key are partitioned by month, so that an old month is small to vacuum, back up and move to a slower
-- disk. Attempts that hold an idempotency key are replayed as long as the ledger exists, whatever their month. They are
-- partitioned by a hash of org and key, because only then can the database itself enforce that a key is held once.
-- The application needs no change. A later migration that adds a column or an index to reversals_attempt does so on the
-- partitioned table. Note: a new unique constraint must include the partition key.
BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';

ALTER TABLE reversals_attempt RENAME TO reversals_attempt_whole;
ALTER TABLE reversals_attempt_whole DROP CONSTRAINT reversals_attempt_pkey;
DROP INDEX attempts_by_time, attempts_by_redemption, attempts_refused, attempts_by_rule, attempts_unusual,
    idempotency_key_held_once;

CREATE TABLE reversals_attempt (LIKE reversals_attempt_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY LIST (holds_key);
CREATE INDEX attempts_by_time ON reversals_attempt (org_id, created_at);
CREATE INDEX attempts_by_redemption ON reversals_attempt (org_id, redemption_id_asked);
CREATE INDEX attempts_refused ON reversals_attempt (org_id, created_at, rule, operation, is_dry_run)
    WHERE NOT (rule = '');
CREATE INDEX attempts_by_rule ON reversals_attempt (org_id, rule, created_at) WHERE NOT (rule = '');
CREATE INDEX attempts_unusual ON reversals_attempt (org_id, created_at)
    WHERE NOT (channel = 'API') OR is_dry_run OR operation = 'CORRECT';
CREATE INDEX attempts_by_id ON reversals_attempt (id);
ALTER TABLE reversals_attempt
    ADD CONSTRAINT attempt_reversal_of_org FOREIGN KEY (org_id, reversal_id) REFERENCES reversals_reversal (org_id, id),
    ADD CONSTRAINT attempt_redemption_of_org
        FOREIGN KEY (org_id, redemption_id) REFERENCES loyalty_redemption (org_id, id);

CREATE TABLE reversals_attempt_keys PARTITION OF reversals_attempt FOR VALUES IN (true)
    PARTITION BY HASH (org_id, idempotency_key);
CREATE UNIQUE INDEX idempotency_key_held_once ON reversals_attempt_keys (org_id, idempotency_key);
SELECT format(
    'CREATE TABLE reversals_attempt_keys_%s PARTITION OF reversals_attempt_keys FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
    part, part)
  FROM generate_series(0, 15) part \gexec

CREATE TABLE reversals_attempt_months PARTITION OF reversals_attempt FOR VALUES IN (false)
    PARTITION BY RANGE (created_at);
-- Rows of months without a partition, so that no call fails because one is missing.
CREATE TABLE reversals_attempt_rest PARTITION OF reversals_attempt_months DEFAULT;

-- Creates the missing partitions for the months from the first to the last day. Run it once a month for the next months.
CREATE FUNCTION make_months_of_attempts(first date, last date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
BEGIN
    FOR month IN SELECT generate_series(date_trunc('month', first::timestamp), last::timestamp, '1 month') AT TIME ZONE 'UTC' LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF reversals_attempt_months FOR VALUES FROM (%L) TO (%L)',
            to_char(month AT TIME ZONE 'UTC', '"reversals_attempt_"YYYY_MM'), month,
            (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END $$;
SELECT make_months_of_attempts(
    coalesce((SELECT min(created_at) FROM reversals_attempt_whole), now())::date, (now() + interval '3 months')::date);

INSERT INTO reversals_attempt SELECT * FROM reversals_attempt_whole;
DROP TABLE reversals_attempt_whole;
COMMIT;
ANALYZE reversals_attempt;
