import type { FastifyInstance } from "fastify";
import { requireApiKey } from "../authentication.ts";
import type { Services } from "../services.ts";

/** Upper bounds of the latency buckets, in seconds. */
const bucketBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

interface Histogram {
  readonly buckets: number[];
  count: number;
  seconds: number;
}

/** Counts requests by route and status, and answers `/metrics` in Prometheus' text format to keys that may read. */
export async function installMetrics(server: FastifyInstance, services: Services): Promise<void> {
  const requests = new Map<string, number>();
  const latencies = new Map<string, Histogram>();
  server.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "none";
    const labels = `method="${request.method}",route="${route}"`;
    const counter = `${labels},status="${reply.statusCode}"`;
    requests.set(counter, (requests.get(counter) ?? 0) + 1);
    if (String(reply.getHeader("content-type")).startsWith("text/event-stream")) return;
    const histogram = latencies.get(labels) ?? { buckets: bucketBounds.map(() => 0), count: 0, seconds: 0 };
    const seconds = reply.elapsedTime / 1000;
    for (const [index, bound] of bucketBounds.entries()) if (seconds <= bound) histogram.buckets[index]!++;
    histogram.count++;
    histogram.seconds += seconds;
    latencies.set(labels, histogram);
  });

  await server.register(async (scope) => {
    requireApiKey(scope, services.keys);
    scope.get("/metrics", { schema: { hide: true } }, async (_request, reply) => {
      const [states, waiting] = await Promise.all([services.runs.countByState(), services.outbox.depth()]);
      const lines = [
        ...family(
          "drydock_http_requests_total",
          "counter",
          "Requests answered.",
          [...requests].map(([labels, value]) => [`{${labels}}`, value]),
        ),
        "# HELP drydock_http_request_seconds Time to answer.",
        "# TYPE drydock_http_request_seconds histogram",
        ...[...latencies].flatMap(([labels, histogram]) => histogramLines(labels, histogram)),
        ...family(
          "drydock_runs",
          "gauge",
          "Runs by state.",
          states.map(({ state, runs }) => [`{state="${state}"}`, runs]),
        ),
        ...family("drydock_outbox_depth", "gauge", "Calls to Temporal still to be made.", [["", waiting]]),
        ...family("process_resident_memory_bytes", "gauge", "Resident memory.", [["", process.memoryUsage.rss()]]),
      ];
      return await reply.type("text/plain; version=0.0.4; charset=utf-8").send(`${lines.join("\n")}\n`);
    });
  });
}

function family(
  name: string,
  type: "counter" | "gauge",
  help: string,
  samples: readonly (readonly [string, number])[],
): string[] {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(([labels, value]) => `${name}${labels} ${value}`),
  ];
}

function histogramLines(labels: string, { buckets, count, seconds }: Histogram): string[] {
  const name = "drydock_http_request_seconds";
  return [
    ...buckets.map((value, index) => `${name}_bucket{${labels},le="${bucketBounds[index]}"} ${value}`),
    `${name}_bucket{${labels},le="+Inf"} ${count}`,
    `${name}_sum{${labels}} ${seconds}`,
    `${name}_count{${labels}} ${count}`,
  ];
}
