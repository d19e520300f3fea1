import {
  AttemptUpdate,
  ClusterReport,
  ClusterReportAnswer,
  DatasetVersionUpdate,
  EvaluationUpdate,
  InternalRun,
  Model,
  ModelRegistration,
  Name,
  RunReportBatch,
  RunState,
  RunTransition,
} from "@drydock/spec";
import { InvalidError } from "@drydock/kit";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { startPipelinesOf } from "../pipelines/triggers.ts";
import { problems } from "../problem-responses.ts";
import { registerModel } from "../registry/register-model.ts";
import { isWaiting } from "../scheduling/open-work.ts";
import type { Services } from "../services.ts";
import { DatasetStore } from "../store/dataset-store.ts";
import { RunParams } from "./runs.ts";

const Nothing = z.object({});

/** `/internal/v1`: what the controller tells the api. Every call may be repeated. Not part of the public document. */
export const internalRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { runs, reports, evaluations, feed, logger } = services;

  app.get(
    "/runs/:runId",
    { schema: { hide: true, params: RunParams, response: { 200: InternalRun, ...problems(404) } } },
    async (request) => await runs.getInternal(request.params.runId),
  );

  app.post(
    "/runs/:runId/transitions",
    {
      schema: {
        hide: true,
        params: RunParams,
        body: RunTransition,
        response: { 200: z.object({ applied: z.boolean(), state: RunState }), ...problems(404) },
      },
    },
    async (request) => {
      const { runId } = request.params;
      const { applied, from, state } = await runs.transition(runId, request.body);
      if (applied) feed.notify(runId);
      else logger.info({ runId, from, to: request.body.to, key: request.body.key }, "transition not applied");
      return { applied, state };
    },
  );

  app.put(
    "/runs/:runId/attempts/:epoch",
    {
      schema: {
        hide: true,
        params: RunParams.extend({ epoch: z.coerce.number().int().positive() }),
        body: AttemptUpdate,
        response: { 200: Nothing, ...problems(404) },
      },
    },
    async (request) => {
      const { runId, epoch } = request.params;
      if (request.body.epoch !== epoch)
        throw new InvalidError(
          "epoch_mismatch",
          `the body is about attempt ${request.body.epoch}, the URL about ${epoch}`,
        );
      await runs.putAttempt(runId, request.body);
      feed.notify(runId);
      return {};
    },
  );

  app.post(
    "/runs/:runId/reports",
    { schema: { hide: true, params: RunParams, body: RunReportBatch, response: { 200: Nothing, ...problems(404) } } },
    async (request) => {
      await reports.append(request.params.runId, request.body);
      feed.notify(request.params.runId);
      return {};
    },
  );

  app.put(
    "/cluster",
    {
      schema: { hide: true, body: ClusterReport, response: { 200: ClusterReportAnswer, ...problems() } },
    },
    async (request) => {
      await services.cluster.putReport(request.body, new Date());
      const rows = await services.cluster.openRuns();
      return { waiting: rows.filter(isWaiting).map(({ id: runId, queue, priority }) => ({ runId, queue, priority })) };
    },
  );

  app.post(
    "/models",
    { schema: { hide: true, body: ModelRegistration, response: { 200: Model, ...problems() } } },
    async (request) => {
      const model = await registerModel(services.database, services.signer, request.body);
      feed.notify(model.lineage.runId);
      return model;
    },
  );

  app.put(
    "/evaluations/:id",
    {
      schema: {
        hide: true,
        params: z.object({ id: z.string().max(128) }),
        body: EvaluationUpdate,
        response: { 200: Nothing, ...problems() },
      },
    },
    async (request) => {
      await evaluations.put(request.params.id, request.body);
      if (request.body.runId !== null) feed.notify(request.body.runId);
      return {};
    },
  );

  app.put(
    "/datasets/:name/versions/:version",
    {
      schema: {
        hide: true,
        params: z.object({ name: Name, version: z.coerce.number().int().positive() }),
        body: DatasetVersionUpdate,
        response: { 200: Nothing, ...problems(404) },
      },
    },
    async (request) => {
      const { name, version } = request.params;
      await services.database.transaction(async (tx) => {
        await new DatasetStore(tx).updateVersion(name, version, request.body);
        if (request.body.state === "ready") await startPipelinesOf(tx, name, version);
      });
      services.outbox.kick();
      return {};
    },
  );
};
