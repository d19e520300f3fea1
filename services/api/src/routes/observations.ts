import { InvalidError } from "@drydock/kit";
import { LiveMetrics, Name, ObservationBatch, ObservationReceipt, VersionOrAlias } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { ObservationStore } from "../store/observation-store.ts";
import { writeOnce } from "../writes.ts";

/** Clocks of reporters may be off by so much. */
const skewMs = 300_000;
const Params = z.object({ name: Name });
const SummaryQuery = z.strictObject({
  version: VersionOrAlias.default("production"),
  windowSeconds: z.coerce.number().int().min(1).max(31_536_000).default(86_400),
});

/** `/v1/models/{name}/observations`: what a model in use answers. */
export const observationRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, writes, observations, statistics } = services;

  app.post(
    "/models/:name/observations",
    {
      schema: {
        operationId: "reportObservations",
        summary: "Report answers of a model in use, with or without what would have been right",
        description:
          "An answer whose key is known already counts once. By default they are those of the version in production.",
        tags: ["models"],
        params: Params,
        body: ObservationBatch,
        response: { 200: ObservationReceipt, ...problems(404, 413, 415, 422) },
      },
    },
    async (request, reply) =>
      await writeOnce(writes, request, reply, {
        prepare: async () => {
          const { observations: batch, version } = request.body;
          const late = batch.findIndex(({ time }) => Date.parse(time) > Date.now() + skewMs);
          if (late >= 0) refuseFuture(late, batch[late]?.time ?? "");
          return await models.get(request.params.name, version);
        },
        write: async (tx, model) => {
          const batch = request.body.observations;
          const received = await new ObservationStore(tx).insert(model, batch);
          const answer = { model: model.name, version: model.version, received, repeated: batch.length - received };
          return { answer, object: received === 0 ? null : `${model.name}@${model.version}` };
        },
      }),
  );

  app.get(
    "/models/:name/observations/summary",
    {
      schema: {
        operationId: "getLiveMetrics",
        summary: "Scores of what a model in use answered lately, with intervals and slices",
        tags: ["models"],
        params: Params,
        querystring: SummaryQuery,
        response: { 200: LiveMetrics, ...problems(404) },
      },
    },
    async (request) => {
      const { version, windowSeconds } = request.query;
      const model = await models.get(request.params.name, version);
      const since = new Date(Date.now() - windowSeconds * 1000);
      const { name, version: number, task } = model;
      const observed = await observations.since(model, since);
      return await statistics.live({ model: { name, version: number, task }, since, observed });
    },
  );
};

function refuseFuture(index: number, time: string): never {
  const message = `observation ${index} is of ${time}, which is still to come: check the clock of the reporter`;
  throw new InvalidError("observation_in_future", message, {
    details: [{ path: `observations.${index}.time`, code: "observation_in_future", message }],
  });
}
