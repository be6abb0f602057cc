// Reverses redeemed points, and prints the id of the reversal. Requires Node 18 or later:
//   node reverse.mjs HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
// HOST is a URL such as http://127.0.0.1:8000. Without POINTS, all remaining points are reversed.

import { randomUUID } from "node:crypto";

const TRIES = 5;

/** Returns the id of the reversal. The same key on every try makes sure that the points are reversed once. */
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
  // A success has an orgId. Note: in the engine's error dialect, a failure may have HTTP status 200.
  if (reply.orgId) return reply.reversalId;
  const { code, message, reason } = reply.errors[0];
  throw new Error(`${code} ${message}: ${reason}`);
}

/** Returns the reply. If the server is busy or the connection fails, sends the request again. */
async function send(address, request) {
  for (let attempt = 1; ; attempt++) {
    let seconds = attempt;
    try {
      const response = await fetch(address, { ...request, signal: AbortSignal.timeout(10_000) });
      const reply = await response.json();
      if (![409, 503].includes(response.status) || attempt === TRIES) return reply;
      seconds = Number(response.headers.get("Retry-After") ?? attempt);
    } catch (error) {
      if (attempt === TRIES) throw new Error(`no reply: ${error.message}; try again with the same key`);
    }
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

const [host, user, secret, redemptionId, customerId, points] = process.argv.slice(2);
if (!customerId) {
  console.error("usage: reverse.mjs HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]");
  process.exit(2);
}
// Use one key for each return. A till that may be switched off before the reply must store the key with the return.
const key = process.env.IDEMPOTENCY_KEY || randomUUID();
try {
  console.log(await reverse({ host, user, secret, redemptionId, customerId, points, key }));
} catch (error) {
  console.error(`not reversed: ${error.message}`);
  process.exit(1);
}
