-- Decides on a request in all of its accounts, and charges all of them or none.
--
-- The arithmetic is that of src/limit/gcra.rs and src/limit/account.rs: moments are whole microseconds and parts of
-- one, below 2^53, and only added, subtracted and compared, which is exact in the doubles of a script.
--
-- KEYS  for each account: its rates, its leases
-- ARGV  the lease's name, its time in ms, how long after it may still be settled in ms; then for each account:
--       rates, running requests allowed (0: any number), whether it is leased (0 or 1); then for each rate:
--       the cost in micros and parts, the burst in micros and parts, parts in a microsecond
-- Returns whether it is admitted, the time in micros; then for each account: running requests, and for each rate
--       the moment at which it is whole again, in micros and parts
local END_OF_TIME = 9007199254740992
local int = function(number) return string.format('%d', number) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now / 1000)
local lease, lease_ms, grace_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local next_argument = 3
local function argument()
  next_argument = next_argument + 1
  return tonumber(ARGV[next_argument])
end

-- The moment a span after another.
local function after(micros, parts, span_micros, span_parts, denominator)
  micros, parts = micros + span_micros, parts + span_parts
  if parts >= denominator then
    micros, parts = micros + 1, parts - denominator
  end
  if micros > END_OF_TIME then micros = END_OF_TIME end
  return micros, parts
end

local admitted = 1
local accounts = {}
for key = 1, #KEYS, 2 do
  local account = { rates = KEYS[key], leases = KEYS[key + 1], known = {}, charged = {}, running = 0 }
  local rates, concurrent = argument(), argument()
  account.leased = argument() == 1
  local known = {}
  for micros, parts in string.gmatch(redis.call('GET', account.rates) or '', '(%d+):(%d+)') do
    known[#known + 1] = { tonumber(micros), tonumber(parts) }
  end
  if account.leased then
    redis.call('ZREMRANGEBYSCORE', account.leases, '-inf', int(now_ms - grace_ms))
  end
  if concurrent > 0 then
    account.running = redis.call('ZCOUNT', account.leases, '(' .. int(now_ms), '+inf')
    if account.running >= concurrent then admitted = 0 end
  end
  for rate = 1, rates do
    local cost_micros, cost_parts = argument(), argument()
    local burst_micros, burst_parts = argument(), argument()
    local denominator = argument()
    local tat = known[rate] or { 0, 0 }
    if tat[2] >= denominator then tat[2] = 0 end
    account.known[rate] = tat
    account.charged[rate] = tat
    if cost_micros > 0 or cost_parts > 0 then
      local from = tat
      if from[1] < now then from = { now, 0 } end
      local micros, parts = after(from[1], from[2], cost_micros, cost_parts, denominator)
      local latest, latest_parts = after(now, 0, burst_micros, burst_parts, denominator)
      if micros > latest or (micros == latest and parts > latest_parts) then admitted = 0 end
      account.charged[rate] = { micros, parts }
    end
  end
  accounts[#accounts + 1] = account
end

local reply = { admitted, now }
for _, account in ipairs(accounts) do
  local state = account.known
  if admitted == 1 then
    state = account.charged
    if account.leased then
      redis.call('ZADD', account.leases, int(now_ms + lease_ms), lease)
      redis.call('PEXPIRE', account.leases, int(lease_ms + grace_ms))
      account.running = account.running + 1
    end
    local text, whole_at = {}, now
    for rate, tat in ipairs(state) do
      text[rate] = int(tat[1]) .. ':' .. int(tat[2])
      if tat[1] > whole_at then whole_at = tat[1] end
    end
    if #text > 0 then
      -- Once all rates are whole, no account says the same.
      local keep_ms = math.ceil((whole_at - now) / 1000) + 1000
      redis.call('SET', account.rates, table.concat(text, ' '), 'PX', int(keep_ms))
    end
  end
  reply[#reply + 1] = account.running
  for _, tat in ipairs(state) do
    reply[#reply + 1] = tat[1]
    reply[#reply + 1] = tat[2]
  end
end
return reply
