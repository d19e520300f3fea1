import { messageOf } from "@drydock/kit";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Services } from "../services.ts";

const Dependency = z
  .object({ name: z.string(), isReady: z.boolean(), message: z.string().nullable() })
  .meta({ id: "Dependency" });
const Readiness = z.object({ isReady: z.boolean(), dependencies: z.array(Dependency) }).meta({ id: "Readiness" });

const checkTimeoutMs = 3_000;

/** `/healthz`: the process lives. `/readyz`: what it depends on answers, each by name. */
export const healthRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.get(
    "/healthz",
    {
      schema: {
        operationId: "getHealth",
        summary: "The process is up",
        tags: ["health"],
        security: [],
        response: { 200: z.object({ status: z.literal("ok") }) },
      },
    },
    async () => ({ status: "ok" as const }),
  );

  app.get(
    "/readyz",
    {
      schema: {
        operationId: "getReadiness",
        summary: "Each dependency answers",
        description:
          "503 when the database or the object storage does not answer. Without Temporal, runs are still taken and start when it is back, so it is shown but does not count.",
        tags: ["health"],
        security: [],
        response: { 200: Readiness, 503: Readiness },
      },
    },
    async (_request, reply) => {
      const dependencies = await Promise.all([
        check("database", services.pingDatabase),
        check("storage", async () => void (await services.storage.head("readyz"))),
        check("temporal", async () => await services.workflows.ping()),
      ]);
      const isReady = dependencies.every(({ name, isReady: ready }) => ready || name === "temporal");
      return await reply.code(isReady ? 200 : 503).send({ isReady, dependencies });
    },
  );
};

async function check(name: string, ping: () => Promise<void>): Promise<z.output<typeof Dependency>> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer in ${checkTimeoutMs / 1000} s`)), checkTimeoutMs);
  try {
    await Promise.race([ping(), late]);
    return { name, isReady: true, message: null };
  } catch (error) {
    return { name, isReady: false, message: messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
}
