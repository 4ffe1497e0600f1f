-- Puts right what an ended request was charged, and frees its place. Does it once, however often it is asked: what is
-- not there any more has been settled. What never had a lease leaves a mark in its place, which counts as no running
-- request, and is charged by who sets that mark.
--
-- KEYS  for each account: its rates, its leases
-- ARGV  the lease's name; for what had none, how long its mark is kept in ms, or 0; then for each account: rates; then for each rate:
--       what is done (0: nothing, 1: a refund, 2: a debit), by how much in micros and parts, parts in a microsecond
-- Returns in how many accounts it was settled, and the time in micros
local END_OF_TIME = 9007199254740992
local int = function(number) return string.format('%d', number) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local now_ms, mark_ms = math.floor(now / 1000), tonumber(ARGV[2])

local next_argument = 2
local function argument()
  next_argument = next_argument + 1
  return tonumber(ARGV[next_argument])
end

local function refund(tat, micros, parts, denominator)
  local left, left_parts = tat[1] - micros, tat[2] - parts
  if left_parts < 0 then
    left, left_parts = left - 1, left_parts + denominator
  end
  if left < 0 then return { 0, 0 } end
  return { left, left_parts }
end

local function debit(tat, micros, parts, denominator)
  if tat[1] < now then tat = { now, 0 } end
  local owed, owed_parts = tat[1] + micros, tat[2] + parts
  if owed_parts >= denominator then
    owed, owed_parts = owed + 1, owed_parts - denominator
  end
  if owed > END_OF_TIME then owed = END_OF_TIME end
  return { owed, owed_parts }
end

-- Whether this account is still to be put right.
local function is_open(leases)
  if mark_ms == 0 then return redis.call('ZREM', leases, ARGV[1]) == 1 end
  -- An account without leases has nobody else who clears away what is over.
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', int(now_ms - mark_ms))
  if redis.call('ZADD', leases, 'NX', int(now_ms), ARGV[1]) == 0 then return false end
  if redis.call('PTTL', leases) < mark_ms then redis.call('PEXPIRE', leases, int(mark_ms)) end
  return true
end

local settled = 0
for key = 1, #KEYS, 2 do
  local was_there = is_open(KEYS[key + 1])
  local known = {}
  if was_there then
    settled = settled + 1
    for micros, parts in string.gmatch(redis.call('GET', KEYS[key]) or '', '(%d+):(%d+)') do
      known[#known + 1] = { tonumber(micros), tonumber(parts) }
    end
  end
  local text, whole_at, changed = {}, now, false
  for rate = 1, argument() do
    local kind, micros, parts, denominator = argument(), argument(), argument(), argument()
    local tat = known[rate] or { 0, 0 }
    if tat[2] >= denominator then tat[2] = 0 end
    if kind == 1 then
      tat, changed = refund(tat, micros, parts, denominator), true
    elseif kind == 2 then
      tat, changed = debit(tat, micros, parts, denominator), true
    end
    text[rate] = int(tat[1]) .. ':' .. int(tat[2])
    if tat[1] > whole_at then whole_at = tat[1] end
  end
  if was_there and changed then
    local keep_ms = math.ceil((whole_at - now) / 1000) + 1000
    redis.call('SET', KEYS[key], table.concat(text, ' '), 'PX', int(keep_ms))
  end
end
return { settled, now }
