-- Appends one event to an account's stream, where it is not the next one of somebody who speaks too often, and publishes it
-- to whoever follows the account; an entry and its message look as append.lua writes them.
-- KEYS     the stream, and what is there while the speaker may not speak again
-- ARGV     how many events the stream keeps and for how many seconds, what stands before the event and it, and for how many
--          ms nothing more of this speaker is taken (0: for none; then it is taken whoever spoke before)
-- Returns  whether it was said: 1 or 0
local most, keep_s, told, silent_ms = unpack(ARGV)
if silent_ms ~= '0' and not redis.call('SET', KEYS[2], 1, 'NX', 'PX', silent_ms) then return 0 end
local place = redis.call('XADD', KEYS[1], 'MAXLEN', '~', most, '*', 'e', told)
redis.call('EXPIRE', KEYS[1], keep_s)
redis.call('PUBLISH', KEYS[1], place .. ' ' .. told)
return 1
