-- One operation on a store: a hash of its entries, and beside it how many bytes these are.
--
-- KEYS: the hash, the count of bytes. ARGV: the operation, the most keys and bytes that the store may have, and what the
-- operation needs. The answer is a list that begins with its kind.

local hash, total = KEYS[1], KEYS[2]
local operation, most_keys, most_size = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local function size_of(key)
  if redis.call('HEXISTS', hash, key) == 0 then return nil end
  return #key + redis.call('HSTRLEN', hash, key)
end

local function size()
  return tonumber(redis.call('GET', total) or '0')
end

local function set_size(new)
  if new < 0 then new = 0 end
  redis.call('SET', total, string.format('%.0f', new))
end

-- Whether the store may take another entry in the place of one that has so many bytes, or of none.
local function refusal(old, new)
  local before = size()
  if not old then
    local keys = redis.call('HLEN', hash)
    if keys >= most_keys then return {'keys', tostring(keys)} end
  end
  local after = before - (old or 0) + new
  if after > before and after > most_size then return {'size', tostring(before)} end
  return nil, after
end

local function put(key, value)
  local refused, after = refusal(size_of(key), #key + #value)
  if refused then return refused end
  redis.call('HSET', hash, key, value)
  set_size(after)
end

local function remove(key)
  local old = size_of(key)
  if not old then return end
  redis.call('HDEL', hash, key)
  set_size(size() - old)
end

if operation == 'set' then
  for i = 4, #ARGV, 2 do
    local refused = put(ARGV[i], ARGV[i + 1])
    if refused then return refused end
  end
  return {'done'}
elseif operation == 'delete' then
  for i = 4, #ARGV do remove(ARGV[i]) end
  return {'done'}
elseif operation == 'get' then
  local values, answer = {'values'}, 0
  for i = 5, #ARGV do
    answer = answer + #ARGV[i] + redis.call('HSTRLEN', hash, ARGV[i])
    if answer > tonumber(ARGV[4]) then return {'large'} end
    values[i - 3] = redis.call('HGET', hash, ARGV[i])
  end
  return values
elseif operation == 'list' then
  local page = redis.call('HSCAN', hash, ARGV[4], 'COUNT', ARGV[5])
  local answer = {'keys-after', page[1]}
  for i = 1, #page[2], 2 do answer[#answer + 1] = page[2][i] end
  return answer
elseif operation == 'increment' then
  local key, old, before = ARGV[4], redis.call('HGET', hash, ARGV[4]), size_of(ARGV[4])
  local sum = redis.pcall('HINCRBY', hash, key, ARGV[5])
  if type(sum) == 'table' and sum.err then
    if string.find(sum.err, 'overflow') then return {'overflow'} end
    return {'no-number'}
  end
  -- As text: a number of 64 bits is more than Lua's have.
  local new = redis.call('HGET', hash, key)
  if not old then redis.call('HDEL', hash, key) end
  local refused, after = refusal(before, #key + #new)
  if refused then
    if old then redis.call('HSET', hash, key, old) end
    return refused
  end
  redis.call('HSET', hash, key, new)
  set_size(after)
  return {'number', new}
elseif operation == 'swap' then
  local current, expected = redis.call('HGET', hash, ARGV[4]), ARGV[6]
  -- What is expected comes last, and not at all where nothing is.
  if (current or nil) ~= expected then return {'changed', current} end
  return put(ARGV[4], ARGV[5]) or {'done'}
end
return {'unknown'}
