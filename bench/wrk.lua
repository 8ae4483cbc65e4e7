-- Sends the Authorization headers in a file, one per line, one after the other.
local requests, sent = {}, 0

function init(args)
	for line in io.lines(args[1]) do
		requests[#requests + 1] = wrk.format("GET", nil, { Authorization = line })
	end
end

function request()
	sent = sent + 1
	return requests[sent % #requests + 1]
end

-- The last line of the output: requests, requests/s, the 50th, 99th and 99.9th percentile of the latency in µs, errors.
function done(summary, latency)
	local e = summary.errors
	print(string.format("\n%d %f %f %f %f %d", summary.requests, summary.requests / summary.duration * 1e6,
		latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
		e.connect + e.read + e.write + e.status + e.timeout))
end
