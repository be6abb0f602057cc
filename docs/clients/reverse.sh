#!/bin/sh
# Reverses redeemed points, and prints the id of the reversal. Requires curl:
#   reverse.sh HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
# HOST is a URL such as http://127.0.0.1:8000. Without POINTS, all remaining points are reversed.
set -eu

if [ $# -lt 5 ]; then
    echo "usage: reverse.sh HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]" >&2
    exit 2
fi
host=$1 user=$2 secret=$3 redemption_id=$4 customer_id=$5 points=${6:-}

# Use one key for each return, and the same key for every retry: the points are then reversed only once.
# A till that may be switched off before the reply must store the key with the return.
key=${IDEMPOTENCY_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
body="{\"redemptionId\":\"$redemption_id\",\"identifier\":{\"type\":\"ID\",\"value\":\"$customer_id\"}"
[ -z "$points" ] || body="$body,\"pointsToBeReversed\":\"$points\""
body="$body}"

reply=$(mktemp)
trap 'rm -f "$reply" "$reply.headers"' EXIT

for attempt in 1 2 3 4 5; do
    # Passes the credentials through standard input, so that they do not appear in the list of processes.
    status=$(printf 'user = "%s:%s"\n' "$user" "$secret" | curl --silent --max-time 10 --config - \
        --header 'Content-Type: application/json' --header "Idempotency-Key: $key" --data "$body" \
        --dump-header "$reply.headers" --output "$reply" --write-out '%{http_code}' \
        "$host/v2/points/reverse") || status=000
    case $status in
        000) wait=$attempt ;;
        409 | 503) wait=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$reply.headers") ;;
        *) break ;;
    esac
    [ "$attempt" = 5 ] || sleep "${wait:-1}"
done

# A success has an orgId, and a failure has one error. Note: in the engine's error dialect, a failure may have HTTP
# status 200.
if [ "$status" != 000 ] && grep -q '"orgId":' "$reply"; then
    sed -n 's/.*"reversalId":"\([^"]*\)".*/\1/p' "$reply"
else
    echo "not reversed: $(sed -n 's/.*"errors":\[{\(.*\)}\].*/\1/p' "$reply" 2>/dev/null || true) (HTTP $status)" >&2
    exit 1
fi
