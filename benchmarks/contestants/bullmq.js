// BullMQ's side of bullmq.py. `bullmq.js worker`: one worker process. `bullmq.js`: the calls, as producer.py says.
"use strict";

const readline = require("node:readline");
const { Queue, QueueEvents, Worker } = require("bullmq");

const QUEUE = "bench";
const CONCURRENCY = 100;
const TRIP_MS = 60000;

const at = new URL(process.env.BENCH_URL);
const connection = { host: at.hostname, port: Number(at.port), maxRetriesPerRequest: null };

function work() {
  new Worker(QUEUE, async () => null, { connection, concurrency: CONCURRENCY });
}

async function produce() {
  const keep = (process.env.BENCH_RESULTS || "on") === "on";
  const queue = new Queue(process.env.BENCH_QUEUE || QUEUE, {
    connection,
    defaultJobOptions: { removeOnComplete: !keep },
  });
  let events;
  const words = {
    async send(n) {
      const ids = [];
      for (let i = 0; i < n; i++) ids.push((await queue.add("noop", {})).id);
      return { ids };
    },
    async bulk(n) {
      const jobs = await queue.addBulk(Array.from({ length: n }, () => ({ name: "noop", data: {} })));
      return { ids: jobs.map((job) => job.id) };
    },
    async listen() {
      events = new QueueEvents(QUEUE, { connection });
      await events.waitUntilReady();
      return {};
    },
    async trip() {
      const job = await queue.add("noop", {});
      await job.waitUntilFinished(events, TRIP_MS);
      return {};
    },
    async versions() {
      const of = (name) => require(`${name}/package.json`).version;
      return { bullmq: of("bullmq"), ioredis: of("ioredis"), node: process.versions.node };
    },
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, n] = line.split(" ");
    const cpu = process.cpuUsage();
    const begin = process.hrtime.bigint();
    let answer;
    try {
      answer = await words[word](Number(n));
    } catch (error) {
      answer = { error: String(error) };
    }
    const wall_s = Number(process.hrtime.bigint() - begin) / 1e9;
    const burnt = process.cpuUsage(cpu);
    const cpu_s = (burnt.user + burnt.system) / 1e6;
    process.stdout.write(JSON.stringify({ ...answer, wall_s, cpu_s }) + "\n");
  }
  process.exit(0);
}

if (process.argv[2] === "worker") work();
else produce();
