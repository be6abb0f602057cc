-- The script of wrk. Its arguments: the kind of call, the number of the first call, the numbers of redemptions and of
-- customers, and the credentials of each till. It prints one line of JSON at the end.

local kinds = {
  constant = { method = "GET", path = "/bench/constant" },
  plain = { path = "/bench/plain", points = 1.5 },
  reverse = { path = "/v2/points/reverse", points = 1.5 },
  keyed = { path = "/v2/points/reverse", points = 1.5, has_key = true },
  refused = { path = "/v2/points/reverse", points = 999999 },
  redeem = {},
}

function setup(thread)
  sender = thread
end

function init(arguments)
  name, next_call = arguments[1], tonumber(arguments[2])
  rows, customers = tonumber(arguments[3]), tonumber(arguments[4])
  kind, tills = kinds[name], { unpack(arguments, 5) }
  salt = tostring(os.time())
end

function request()
  local call = next_call
  next_call = next_call + 1
  local headers = { ["Authorization"] = tills[call % #tills + 1], ["Content-Type"] = "application/json" }
  -- Odd redemptions, which are not reversed yet. After the last one, starts again with other amounts, because the same
  -- amount would be treated as a duplicate.
  local redemption = 2 * (call % (rows / 2)) + 1
  local customer = redemption % customers + 1
  if name == "redeem" then
    return wrk.format("POST", "/v2/customers/" .. customer .. "/redemptions", headers,
      '{"points":0.001,"programId":"973","transactionNumber":"' .. salt .. "-" .. call .. '"}')
  end
  if kind.has_key then
    headers["Idempotency-Key"] = salt .. "-" .. call
  end
  local points = kind.points and kind.points + math.floor(call / (rows / 2)) / 1000
  return wrk.format(kind.method or "POST", kind.path, headers, points and
    '{"redemptionId":"R' .. redemption .. '","identifier":{"type":"ID","value":"' .. customer
    .. '"},"pointsToBeReversed":' .. points .. '}')
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"next_call":%d,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    sender:get("next_call"), errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
