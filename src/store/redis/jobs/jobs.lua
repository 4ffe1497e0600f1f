-- The queue's storage: one operation a call, done as a whole or not at all.
--
-- KEYS  the beginning of all keys; it has a hash tag, so that all of them are in one slot
-- ARGV  the operation, who asks, how long what it has taken stays its own in ms, what becomes of what a dead one was at
--       (retry or uncertain), how long that is kept then (a moment); then what the operation takes
-- Returns its result, and how full the queue is
--
-- BASE:job:ID     what is known of an entry            BASE:req:ID, :ans:ID  heads and bodies
-- BASE:key:KEY    the entry of an idempotency key      BASE:seq, :counts     numbers
-- BASE:ready:R    by turn and place: to be taken       BASE:due              by moment: not yet to be taken
-- BASE:held       by when it lapses: taken or running  BASE:turns:R:USER     by turn: a user's that have not ended
-- BASE:expiry     by when its time is over             BASE:age              by arrival: those that have not ended
-- BASE:tell       by when a webhook is to be told      BASE:all, BASE:routes all by place; routes with something to do
local base = KEYS[1]
local PENDING, HELD, RUNNING, WAITING, DONE, FAILED, UNCERTAIN, GONE = 0, 1, 2, 3, 4, 5, 6, 7
local call = redis.call
local int = function(number) return string.format('%d', number) end

local time = call('TIME')
local clock = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local next_argument = 0
local function text()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end
local function number() return tonumber(text()) end

local operation, holder, lease, on_crash, keep = text(), text(), number(), text(), number()

local function key(...) return base .. ':' .. table.concat({ ... }, ':') end
local function get(id, ...) return call('HMGET', key('job', id), ...) end
local function set(id, ...) call('HSET', key('job', id), ...) end
local function count(what, by) call('HINCRBY', key('counts'), what, int(by)) end

local function is_live(state) return state < DONE end
local function is_open(state) return state == PENDING or state == WAITING end

-- What an entry is found by, beside its name.
local function load(id)
  local found = get(id, 'state', 'place', 'turn', 'route', 'user', 'queued', 'due', 'expires', 'webhook', 'bytes', 'key')
  if not found[1] then return nil end
  return {
    id = id, state = tonumber(found[1]), place = found[2], turn = found[3], route = found[4], user = found[5],
    queued = found[6], due = found[7], expires = found[8], webhook = found[9], bytes = tonumber(found[10]), key = found[11],
  }
end

local function enter(job)
  if job.state == PENDING then
    call('ZADD', key('ready', job.route), job.turn, job.place .. ':' .. job.id)
  elseif job.state == WAITING then
    call('ZADD', key('due'), job.due, job.id)
  elseif is_live(job.state) then
    call('ZADD', key('held'), int(clock + lease), job.id)
  end
  -- What is under way is not ended by time.
  if job.state ~= HELD and job.state ~= RUNNING then
    call('ZADD', key('expiry'), job.expires, job.id)
  end
  if is_live(job.state) then
    call('ZADD', key('age'), job.queued, job.id)
    call('ZADD', key('turns', job.route, job.user), job.turn, job.id)
  end
  if is_open(job.state) then call('HINCRBY', key('routes'), job.route, 1) end
  count(job.state, 1)
end

local function leave(job)
  if job.state == PENDING then
    call('ZREM', key('ready', job.route), job.place .. ':' .. job.id)
  elseif job.state == WAITING then
    call('ZREM', key('due'), job.id)
  elseif is_live(job.state) then
    call('ZREM', key('held'), job.id)
  end
  call('ZREM', key('expiry'), job.id)
  if is_live(job.state) then
    call('ZREM', key('age'), job.id)
    call('ZREM', key('turns', job.route, job.user), job.id)
  end
  if is_open(job.state) and call('HINCRBY', key('routes'), job.route, -1) <= 0 then
    call('HDEL', key('routes'), job.route)
  end
  count(job.state, -1)
end

local function move(job, state)
  leave(job)
  job.state = state
  set(job.id, 'state', state)
  enter(job)
end

local function resize(job, bytes)
  count('bytes', bytes - job.bytes)
  job.bytes = bytes
  set(job.id, 'bytes', int(bytes))
end

-- An entry has ended, and whoever wants to know is told.
local function finish(job, state, now, expires, note)
  job.expires = int(expires)
  set(job.id, 'changed', int(now), 'expires', job.expires)
  if note then set(job.id, 'note', note) end
  if job.webhook then call('ZADD', key('tell'), int(now), job.id) end
  move(job, state)
end

-- Removes what is kept of an entry, but not that it was there.
local function bury(job, now, forget)
  call('DEL', key('req', job.id), key('ans', job.id))
  if job.key then call('DEL', key('key', job.key)) end
  call('HDEL', key('job', job.id), 'key', 'note')
  call('ZREM', key('tell'), job.id)
  resize(job, 0)
  job.expires = int(forget)
  set(job.id, 'changed', int(now), 'expires', job.expires)
  move(job, GONE)
end

local function record(id)
  local fields = get(id, 'state', 'unsure', 'owner', 'user', 'print', 'route', 'queued', 'changed', 'expires', 'attempts', 'bytes', 'note')
  if not fields[1] then return false end
  local told = { id }
  for index = 1, 12 do told[index + 1] = fields[index] or '' end
  return told
end

-- What is held by somebody who has not said for a lease that it is alive comes back.
local function reclaim()
  for _, id in ipairs(call('ZRANGEBYSCORE', key('held'), '-inf', int(clock), 'LIMIT', 0, 500)) do
    local job = load(id)
    if not job then
      call('ZREM', key('held'), id)
    elseif job.state == HELD then
      move(job, PENDING)
    else
      set(id, 'unsure', 1)
      if on_crash == 'retry' then
        set(id, 'changed', int(clock))
        move(job, PENDING)
      else
        finish(job, UNCERTAIN, clock, keep, 'surgetank ended while this request was under way')
      end
    end
  end
end

-- An entry in this state that belongs to who asks.
local function own(id, state)
  local job = load(id)
  if job and job.state == state and get(id, 'holder')[1] == holder then return job end
  return nil
end

local operations = {}

function operations.put()
  local now, id, owner, user, idem, print = number(), text(), text(), text(), text(), text()
  local route, head, body, webhook, expires = text(), text(), text(), text(), number()
  local most_requests, most_bytes = number(), number()
  if idem ~= '' then
    local known = call('GET', key('key', idem))
    if known then return { 'known', record(known) } end
  end
  local counts = call('HMGET', key('counts'), PENDING, HELD, RUNNING, WAITING, 'bytes')
  local waiting = 0
  for index = 1, 4 do waiting = waiting + tonumber(counts[index] or 0) end
  if waiting >= most_requests then return { 'requests', {} } end
  local bytes = #head + #body
  if tonumber(counts[5] or 0) + bytes > most_bytes then return { 'bytes', {} } end
  -- In each round every user has one entry: one after its user's last, and not before the round that is served.
  local present = call('ZRANGE', key('ready', route), 0, 0, 'WITHSCORES')[2]
  local last = call('ZREVRANGE', key('turns', route, user), 0, 0, 'WITHSCORES')[2]
  local turn = math.max(last and tonumber(last) + 1 or 0, tonumber(present or 0))
  local place = string.format('%016d', call('INCR', key('seq')))
  local job = {
    id = id, state = PENDING, place = place, turn = int(turn), route = route, user = user, queued = int(now),
    expires = int(expires),
  }
  set(id, 'state', PENDING, 'place', place, 'turn', job.turn, 'route', route, 'owner', owner, 'user', user, 'print', print,
    'queued', job.queued, 'changed', job.queued, 'expires', job.expires, 'due', 0, 'attempts', 0, 'unsure', 0, 'tellings', 0,
    'bytes', int(bytes))
  if webhook ~= '' then set(id, 'webhook', webhook) end
  if idem ~= '' then
    set(id, 'key', idem)
    call('SET', key('key', idem), id)
  end
  call('HSET', key('req', id), 'head', head, 'body', body)
  call('ZADD', key('all'), tonumber(place), id)
  count('bytes', bytes)
  enter(job)
  return { 'kept', {} }
end

function operations.take()
  local now, route, most = number(), text(), number()
  reclaim()
  for _, id in ipairs(call('ZRANGEBYSCORE', key('due'), '-inf', int(now), 'LIMIT', 0, 1000)) do
    local job = load(id)
    if job then move(job, PENDING) else call('ZREM', key('due'), id) end
  end
  local taken, from = {}, 0
  while #taken < most do
    local members = call('ZRANGE', key('ready', route), from, from + 99)
    for _, member in ipairs(members) do
      local job = load(string.sub(member, 18))
      if #taken >= most then break end
      if job and tonumber(job.expires) > now then
        local request = call('HMGET', key('req', job.id), 'head', 'body')
        set(job.id, 'holder', holder)
        move(job, HELD)
        taken[#taken + 1] = { job.id, job.user, job.route, request[1], request[2], job.queued, get(job.id, 'attempts')[1] }
      else
        -- It stays where it is until it is swept.
        from = from + 1
      end
    end
    if #members < 100 then break end
  end
  return taken
end

function operations.give_back()
  local id, due = text(), number()
  local job = own(id, HELD) or own(id, RUNNING)
  if not job then return 0 end
  if job.state == RUNNING then call('HINCRBY', key('job', id), 'attempts', -1) end
  job.due = int(due)
  set(id, 'due', job.due)
  move(job, WAITING)
  return 1
end

function operations.begin()
  local id, now = text(), number()
  local job = own(id, HELD)
  if not job then return 0 end
  call('HINCRBY', key('job', id), 'attempts', 1)
  set(id, 'changed', int(now))
  move(job, RUNNING)
  return 1
end

operations['end'] = function()
  local id, now, kind = text(), number(), text()
  local job = own(id, RUNNING)
  if not job then return 0 end
  if kind == 'done' then
    local head, body, expires = text(), text(), number()
    call('DEL', key('req', id))
    call('HSET', key('ans', id), 'head', head, 'body', body)
    resize(job, #head + #body)
    call('HDEL', key('job', id), 'note')
    finish(job, DONE, now, expires)
  elseif kind == 'again' then
    local due, unsure = number(), number()
    job.due = int(due)
    set(id, 'due', job.due, 'changed', int(now))
    if unsure == 1 then set(id, 'unsure', 1) end
    move(job, WAITING)
  else
    local note, expires = text(), number()
    if kind == 'uncertain' then set(id, 'unsure', 1) end
    finish(job, kind == 'uncertain' and UNCERTAIN or FAILED, now, expires, note)
  end
  return 1
end

-- Returns which of the entries are not its own any more.
function operations.renew()
  local lost = {}
  for index = next_argument + 1, #ARGV do
    local id = ARGV[index]
    if own(id, HELD) or own(id, RUNNING) then
      call('ZADD', key('held'), int(clock + lease), id)
    else
      lost[#lost + 1] = id
    end
  end
  return lost
end

function operations.routes() return call('HKEYS', key('routes')) end

function operations.look() return { record(text()) } end

function operations.look_up()
  local id = call('GET', key('key', text()))
  return { id and record(id) }
end

function operations.answer()
  local id = text()
  local job = load(id)
  if not job or job.state ~= DONE then return {} end
  return call('HMGET', key('ans', id), 'head', 'body')
end

function operations.remove()
  local id, now, forget = text(), number(), number()
  local job = load(id)
  if not job then return -1 end
  local before = job.state
  if before ~= GONE then bury(job, now, forget) end
  return before
end

function operations.retry()
  local id, now, expires = text(), number(), number()
  local job = load(id)
  if not job or (job.state ~= FAILED and job.state ~= UNCERTAIN) then return 0 end
  call('HDEL', key('job', id), 'note')
  call('ZREM', key('tell'), id)
  -- Its index by time is left under the old state, and entered under the new one.
  job.expires = int(expires)
  set(id, 'changed', int(now), 'expires', job.expires, 'attempts', 0, 'tellings', 0)
  move(job, PENDING)
  return 1
end

function operations.list()
  local most, states = number(), {}
  local is_any = next_argument == #ARGV
  for index = next_argument + 1, #ARGV do states[tonumber(ARGV[index])] = true end
  local found, from = {}, 0
  while #found < most do
    local ids = call('ZREVRANGE', key('all'), from, from + 199)
    for _, id in ipairs(ids) do
      if #found < most and (is_any or states[tonumber(get(id, 'state')[1])]) then found[#found + 1] = record(id) end
    end
    from = from + 200
    if #ids < 200 then break end
  end
  return found
end

function operations.sweep()
  local now, until_then, expired = number(), number(), text()
  reclaim()
  local failed = 0
  for _, id in ipairs(call('ZRANGEBYSCORE', key('expiry'), '-inf', int(now), 'LIMIT', 0, 500)) do
    local job = load(id)
    if not job then
      call('ZREM', key('expiry'), id)
    elseif job.state == GONE then
      leave(job)
      call('ZREM', key('all'), id)
      call('DEL', key('job', id))
    elseif is_live(job.state) then
      finish(job, FAILED, now, until_then, expired)
      failed = failed + 1
    else
      bury(job, now, until_then)
    end
  end
  return failed
end

function operations.owed()
  local most, now, again = number(), number(), number()
  local owed = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', key('tell'), '-inf', int(now), 'LIMIT', 0, most)) do
    local told, more = record(id), get(id, 'webhook', 'tellings')
    if told and more[1] then
      owed[#owed + 1] = { told, more[1], more[2] }
      call('HINCRBY', key('job', id), 'tellings', 1)
      call('ZADD', key('tell'), int(again), id)
    else
      call('ZREM', key('tell'), id)
    end
  end
  return owed
end

function operations.told()
  local id, next_time = text(), text()
  if call('ZSCORE', key('tell'), id) then
    if next_time == '' then call('ZREM', key('tell'), id) else call('ZADD', key('tell'), next_time, id) end
  end
  return 1
end

function operations.depth() return 1 end

local result = operations[operation]()
local counts = call('HMGET', key('counts'), 0, 1, 2, 3, 4, 5, 6, 'bytes')
local depth = {}
for index = 1, 8 do depth[index] = tonumber(counts[index] or 0) end
local oldest = call('ZRANGE', key('age'), 0, 0, 'WITHSCORES')[2]
depth[9] = oldest and tonumber(oldest) or -1
return { result, depth }
