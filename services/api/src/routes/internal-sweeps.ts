import { RunParent, SweepAction, SweepBest, SweepFacts, SweepSpec, SweepState } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { carryOut } from "../sweeps/carry-out.ts";
import { prepareSweep, submitSweep } from "../sweeps/submit-sweep.ts";
import { factsOf, lossStepsOf, toSweep } from "../sweeps/sweep-views.ts";
import { SweepParams } from "./sweeps.ts";

/** `/internal/v1/sweeps`: what workflows read of sweeps and do with them. Every call may be repeated. */
export const internalSweepRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { sweeps, outbox, database } = services;

  app.get(
    "/sweeps/:sweepId/facts",
    { schema: { hide: true, params: SweepParams, response: { 200: SweepFacts, ...problems(404) } } },
    async (request) => {
      const row = await sweeps.get(request.params.sweepId);
      return factsOf(row, await sweeps.trials(row.id, lossStepsOf(row.spec)));
    },
  );

  app.post(
    "/sweeps/:sweepId/actions",
    {
      schema: {
        hide: true,
        params: SweepParams,
        body: SweepAction,
        response: { 200: z.object({}), ...problems(404, 409, 422) },
      },
    },
    async (request) => {
      await carryOut(services, request.params.sweepId, request.body);
      outbox.kick();
      return {};
    },
  );

  app.post(
    "/sweeps",
    {
      schema: {
        hide: true,
        body: z.strictObject({ spec: SweepSpec, parent: RunParent }),
        response: { 200: z.object({ id: z.string() }), ...problems(404, 409, 422) },
      },
    },
    async (request) => {
      const { spec, parent } = request.body;
      const known = await sweeps.findByParent(parent);
      if (known) return { id: known.id };
      const prepared = await prepareSweep(services, spec);
      const { id } = await database.transaction(async (tx) => await submitSweep(tx, { spec: prepared, parent }));
      outbox.kick();
      return { id };
    },
  );

  app.get(
    "/sweeps/:sweepId",
    {
      schema: {
        hide: true,
        params: SweepParams,
        response: {
          200: z.object({ id: z.string(), state: SweepState, message: z.string(), best: SweepBest.nullable() }),
          ...problems(404),
        },
      },
    },
    async (request) => {
      const row = await sweeps.get(request.params.sweepId);
      const { id, state, message, best } = toSweep(row, await sweeps.trials(row.id, lossStepsOf(row.spec)));
      return { id, state, message, best };
    },
  );
};
