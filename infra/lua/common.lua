-- What the queue's scripts share; it stands before each of them.
--
-- A job is a member of arq's queue (a sorted set) until it is over, and its score tells where it is:
--   due              not in a list: it is not due, or arq itself enqueued it and nobody has looked since
--   due - SHIFT      it stands in the list of its lane and account
--   due - 2 * SHIFT  it runs under a lease
-- So arq reads "deferred", "queued" and "still there" as ever, and each of the three is one range of scores: a claim
-- looks at what has become due, never at what runs. An account with waiting jobs stands once in its lane's ring.
local SHIFT = 4398046511104 -- 2^42 ms, the year 2109

local function whose(base, id)
    local said = redis.call('HGET', base .. 'who', id)
    if not said then return 'interactive', '' end -- enqueued by arq itself
    return string.match(said, '^(%S+) (.*)$')
end

local function list(queue, base, id, due, push)
    local lane, account = whose(base, id)
    local waiting = base .. lane .. ':' .. account
    if redis.call(push, waiting, id) == 1 then redis.call('RPUSH', base .. 'ring:' .. lane, account) end
    redis.call('ZADD', queue, due - SHIFT, id)
end

local function wake(base)
    redis.call('LPUSH', base .. 'wake', 1)
    redis.call('LTRIM', base .. 'wake', 0, 63)
end

