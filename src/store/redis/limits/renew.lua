-- Keeps the places of requests that still run.
--
-- KEYS  1 an account's running requests
-- ARGV  1 for how many milliseconds from now, then the names of the requests

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%d', now + lease), ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], lease)
return now
