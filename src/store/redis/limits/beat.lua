-- Says that an instance is alive, and counts those that are.
--
-- KEYS  the instances
-- ARGV  this one's name, how long it counts as alive in ms
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local int = function(number) return string.format('%d', number) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now_ms))
redis.call('ZADD', KEYS[1], int(now_ms + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
