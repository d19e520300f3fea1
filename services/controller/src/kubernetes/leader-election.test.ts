import { Readable } from "node:stream";
import type { IncomingMessage } from "node:http";
import { expect, test, vi } from "vitest";
import { createLogger } from "@drydock/kit";
import { KubeApi } from "./kube-api.ts";
import type { KubeConnection } from "./kube-connection.ts";
import { LeaderElection } from "./leader-election.ts";

const durationMs = 200;

/** An API server that knows one Lease, held by a controller whose clock is a day off. */
class OneLease implements KubeConnection {
  readonly server = "https://cluster";
  reads = 0;
  #version = 1;
  holder = "other";
  readonly #renewTime: string;

  constructor(skewMs: number) {
    this.#renewTime = new Date(Date.now() + skewMs).toISOString();
  }

  /** The holder's sign of life, dated by its own clock. */
  renew(): void {
    this.#version += 1;
  }

  async send({ method, body }: Parameters<KubeConnection["send"]>[0]): Promise<IncomingMessage> {
    if (method === "GET") this.reads += 1;
    if (method === "PUT") {
      this.holder = (body as { spec: { holderIdentity: string } }).spec.holderIdentity;
      this.renew();
    }
    const lease = {
      metadata: { name: "leader", namespace: "system", resourceVersion: String(this.#version) },
      spec: { holderIdentity: this.holder, renewTime: this.#renewTime, leaseDurationSeconds: 1 },
    };
    return Object.assign(Readable.from([JSON.stringify(lease)]), { statusCode: 200, headers: {} }) as IncomingMessage;
  }
}

function candidate(connection: KubeConnection): LeaderElection {
  return new LeaderElection({
    api: new KubeApi(connection),
    namespace: "system",
    name: "leader",
    identity: "we",
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
    durationMs,
    onLost: () => undefined,
  });
}

const dayMs = 86_400_000;

test.each([
  ["ahead", dayMs],
  ["behind", -dayMs],
])("a leader that is gone is replaced in time, though its clock was a day %s", async (_how, skewMs) => {
  const lease = new OneLease(skewMs);
  const election = candidate(lease);
  await election.lead(AbortSignal.timeout(20 * durationMs));
  expect([election.isLeading, lease.holder]).toEqual([true, "we"]);
  await election.release();
});

test("a leader that lives keeps the lead, though its clock is a day behind", async () => {
  const lease = new OneLease(-dayMs);
  const renewing = setInterval(() => lease.renew(), durationMs / 8);
  const giveUp = new AbortController();
  const leads = candidate(lease).lead(giveUp.signal);
  await vi.waitUntil(() => lease.reads > 15, { timeout: 10_000 });
  expect(lease.holder).toBe("other");
  giveUp.abort(new Error("seen enough"));
  await expect(leads).rejects.toThrow("seen enough");
  clearInterval(renewing);
});
