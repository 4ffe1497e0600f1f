-- Decides on one request of one account, by all of its limits, and takes what it needs or nothing.
--
-- The same as `limit::account::decide`. Costs and bursts come as spans of time, taken where integers have
-- 64 bits, so that only sums and comparisons of whole numbers below 2^53 are left here, which doubles hold exactly.
--
-- KEYS  1 the account's moments, 2 its running requests; both with the same hash tag
-- ARGV  1 the latest moment (by this server's clock, in microseconds) at which anybody still waits for the answer, 0 for any
--       2 the most requests that may run, 0 for any number
--       3 the name of this request among them, 4 for how many milliseconds it stands there unless it is renewed
--       then, for each rate: cost (microseconds, parts), burst (microseconds, parts), parts in a microsecond
-- Returns whether it was admitted (1), refused (0) or came too late (2); the moment; the requests running; the moments

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local late, places, name, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if late > 0 and now > late then
  return {2, now, 0}
end

local live = 0
if places > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', math.floor(now / 1000))
  live = redis.call('ZCARD', KEYS[2])
end

local known, count = {}, 0
for number in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do
  count = count + 1
  known[count] = tonumber(number)
end

local answer = {1, now, live}
local charged, last = {}, now
if places > 0 and live >= places then
  answer[1] = 0
end
for first = 5, #ARGV, 5 do
  local rate = (first - 5) / 5
  local micros, parts = known[2 * rate + 1] or 0, known[2 * rate + 2] or 0
  answer[2 * rate + 4], answer[2 * rate + 5] = micros, parts
  local cost, cost_parts = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local burst, burst_parts = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local whole = tonumber(ARGV[first + 4])
  if cost > 0 or cost_parts > 0 then
    if micros < now then
      micros, parts = now, 0
    end
    micros, parts = micros + cost, parts + cost_parts
    if parts >= whole then
      micros, parts = micros + 1, parts - whole
    end
    if micros > now + burst or (micros == now + burst and parts > burst_parts) then
      answer[1] = 0
    end
  end
  charged[2 * rate + 1], charged[2 * rate + 2] = micros, parts
  if micros > last then
    last = micros
  end
end
if answer[1] == 0 then
  return answer
end

local text = {}
for index, number in ipairs(charged) do
  text[index] = string.format('%d', number)
  answer[index + 3] = number
end
if last > now then
  -- When every quota is whole again, no account says the same as this one.
  redis.call('SET', KEYS[1], table.concat(text, ' '), 'PX', string.format('%d', math.floor((last - now) / 1000) + 1))
end
if places > 0 then
  redis.call('ZADD', KEYS[2], string.format('%d', math.floor(now / 1000) + lease), name)
  redis.call('PEXPIRE', KEYS[2], lease)
  answer[3] = live + 1
end
return answer
