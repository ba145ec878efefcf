# Sidekiq's side of sidekiq.py. Loaded by sidekiq: the job. Run by ruby: the calls, as producer.py says.
require "json"
require "sidekiq"

KEEP = ENV.fetch("BENCH_RESULTS", "on") == "on"
WHERE = ENV.fetch("BENCH_QUEUE", "bench")
KEEP_S = 3600

# Debian's redis gem warns at each call that Sidekiq 6.4 makes, which would be a part of what is measured.
Redis.silence_deprecations = true
Redis.sadd_returns_boolean = false

Sidekiq.configure_server do |config|
  config.redis = { url: ENV["BENCH_URL"] }
  config.logger.level = Logger::WARN
end
Sidekiq.configure_client { |config| config.redis = { url: ENV["BENCH_URL"] } }

class Noop
  include Sidekiq::Job
  sidekiq_options queue: WHERE

  # Sidekiq keeps no results: where one is waited for, the job writes a key.
  def perform
    Sidekiq.redis { |redis| redis.set("done:#{jid}", "1", ex: KEEP_S) } if KEEP
  end
end

WORDS = {
  "send" => ->(n) { { ids: Array.new(n) { Noop.perform_async } } },
  "bulk" => ->(n) { { ids: Sidekiq::Client.push_bulk("class" => Noop, "args" => Array.new(n) { [] }) } },
  "versions" => ->(_) { { sidekiq: Sidekiq::VERSION, "redis-rb": Redis::VERSION, ruby: RUBY_VERSION } },
}.freeze

def clock(which)
  Process.clock_gettime(which)
end

def produce
  $stdout.sync = true
  while (line = $stdin.gets)
    word, n = line.split
    cpu, wall = clock(Process::CLOCK_PROCESS_CPUTIME_ID), clock(Process::CLOCK_MONOTONIC)
    begin
      answer = WORDS.fetch(word).call(n.to_i)
    rescue StandardError => e
      answer = { error: "#{e.class}: #{e.message}" }
    end
    wall_s = clock(Process::CLOCK_MONOTONIC) - wall
    cpu_s = clock(Process::CLOCK_PROCESS_CPUTIME_ID) - cpu
    puts JSON.generate(answer.merge(wall_s: wall_s, cpu_s: cpu_s))
  end
end

produce if $PROGRAM_NAME == __FILE__
