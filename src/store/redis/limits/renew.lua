-- Keeps the places of requests that are still running, also where the server has forgotten them.
--
-- KEYS  the leases of an account
-- ARGV  a lease's time in ms, how long after it may still be settled in ms, the names of the leases
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease_ms, grace_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local until_ms = string.format('%d', now_ms + lease_ms)
for index = 3, #ARGV do
  redis.call('ZADD', KEYS[1], until_ms, ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], string.format('%d', lease_ms + grace_ms))
return 1
