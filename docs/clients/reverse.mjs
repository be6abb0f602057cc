// Reverses redeemed points, and prints the reversal's id. Needs Node 18 or later:
//   node reverse.mjs HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
// HOST is such as http://127.0.0.1:8000; without POINTS all that is left is reversed.

import { randomUUID } from "node:crypto";

const TRIES = 5;

/** The id of the reversal. The same key on every try makes the points come back once. */
async function reverse({ host, user, secret, redemptionId, customerId, points, key }) {
  const request = {
    method: "POST",
    headers: {
      Authorization: "Basic " + Buffer.from(`${user}:${secret}`).toString("base64"),
      "Content-Type": "application/json",
      "Idempotency-Key": key,
    },
    body: JSON.stringify({
      redemptionId,
      pointsToBeReversed: points,
      identifier: { type: "ID", value: customerId },
    }),
  };
  const reply = await send(`${host}/v2/points/reverse`, request);
  // A success has an orgId. A failure may come with HTTP 200 where the org speaks the engine's dialect.
  if (reply.orgId) return reply.reversalId;
  const { code, message, reason } = reply.errors[0];
  throw new Error(`${code} ${message}: ${reason}`);
}

/** The reply, whatever its status; a busy server and a broken connection are tried again. */
async function send(address, request) {
  for (let attempt = 1; ; attempt++) {
    let seconds = attempt;
    try {
      const response = await fetch(address, { ...request, signal: AbortSignal.timeout(10_000) });
      const reply = await response.json();
      if (![409, 503].includes(response.status) || attempt === TRIES) return reply;
      seconds = Number(response.headers.get("Retry-After") ?? attempt);
    } catch (error) {
      if (attempt === TRIES) throw new Error(`no answer: ${error.message}; try again with the same key`);
    }
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

const [host, user, secret, redemptionId, customerId, points] = process.argv.slice(2);
if (!customerId) {
  console.error("usage: reverse.mjs HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]");
  process.exit(2);
}
// One key for one return. A till that can be switched off meanwhile keeps the key with the return.
const key = process.env.IDEMPOTENCY_KEY || randomUUID();
try {
  console.log(await reverse({ host, user, secret, redemptionId, customerId, points, key }));
} catch (error) {
  console.error(`not reversed: ${error.message}`);
  process.exit(1);
}
