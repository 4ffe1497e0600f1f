-- Ends one request of one account: takes it from the running ones, and puts right what was charged for it.
--
-- The same as `limit::account::settle`, with spans of time as in `admit`.
--
-- KEYS  1 the account's moments, 2 its running requests; both with the same hash tag
-- ARGV  1 the name of the request among the running ones, empty if it is not there
--       then, for each rate: 1 to charge more, -1 to give back, 0 for neither; how much (microseconds, parts), parts in
--       a microsecond

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[1] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
end

local known, count = {}, 0
for number in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do
  count = count + 1
  known[count] = tonumber(number)
end

local text, last, changed = {}, now, false
for first = 2, #ARGV, 4 do
  local rate = (first - 2) / 4
  local micros, parts = known[2 * rate + 1] or 0, known[2 * rate + 2] or 0
  local sign, span, span_parts = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local whole = tonumber(ARGV[first + 3])
  if sign > 0 then
    if micros < now then
      micros, parts = now, 0
    end
    micros, parts = micros + span, parts + span_parts
    if parts >= whole then
      micros, parts = micros + 1, parts - whole
    end
    if micros > 9007199254740992 then
      micros, parts = 9007199254740992, 0
    end
    changed = true
  elseif sign < 0 then
    if parts < span_parts then
      micros, parts = micros - 1, parts + whole
    end
    micros, parts = micros - span, parts - span_parts
    if micros < 0 then
      micros, parts = 0, 0
    end
    changed = true
  end
  text[2 * rate + 1], text[2 * rate + 2] = string.format('%d', micros), string.format('%d', parts)
  if micros > last then
    last = micros
  end
end
if changed and last > now then
  redis.call('SET', KEYS[1], table.concat(text, ' '), 'PX', string.format('%d', math.floor((last - now) / 1000) + 1))
elseif changed then
  redis.call('DEL', KEYS[1])
end
return now
